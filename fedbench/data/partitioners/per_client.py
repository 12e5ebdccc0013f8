"""Client-wise Dirichlet partition: every client draws a class mix from Dir(beta) and is filled.

In ``dirichlet`` it is the class that is spread over the clients. Clients filled last get what is
left, so their mix is not what they drew.

Sources: Hsu et al. 2019, https://arxiv.org/abs/1909.06335; Flower's ``create_lda_partitions`` (the
filling, and the small term that keeps every class drawable); Co-Boosting,
https://github.com/rong-dai/Co-Boosting (log-normal sizes, interleaved filling). Co-Boosting redraws
an exhausted class for ever where a client's mass lies on such classes alone; here Flower's small
term ends that.
"""

from __future__ import annotations

import copy
from bisect import bisect_right

import numpy as np
import numpy.typing as npt

from fedbench.data.partitioners.common import Indices, Rng, class_pools, deal, join, shares
from fedbench.data.schemes import DirichletPerClient
from fedbench.errors import PartitionError

EPSILON = 1e-5  # Flower
BLOCK = 4096  # bounds the memory of one multinomial draw

Mix = npt.NDArray[np.float64]


def dirichlet_per_client(
    labels: np.ndarray, settings: DirichletPerClient, rng: Rng, classes: int
) -> list[Indices]:
    """Fill every client by its own class mix; sizes differ by one at most if sigma is 0.

    Args:
        labels: (N,) labels in [0, classes).
        settings: Uses ``clients``, ``beta``, ``sigma``, ``filling`` and ``legacy_seed``.
        rng: Generator of everything; unused with a ``legacy_seed``.
        classes: Number of classes, C.

    Returns:
        K arrays of indices.

    Raises:
        PartitionError: beta is too small for the generator's floating point.
    """
    mix_rng = rng
    if settings.legacy_seed is not None:  # as in Flower, the mixes come from another generator
        rng = np.random.RandomState(settings.legacy_seed)
        mix_rng = np.random.default_rng(settings.legacy_seed)
    order = rng.permutation(len(labels)).astype(np.int64)
    pools = [order[pool] for pool in class_pools(labels[order], classes)]
    mixes = mix_rng.dirichlet(np.full(classes, settings.beta), size=settings.clients)
    if not np.isfinite(mixes).all():
        raise PartitionError(
            f"dirichlet_per_client: beta={settings.beta:g} is too small to draw "
            f"{classes} class shares in floating point; raise it to 0.01 or more"
        )
    sizes = _sizes(len(labels), settings, rng)
    left = np.array([len(pool) for pool in pools])
    if settings.filling == "in_turn":
        counts = _fill_in_turn(left, mixes, sizes, rng)
    else:
        counts = _fill_interleaved(left, mixes, sizes, rng)
    # Each class is taken from its end, as Flower does; which images these are is random anyway.
    owners = np.concatenate([np.repeat(np.arange(settings.clients), count) for count in counts.T])
    return deal(join(pool[::-1] for pool in pools), owners, settings.clients)


def _sizes(total: int, settings: DirichletPerClient, rng: Rng) -> Indices:
    if settings.sigma == 0:
        return shares(total, settings.clients)
    weights = rng.lognormal(0.0, settings.sigma, settings.clients)
    ends = (np.cumsum(weights / weights.sum()) * total).astype(np.int64)
    ends[-1] = total
    return np.diff(ends, prepend=0)


def _drawable(mix: Mix, left: Indices) -> Mix:
    """Take exhausted classes out of a mix (..., C) and give every other one a small chance."""
    weights: Mix = np.where(left > 0, mix + EPSILON, 0.0)
    drawable: Mix = weights / weights.sum(-1, keepdims=True)
    return drawable


def _fill_in_turn(left: Indices, mixes: Mix, sizes: Indices, rng: Rng) -> Indices:
    """Fill client 0, then 1, ...; return (K, C) counts.

    The reference draws image by image. One call for many images draws the same stream, so a block
    is tried on a copy of the generator and taken up to the image that exhausts a class.
    """
    left = left.copy()
    counts = np.zeros(mixes.shape, np.int64)
    for count, mix, size in zip(counts, mixes, sizes, strict=True):
        mix, need = _drawable(mix, left), int(size)
        while need:
            tried = copy.deepcopy(rng).multinomial(1, mix, size=min(need, BLOCK))
            exhausts = ((tried.cumsum(0) == left) & (tried == 1)).any(1)
            length = int(exhausts.argmax()) + 1 if exhausts.any() else len(tried)
            taken = rng.multinomial(1, mix, size=length).sum(0)
            left -= taken
            count += taken
            need -= length
            if exhausts.any() and left.any():
                mix = _drawable(mix, left)
    return counts


def _fill_interleaved(left: Indices, mixes: Mix, sizes: Indices, rng: Rng) -> Indices:
    """Give image after image to a random client that still has room; return (K, C) counts."""
    left, need = left.tolist(), sizes.tolist()
    counts = np.zeros(mixes.shape, np.int64)
    room = [k for k, size in enumerate(need) if size]
    mixes = _drawable(mixes, np.array(left))
    ends = mixes.cumsum(1).tolist()
    for which, where in rng.random((sum(need), 2)).tolist():
        slot = int(which * len(room))
        client = room[slot]
        chosen = bisect_right(ends[client], where * ends[client][-1])
        counts[client, chosen] += 1
        left[chosen] -= 1
        need[client] -= 1
        if not need[client]:
            room[slot] = room[-1]
            room.pop()
        if not left[chosen] and room:
            mixes = _drawable(mixes, np.array(left))
            ends = mixes.cumsum(1).tolist()
    return counts
