"""Readers: each turns one layout's files into uint8 images, and names the file that it cannot read.

A reader is a function with the signature of ``Reader``. It may ignore ``size``; the images are
then resized after it. It raises ``sources.fault(path, what)`` for a damaged or foreign file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedbench.data.dataset import Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedbench.data.sources import Sources

#: Told in words what a long operation does.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Decoded:
    """A whole data set in memory.

    Attributes:
        train: All training images.
        test: All test images.
        classes: The classes' names; labels index them.
        notes: What a user should know, such as images fewer than published; one line each.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


#: ``(sources, size, progress) -> Decoded``; size is height and width in pixels, or None.
Reader = Callable[["Sources", int | None, Progress], Decoded]


def split_of(images: NDArray[np.uint8], labels: NDArray[np.integer]) -> Split:
    """Return (N, C, H, W) uint8 images and (N,) labels as a split."""
    return Split(
        torch.from_numpy(np.require(images, requirements=["C", "W"])),
        torch.from_numpy(labels.astype(np.int64)),
    )


def check_split(
    sources: Sources, path: Path, images: NDArray[np.uint8], labels: NDArray[np.integer]
) -> None:
    """Check images and labels that one file gave.

    Args:
        sources: Where the file comes from; its spec gives shape and classes.
        path: The file to name.
        images: Should be (N, C, H, W) uint8 with the spec's C, H and W.
        labels: Should be (N,) in [0, classes).

    Raises:
        DataError: Another shape, type, number or range.
    """
    spec = sources.spec
    shape = (spec.channels, spec.size, spec.size)
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise sources.fault(
            path,
            f"holds {images.dtype} images of shape {images.shape[1:]}, not uint8 of {shape}",
        )
    if labels.shape != (len(images),) or len(images) == 0:
        raise sources.fault(path, f"holds {len(images)} images and {labels.size} labels")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(spec.classes):
        raise sources.fault(
            path, f"has labels from {low} to {high}, outside [0, {len(spec.classes) - 1}]"
        )


class Counter:
    """Counts decoded images and reports now and then.

    Args:
        name: The data set's name.
        total: How many images there are.
        progress: Is told.
        every: Images between two reports.
    """

    def __init__(self, name: str, total: int, progress: Progress, every: int = 5000) -> None:
        self._name, self._total, self._progress, self._every = name, total, progress, every
        self._done = 0

    def add(self, count: int) -> None:
        """Count images, and report when a multiple of ``every`` is passed."""
        before, self._done = self._done, self._done + count
        if before // self._every != self._done // self._every or self._done == self._total:
            self._progress(f"{self._name}: {self._done:,} of {self._total:,} images decoded")
