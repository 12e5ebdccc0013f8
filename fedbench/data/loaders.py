"""Batches from images that stay as uint8 where they are computed with.

Unlike a ``DataLoader`` with a transform for each image, these index, augment and normalise a
whole batch on its device, in the process that trains: for small images that is faster than any
number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fedbench.data import augment as augmentation
from fedbench.data.augment import Kind
from fedbench.errors import TrainingError
from fedbench.seeding import generator


class BatchLoader:
    """Shuffled, augmented, normalised batches of one client's images.

    Iterating again gives the next epoch; ``set_epoch`` says which one comes next. An epoch's
    batches depend on the seed and its number only, not on what was iterated before, so a resumed
    training sees what an undisturbed one sees. Lightning sets the epoch by itself, as it does for
    a ``DataLoader`` with a sampler.

    Args:
        images: (N, C, S, S) uint8; N at least 1.
        labels: (N,) int64 on the same device.
        batch_size: Images in a batch. A last batch of one image joins the batch before it,
            because BatchNorm cannot train on one.
        seed: Root of the orders and the augmentations.
        mean: Subtracted from pixels in [0, 1], one value a channel.
        std: Divides them afterwards, one value a channel.
        augment: ``none``, ``crop`` or ``flip_crop``.
        shuffle: Draw a new order for each epoch.
        first_epoch: Epoch 0 of this loader is this one of the seed's.

    Raises:
        TrainingError: There are no images, or not one label for each.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        seed: int,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Kind,
        shuffle: bool = True,
        first_epoch: int = 0,
    ) -> None:
        if len(images) != len(labels):
            raise TrainingError(
                f"{len(images)} images and {len(labels)} labels; there must be "
                "one label for each image"
            )
        if len(images) == 0:
            raise TrainingError(
                "there is no image to train on; give the client at least one (partition.min_size)"
            )
        self.images, self.labels, self.seed = images, labels, seed
        self._augment, self._shuffle = augment, shuffle
        self._first_epoch, self._epoch = first_epoch, 0
        self._scale, self._bias = _normalisation(mean, std, images.device)
        self._bounds = _bounds(len(images), batch_size)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._bounds)

    @property
    def sampler(self) -> BatchLoader:
        """This object: where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, from 0."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (B, C, S, S) float32 and (B,) int64 on the images' device."""
        epoch, self._epoch = self._epoch, self._epoch + 1
        device, count = self.images.device, len(self.images)
        source = generator(self.seed, "epoch", self._first_epoch + epoch)
        order = torch.randperm(count, generator=source) if self._shuffle else torch.arange(count)
        order = order.to(device)
        draws = augmentation.draw(count, self._augment, self.images.shape[-1], source)
        draws = None if draws is None else draws.to(device)
        for start, stop in self._bounds:
            chosen = order[start:stop]
            # `index_select` copies whole images; `images[chosen]` is 10 times slower on a CPU.
            pixels = augmentation.apply(
                self.images.index_select(0, chosen), None if draws is None else draws[start:stop]
            )
            yield _normalise(pixels, self._scale, self._bias), self.labels.index_select(0, chosen)


def batches(
    images: Tensor, batch_size: int, mean: Sequence[float], std: Sequence[float]
) -> Iterator[Tensor]:
    """Yield normalised images in their order, for evaluation.

    Args:
        images: (N, C, S, S) uint8.
        batch_size: Images in a batch; the last one may be smaller.
        mean: Subtracted from pixels in [0, 1], one value a channel.
        std: Divides them afterwards, one value a channel.

    Yields:
        (B, C, S, S) float32 on the images' device.
    """
    scale, bias = _normalisation(mean, std, images.device)
    for start in range(0, len(images), batch_size):
        yield _normalise(images[start : start + batch_size], scale, bias)


def _bounds(count: int, size: int) -> list[tuple[int, int]]:
    starts = list(range(0, count, size))
    if len(starts) > 1 and size > 1 and count % size == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def _normalisation(
    mean: Sequence[float], std: Sequence[float], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return scale and bias, (C, 1, 1) each, that take bytes to normalised values."""
    centre = torch.tensor(mean, dtype=torch.float64).view(-1, 1, 1)
    spread = torch.tensor(std, dtype=torch.float64).view(-1, 1, 1)
    return (1 / (255 * spread)).float().to(device), (-centre / spread).float().to(device)


def _normalise(pixels: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return pixels.float().mul_(scale).add_(bias)
