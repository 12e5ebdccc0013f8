"""MNIST's idx files, as torchvision stores them: plain or gzipped.

Source: http://yann.lecun.com/exdb/mnist/ (section "file format").
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedbench.data.apart import at
from fedbench.data.readers import Decoded, Progress, check_split, split_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedbench.data.dataset import Split
    from fedbench.data.sources import Sources

_UINT8 = 0x08  # the format's code for unsigned bytes


def read(sources: Sources, size: int | None, progress: Progress) -> Decoded:
    """Read four idx files.

    Args:
        sources: The files.
        size: Ignored: images come at their own size.
        progress: Is told which part is read.

    Raises:
        DataError: A file is truncated, of another kind, or does not fit its partner.
    """

    def split(name: str) -> Split:
        progress(f"{sources.name}: reading the {name} files")
        images_path, labels_path = (
            sources.part(f"{name} {what}")[0] for what in ("images", "labels")
        )
        images = _array(sources, images_path, dimensions=3)[:, None]
        labels = _array(sources, labels_path, dimensions=1)
        check_split(sources, labels_path, images, labels)
        return split_of(images, labels)

    return Decoded(split("train"), split("test"), sources.spec.classes)


def _array(sources: Sources, path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return an idx file of bytes as an array."""
    at(path)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise sources.fault(path, f"cannot be read: {error}") from error
    head = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, _UINT8, dimensions)) or len(content) < head:
        raise sources.fault(path, f"is not an idx file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:head])
    expected = head + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise sources.fault(
            path, f"has {len(content):,} bytes where its head {shape} asks for {expected:,}"
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
