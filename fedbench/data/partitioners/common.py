"""What the partition schemes share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Rng = np.random.Generator | np.random.RandomState


def class_pools(labels: np.ndarray, classes: int) -> list[Indices]:
    """Return the indices of every class ((n_c,) int64, ascending); empty for an absent class."""
    return [np.flatnonzero(labels == c) for c in range(classes)]


def deal(order: npt.ArrayLike, owners: npt.ArrayLike, clients: int) -> list[Indices]:
    """Give every index to its owner.

    Args:
        order: (M,) indices.
        owners: (M,) client of each index, in [0, clients).
        clients: Number of clients, K.

    Returns:
        K arrays; each keeps the order in which its indices came.
    """
    order, owners = np.asarray(order, np.int64), np.asarray(owners, np.int64)
    ends = np.bincount(owners, minlength=clients).cumsum()[:-1]
    return np.split(order[np.argsort(owners, kind="stable")], ends)


def shares(total: int, parts: int) -> Indices:
    """Return (parts,) sizes that differ by one at most, larger ones first, and sum to total."""
    return total // parts + (np.arange(parts) < total % parts).astype(np.int64)


def values(**parameters: object) -> str:
    """Return parameters as ``a=1, b=2``, for error messages."""
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


def join(arrays: Iterable[Indices]) -> Indices:
    """Return the arrays end to end; an empty array for none."""
    return np.concatenate([np.empty(0, np.int64), *arrays])
