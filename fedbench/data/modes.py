"""Image files of any mode as upright RGB; what cannot be read right is refused, never guessed.

Pillow converts between modes without looking at what the numbers mean: 16 and 32 bits are cut off
at 255, and the transparent colour of a PNG is compared at another depth than the pixels have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, ImageOps

from fedbench.errors import DataError

#: Modes that hold 8 bits a channel, or fewer, and that Pillow converts to RGB by the book.
_PLAIN = frozenset(
    {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"}
)
_SIXTEEN_BIT = 257  # 65535 / 255
#: Files whose mode I means 16 bits: Pillow scales PNG and PNM so.
_SCALED = frozenset({"PNG", "PPM"})


@contextmanager
def decoding() -> Iterator[None]:
    """Make one clear error of whatever a decoder raises over a damaged or foreign file.

    Raises:
        DataError: In place of any exception but a file that is not there; it says what is wrong
            and not with which file.
    """
    try:
        yield
    except (DataError, FileNotFoundError):
        raise
    except Exception as error:  # Pillow's plugins raise struct.error, TypeError, KeyError ...
        said = str(error) or "no reason given"
        raise DataError(f"cannot be read as an image: {type(error).__name__}: {said}") from error


def read_rgb(file: Path | IO[bytes]) -> Image.Image:
    """Return an image as RGB, upright as its EXIF says, transparent parts over white.

    Raises:
        DataError: It is damaged, no image, or of a mode without one meaning; the message names no
            file, which the caller knows better.
        FileNotFoundError: There is no such file.
    """
    with decoding(), Image.open(file) as image:
        clear = _clear(image)
        image.load()
        if clear is not None:
            image.info["transparency"] = clear
        return _rgb(ImageOps.exif_transpose(image), image.format)


def _clear(image: ImageFile.ImageFile) -> int | None:
    """Return a grey PNG's transparent level at the depth that its pixels will have, or None.

    Grey levels of 2 and 4 bits are spread to 8 when they are decoded; the level is not.
    """
    level = image.info.get("transparency")
    if image.format != "PNG" or image.mode != "L" or not isinstance(level, int):
        return None
    depth = re.fullmatch(r"L;([24])", str(image.tile[0][3])) if image.tile else None
    return level * (255 // (2 ** int(depth[1]) - 1)) if depth else None


def _rgb(image: Image.Image, made_as: str | None) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and made_as in _SCALED):
        image = _from_16_bits(image)
    elif image.mode == "I":
        raise DataError(
            "its pixels are 32-bit integers, of which nobody knows which is white; save it with 8 "
            "or 16 bits"
        )
    elif image.mode == "F":
        raise DataError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    elif image.mode not in _PLAIN:
        raise DataError(f"its mode {image.mode!r} is not known; save it as RGB, RGBA or grey")
    if not image.has_transparency_data:
        return image.convert("RGB")
    _check_colour(image)
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Return 16-bit grey as 8 bits; a level that is transparent becomes an alpha channel."""
    values = np.asarray(image).astype(np.int64)
    grey = Image.fromarray(np.clip(values // _SIXTEEN_BIT, 0, 255).astype(np.uint8))
    level = image.info.get("transparency")
    if level is None:
        return grey
    alpha = Image.fromarray(np.where(values == level, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


def _check_colour(image: Image.Image) -> None:
    """Refuse a transparent colour of 16 bits a channel, which pixels cut to 8 bits never equal."""
    level = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(level, tuple) and max(level) > 255:
        raise DataError(
            f"its transparent colour {level} has 16 bits a channel, which the decoded pixels have "
            "not; save it with 8 bits or with an alpha channel"
        )
