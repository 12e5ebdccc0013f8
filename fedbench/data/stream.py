"""Batches of images that stay where they are computed with, as bytes or as floats.

Unlike a ``DataLoader`` with a transform for each image, this takes, augments and normalises a whole
batch on its device, in the process that trains: for small images that is faster than any number of
workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from fedbench.data import augment as augmentation
from fedbench.data import dsa
from fedbench.data.epochs import Epochs
from fedbench.data.layouts import Kind
from fedbench.data.normalisation import Normalisation
from fedbench.errors import TrainingError


class Rows(Protocol):
    """Images and what belongs to each of them, wherever they are kept."""

    def __len__(self) -> int:
        """Return how many images there are now."""
        ...

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        ...

    @property
    def device(self) -> torch.device:
        """Where ``take`` puts what it returns."""
        ...

    def take(self, places: Tensor) -> tuple[Tensor, ...]:
        """Return the images at (n,) int64 places on the device, and their part of each column."""
        ...


class Columns:
    """Images and columns in memory.

    Args:
        images: (N, C, S, S): uint8, or floats in normalised space; N at least 1.
        *columns: (N, ...) each, on the same device: class ids, soft targets (N, classes),
            positions, origins.

    Raises:
        TrainingError: There are no images, or not one row for each.
    """

    def __init__(self, images: Tensor, *columns: Tensor) -> None:
        for column in columns:
            if len(images) != len(column):
                raise TrainingError(
                    f"{len(images)} images and {len(column)} labels; there must be "
                    "one label for each image"
                )
        if len(images) == 0:
            raise TrainingError(
                "there is no image to train on; give the client at least one (partition.min_size)"
            )
        self.images, self.columns = images, columns

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return int(self.images.shape[-1])

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    def take(self, places: Tensor) -> tuple[Tensor, ...]:
        """Return the rows at (n,) int64 places, copied."""
        # `index_select` copies whole images; `images[places]` is 10 times slower on a CPU.
        return tuple(part.index_select(0, places) for part in (self.images, *self.columns))


class Stream(Epochs[tuple[Tensor, ...]]):
    """Augmented, normalised batches of images with their columns.

    Rows that grow are seen from the next epoch on.

    Args:
        rows: Images and columns.
        batch_size: Images in a batch. A last batch of one image joins the batch before it, because
            BatchNorm cannot train on one.
        seed: Root of the orders and the augmentations.
        normalisation: Of the images; it also says what black is, with which crops are filled.
        augment: ``none``, ``flip``, ``crop`` or ``flip_crop``; left out where there are ``ops``.
        ops: Differentiable augmentation instead: one operation a batch, each image with parameters
            of its own.
        shuffle: Draw a new order for each epoch.
        first_epoch: Epoch 0 of this stream is this one of the seed's.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        batch_size: int,
        seed: int,
        normalisation: Normalisation,
        augment: Kind = "none",
        ops: Sequence[dsa.Op] = (),
        shuffle: bool = True,
        first_epoch: int = 0,
    ) -> None:
        super().__init__(seed, first_epoch)
        self.rows, self.normalisation = rows, normalisation
        self._batch_size, self._shuffle = batch_size, shuffle
        self._ops = tuple(ops)
        self._augment: Kind = "none" if self._ops else augment

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(_bounds(len(self.rows), self._batch_size))

    def batches(self, epoch: int, source: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield (B, C, S, S) float32 and each column's part, on the rows' device."""
        rows = self.rows
        count, size, device = len(rows), rows.size, rows.device
        order = torch.randperm(count, generator=source) if self._shuffle else torch.arange(count)
        order = order.to(device, non_blocking=True)
        moves = augmentation.draw(count, self._augment, size, source)
        moves = None if moves is None else moves.to(device, non_blocking=True)
        for start, stop in _bounds(count, self._batch_size):
            images, *columns = rows.take(order[start:stop])
            images = self._moved(images, None if moves is None else moves[start:stop])
            images = dsa.apply(images, dsa.draw(self._ops, size, source, stop - start))
            yield images, *columns

    def _moved(self, images: Tensor, moves: Tensor | None) -> Tensor:
        """Return normalised images, moved where that is drawn."""
        if images.dtype == torch.uint8 or moves is None:
            return self.normalisation(augmentation.apply(images, moves))
        black = self.normalisation.black(images.device)  # moving fills with 0
        return augmentation.apply(images - black, moves) + black


def _bounds(count: int, size: int) -> list[tuple[int, int]]:
    starts = list(range(0, count, size))
    if len(starts) > 1 and size > 1 and count % size == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))
