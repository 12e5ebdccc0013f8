"""Seeded, stratified choices of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fedbench import seeding
from fedbench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def stratified(labels: Tensor, size: int, seed: int, *names: seeding.Name) -> Tensor:
    """Choose samples so that every class keeps its share.

    Shares are rounded by largest remainder (ties to the lower class). Every class that is there
    keeps at least one sample when `size` has room for one of each. With equal seeds the choices of
    one class are nested: fewer samples are a part of more.

    Args:
        labels: (N,) int64.
        size: How many samples to choose, 0 to N.
        seed: Root seed.
        *names: What the choice is for (see ``seeding.derive``).

    Returns:
        (size,) int64 positions, ascending.

    Raises:
        DataError: `size` is more than N.
    """
    values = labels.numpy()
    if size > len(values):
        raise DataError(
            f"{size} samples asked for, but there are {len(values)}; ask for {len(values)} at most"
        )
    classes, totals = np.unique(values, return_counts=True)
    counts = allocate(totals, size)
    chosen = [
        seeding.numpy_generator(seed, "subset", *names, int(label)).permutation(
            np.flatnonzero(values == label)
        )[:count]
        for label, count in zip(classes, counts, strict=True)
    ]
    everything = np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)
    return torch.from_numpy(np.sort(everything).astype(np.int64))


def allocate(totals: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Divide `size` over classes in proportion to their totals, by largest remainder.

    Args:
        totals: (C,) samples of each class, all at least 1.
        size: 0 to the sum of totals.

    Returns:
        (C,) counts that sum to `size`, none above its total; none is 0 when size >= C.
    """
    whole = int(totals.sum())
    floors = totals * size // max(whole, 1)
    remainders = totals * size - floors * whole
    order = np.argsort(-remainders, kind="stable")
    counts = floors.copy()
    counts[order[: size - int(floors.sum())]] += 1
    if size >= len(totals):
        for empty in np.flatnonzero(counts == 0):
            counts[np.argmax(counts)] -= 1
            counts[empty] = 1
    return counts.astype(np.int64)
