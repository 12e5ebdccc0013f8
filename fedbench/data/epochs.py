"""The protocol of everything that a fit iterates: numbered epochs, each drawn from a seed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Generic, Self, TypeVar

import torch

from fedbench.seeding import generator

B = TypeVar("B", covariant=True)


class Epochs(ABC, Generic[B]):
    """Batches, epoch by epoch.

    Iterating again gives the next epoch; ``set_epoch`` says which one comes next. What an epoch
    gives depends on the seed and its number, not on what was iterated before, so a resumed training
    sees what an undisturbed one sees. Lightning sets the epoch by itself, as it does for a
    ``DataLoader`` with a sampler. The pool of Trainers seeds a module's own noise from ``seed``.

    Args:
        seed: Of all draws, derived from the cell, the worker and a name.
        first_epoch: Epoch 0 of this object is this one of the seed's.
    """

    #: Tells the draws of one kind of epochs from those of another kind under the same seed.
    _purpose: ClassVar[str] = "epoch"

    def __init__(self, seed: int, first_epoch: int = 0) -> None:
        self.seed, self._first, self._next = seed, first_epoch, 0

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of batches in an epoch."""

    @abstractmethod
    def batches(self, epoch: int, source: torch.Generator) -> Iterator[B]:
        """Yield the batches of one epoch.

        Args:
            epoch: From 0, counted from the first one of this object.
            source: A CPU generator of this epoch's.
        """

    @property
    def sampler(self) -> Self:
        """This object: where Lightning looks for ``set_epoch``."""
        return self

    @property
    def next_epoch(self) -> int:
        """The epoch that iterating gives next, from 0."""
        return self._next

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, from 0."""
        self._next = epoch

    def __iter__(self) -> Iterator[B]:
        """Yield the batches of the next epoch."""
        epoch, self._next = self._next, self._next + 1
        yield from self.batches(epoch, generator(self.seed, self._purpose, self._first + epoch))
