"""What every reader returns: two splits of uint8 images with labels, and how to normalise them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedbench.data.normalisation import Normalisation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fedbench.data.layouts import Kind
    from fedbench.data.settings import Scaling


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64 in [0, classes).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> Split:
        """Return the samples at these positions ((M,) int64), copied."""
        return Split(self.images[indices], self.labels[indices])

    def to(self, device: torch.device | str) -> Split:
        """Return the split on a device; the same tensors where they are there already."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class ImageData:
    """A data set in memory, as a cell's settings ask for it.

    Attributes:
        name: The data set's name.
        train: What is spread over the clients.
        test: Never seen by a client, a server or a method.
        classes: The classes' names; labels index them.
        constants: Mean and deviation of its pixels.
        augment: What the recipe's ``standard`` means for these images.
        fingerprint: SHA-256 over the pixels and labels of both splits.
        notes: What a user should know, such as files that are not read; one line each.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    constants: Normalisation
    augment: Kind
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Number of channels, 1 or 3."""
        return int(self.train.images.shape[1])

    @property
    def size(self) -> int:
        """Height, which equals the width, in pixels."""
        return int(self.train.images.shape[2])

    def normalisation(self, scaling: Scaling) -> Normalisation:
        """Return how a cell that scales pixels so normalises these."""
        if scaling == "dataset":
            return self.constants
        mean, std = (0.5, 0.5) if scaling == "half" else (0.0, 1.0)
        return Normalisation((mean,) * self.channels, (std,) * self.channels)
