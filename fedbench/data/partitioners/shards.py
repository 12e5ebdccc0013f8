"""Shard partitions: pieces of the list of images sorted by label.

``shards_window`` cuts windows at random places, so a window can span classes and cuts leave the
list more mixed; ``shards_fixed`` cuts the whole list at fixed places first.

Sources: decentralizepy's ``KShardDataPartitioner``, https://github.com/sacs-epfl/decentralizepy;
FedAvg, https://arxiv.org/abs/1602.05629.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedbench.data.partitioners.common import Indices, Rng
from fedbench.data.schemes import Sharded, ShardsFixed, ShardsWindow
from fedbench.errors import PartitionError


def shards_window(
    labels: np.ndarray, settings: ShardsWindow, rng: Rng, classes: int
) -> list[Indices]:
    """Cut ``shards`` windows for each client out of the sorted list.

    Raises:
        PartitionError: More shards than images.
    """
    size = len(labels) // settings.clients // settings.shards
    _check(size, len(labels), settings)
    by_label = np.argsort(labels, kind="stable")
    return windows(
        by_label, settings.clients, settings.shards, size, lambda length: int(rng.random() * length)
    )


def windows(
    order: Indices, clients: int, shards: int, size: int, start: Callable[[int], int]
) -> list[Indices]:
    """Cut windows out of a list, which closes up after each.

    Args:
        order: (N,) indices, sorted by label.
        clients: Number of clients, K.
        shards: Windows of each client, S.
        size: Images in a window; K x S x size must not exceed N.
        start: Given the list's length, returns where a window starts; one that runs past the end
            goes on at the beginning. ``random.Random(1234).randrange`` gives the reference's
            splits.

    Returns:
        K arrays of S x size indices.
    """
    remaining = order.tolist()
    parts = []
    for _ in range(clients):
        part: list[int] = []
        for _ in range(shards):
            first = start(len(remaining))
            past = max(0, first + size - len(remaining))
            part += remaining[first : first + size] + remaining[:past]
            del remaining[first : first + size], remaining[:past]
        parts.append(np.array(part, np.int64))
    return parts


def shards_fixed(
    labels: np.ndarray, settings: ShardsFixed, rng: Rng, classes: int
) -> list[Indices]:
    """Cut the sorted list into K x S equal shards and draw S for each client.

    The N mod K x S images at the list's end, which belong to the last class, go to nobody.

    Raises:
        PartitionError: More shards than images.
    """
    number = settings.clients * settings.shards
    size = len(labels) // number
    _check(size, len(labels), settings)
    shards = np.argsort(labels, kind="stable")[: number * size].reshape(number, size)
    drawn = rng.permutation(number).reshape(settings.clients, settings.shards)
    return [shards[mine].ravel() for mine in drawn]


def _check(size: int, images: int, settings: Sharded) -> None:
    if size == 0:
        raise PartitionError(
            f"{settings.scheme}: {settings.clients} clients x {settings.shards} shards need at "
            f"least as many images, and there are {images}; set shards to at most "
            f"{images // settings.clients} or use at most {images // settings.shards} clients"
        )
