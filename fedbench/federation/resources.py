"""Public resources: what the server holds before the first message, named in the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Resource:
    """Something public that a method asks for by name.

    Attributes:
        name: Such as ``dataset:cifar100``: the training images of another data set.
        tensors: Its values; images are (N, C, H, W) uint8 in the cell's size and channels.
        pixels: What both sides must store beforehand, in pixels; 0 where it is no image.
    """

    name: str
    tensors: Mapping[str, Tensor]
    pixels: int
