"""Every mode that an image file can have is read right or refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fedbench.data.modes import read_rgb
from fedbench.errors import DataError

WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)


def png(depth, colour_type, row, clear=None):
    """Return a PNG of 2x1 pixels: Pillow cannot write these."""

    def chunk(name, content):
        tail = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + tail

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, depth, colour_type, 0, 0, 0))
    transparent = b"" if clear is None else chunk(b"tRNS", clear)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + head + transparent + pixels + chunk(b"IEND", b"")


def saved(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def first_two(content):
    image = read_rgb(io.BytesIO(content))
    assert image.mode == "RGB"
    return [image.getpixel((0, 0)), image.getpixel((1, 0))]


def pair(*values, mode=None, kind="PNG"):
    image = Image.new(mode or "L", (2, 1))
    image.putdata(values)
    return saved(image, kind)


GREY_16 = struct.pack(">HH", 200 * 257, 100 * 257)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (pair(0, 255, mode="1"), [(0, 0, 0), WHITE]),
        (pair(7, 200), [(7, 7, 7), (200, 200, 200)]),
        (pair((9, 0), (9, 255), mode="LA"), [WHITE, (9, 9, 9)]),
        (pair((1, 2, 3, 0), (1, 2, 3, 255), mode="RGBA"), [WHITE, (1, 2, 3)]),
        (pair((0, 255, 255, 0), (0, 0, 0, 255), mode="CMYK", kind="TIFF"), [RED, BLACK]),
        (png(16, 0, GREY_16), [(200,) * 3, (100,) * 3]),
        (png(16, 0, GREY_16, struct.pack(">H", 200 * 257)), [WHITE, (100,) * 3]),
        (png(4, 0, b"\x5f"), [(85,) * 3, WHITE]),
        (png(4, 0, b"\x50", b"\0\x05"), [WHITE, (0, 0, 0)]),
        (png(2, 0, b"\x40", b"\0\x01"), [WHITE, (0, 0, 0)]),
        (png(1, 0, b"\x40", b"\0\0"), [WHITE, WHITE]),
        (png(8, 2, bytes((1, 2, 3, 9, 9, 9)), struct.pack(">HHH", 1, 2, 3)), [WHITE, (9, 9, 9)]),
        (b"P5 2 1 65535\n" + GREY_16, [(200,) * 3, (100,) * 3]),
        (b"P5 2 1 1023\n" + struct.pack(">HH", 1023, 0), [WHITE, (0, 0, 0)]),
        (saved(Image.fromarray(np.array([[51_400, 0]], np.uint16)), "TIFF"), [(200,) * 3, BLACK]),
    ],
    ids=[
        "1", "L", "LA", "RGBA", "CMYK", "16 bits", "16 bits, clear", "4 bits", "4 bits, clear",
        "2 bits, clear", "1 bit, clear", "RGB, clear", "PGM 16", "PGM 10", "TIFF 16",
    ],
)  # fmt: skip
def test_modes_are_read_right(content, expected):
    assert first_two(content) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (saved(Image.fromarray(np.array([[200, 100]], np.int32)), "TIFF"), "32-bit integers"),
        (saved(Image.fromarray(np.array([[70_000, 0]], np.int32)), "TIFF"), "32-bit integers"),
        (saved(Image.fromarray(np.zeros((1, 2), np.float32)), "TIFF"), "floating-point"),
        (png(16, 2, bytes(12), struct.pack(">HHH", 51_400, 1000, 500)), "16 bits a channel"),
        (b"", "cannot be read as an image"),
        (pair(1, 2)[:45], "cannot be read as an image"),
    ],
    ids=["32 bits, dark", "32 bits, bright", "float", "RGB 16 bits, clear", "empty", "cut"],
)
def test_what_has_no_one_meaning_is_refused(content, words):
    with pytest.raises(DataError, match=words):
        read_rgb(io.BytesIO(content))


@pytest.mark.parametrize("fault", [struct.error("unpack"), TypeError("offset"), KeyError(3)])
def test_whatever_a_decoder_raises_is_said_in_words(fault, monkeypatch):
    def broken(_):
        raise fault

    monkeypatch.setattr("fedbench.data.modes.ImageOps.exif_transpose", broken)
    with pytest.raises(DataError, match=f"cannot be read as an image: {type(fault).__name__}"):
        read_rgb(io.BytesIO(pair(1, 2)))
