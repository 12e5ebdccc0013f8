"""Partitions with a share dealt at random: all of it, or half with the other half by class."""

from __future__ import annotations

import math

import numpy as np

from fedbench.data.partitioners.common import Indices, Rng
from fedbench.data.schemes import HalfIidHalfClass, Iid


def iid(labels: np.ndarray, settings: Iid, rng: Rng, classes: int) -> list[Indices]:
    """Cut a random permutation into parts whose sizes differ by one at most."""
    return np.array_split(rng.permutation(len(labels)).astype(np.int64), settings.clients)


def half_iid_half_class(
    labels: np.ndarray, settings: HalfIidHalfClass, rng: Rng, classes: int
) -> list[Indices]:
    """Deal a random share u evenly and cut the rest, sorted by label, into K chunks.

    u=1 is IID, u=0 gives neighbouring labels. Chunk borders fall on class borders only if u=0,
    the classes are balanced and K divides their number.
    """
    order = rng.permutation(len(labels)).astype(np.int64)
    # The small term undoes products such as .29 * 100 = 28.999...
    border = math.floor(settings.iid_share * len(labels) + 1e-9)
    even, rest = order[:border], order[border:]
    by_label = rest[np.argsort(labels[rest], kind="stable")]
    return [
        np.concatenate(parts)
        for parts in zip(
            np.array_split(even, settings.clients),
            np.array_split(by_label, settings.clients),
            strict=True,
        )
    ]
