"""Who holds which training image: a scheme's split, the clients' hold-outs, histogram and digest.

The schemes themselves are listed in ``schemes`` and computed in ``partitioners``; this file seeds
them, checks what they return and makes it citable.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from fedbench.data.partitioners.common import Indices, join, values
from fedbench.data.schemes import SCHEMES
from fedbench.data.settings import Partition
from fedbench.errors import DataError, PartitionError
from fedbench.seeding import numpy_generator


@dataclass(frozen=True, eq=False)
class ClientSplit:
    """A partition of the training images over K clients.

    Attributes:
        train: For each client the indices (int64, ascending) that it trains on.
        validation: For each client the indices (int64, ascending) that it holds out.
        histogram: (K, C) int64, images of each class that a client holds, hold-outs included.
        digest: SHA-256 over all of the above, hexadecimal.
    """

    train: tuple[Indices, ...]
    validation: tuple[Indices, ...]
    histogram: Indices
    digest: str


def split(labels: np.ndarray, settings: Partition, seed: int, classes: int) -> ClientSplit:
    """Spread training images over clients.

    Args:
        labels: (N,) integers in [0, classes).
        settings: The scheme with its parameters, and the share that clients hold out.
        seed: The cell's seed; the partition and each client's hold-out are derived from it.
        classes: Number of classes, C.

    Returns:
        The partition; the same for the same arguments, on every machine with this NumPy.

    Raises:
        DataError: Labels out of range.
        PartitionError: There is no such partition, or none was found within the bound.
    """
    labels = _checked(labels, classes)
    if settings.clients > len(labels):
        raise PartitionError(
            f"{settings.scheme}: {settings.clients} clients for {len(labels)} images; use at most "
            f"{len(labels)} clients"
        )
    scheme = SCHEMES.get(settings.scheme).load()
    parts = scheme(labels, settings, numpy_generator(seed, "partition"), classes)
    parts = [np.sort(part) for part in parts]
    _check_parts(parts, len(labels), settings)
    pairs = [
        hold_out(part, labels, settings.validation, numpy_generator(seed, "validation", client))
        for client, part in enumerate(parts)
    ]
    train, validation = (tuple(side) for side in zip(*pairs, strict=True))
    histogram = np.stack([np.bincount(labels[part], minlength=classes) for part in parts])
    return ClientSplit(train, validation, histogram, _digest(train, validation, histogram))


def hold_out(
    part: Indices, labels: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """Take a share of one client's images away, in the proportions of its classes.

    Args:
        part: (n,) the client's indices, ascending.
        labels: (N,) labels of all images.
        share: In [0, 1). The number of images is rounded, but at least 1 if share > 0 and n >= 2,
            and at least 1 is left.
        rng: Decides which images, and which classes gain by rounding where they tie.

    Returns:
        The rest and the hold-out, both ascending.
    """
    size = len(part)
    if share == 0 or size < 2:
        return part, part[:0]
    number = min(max(1, int(share * size + 0.5)), size - 1)
    shuffled = rng.permutation(part)
    present, position, counts = np.unique(labels[shuffled], return_inverse=True, return_counts=True)
    # Largest remainders in integers, so that ties are ties and the generator decides them.
    whole, remainder = np.divmod(counts * number, size)
    gains = np.lexsort((rng.random(len(present)), -remainder))[: number - whole.sum()]
    whole[gains] += 1
    order = np.argsort(position, kind="stable")
    rank = np.empty(size, np.int64)
    rank[order] = np.arange(size) - np.repeat(counts.cumsum() - counts, counts)
    held = rank < whole[position]
    return np.sort(shuffled[~held]), np.sort(shuffled[held])


def _checked(labels: np.ndarray, classes: int) -> Indices:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise DataError(
            f"labels must be a non-empty vector of integers; got {labels.dtype} of shape "
            f"{labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"labels lie in [{labels.min()}, {labels.max()}], but {classes} classes allow "
            f"[0, {classes - 1}]; fix the reader's class list"
        )
    return labels.astype(np.int64)


def _check_parts(parts: list[Indices], images: int, settings: Partition) -> None:
    """Hold a scheme, which may be a third party's, to what every scheme promises."""
    joined = join(parts)
    times = np.bincount(joined, minlength=images)
    if len(parts) != settings.clients or len(times) > images or times.max() > 1:
        raise PartitionError(
            f"scheme {settings.scheme!r} returned {len(parts)} parts for {settings.clients} "
            f"clients, {int((times > 1).sum())} images with several owners, and {len(times)} as "
            f"number of images instead of {images}; mend the scheme's function"
        )
    empty = [client for client, part in enumerate(parts) if not len(part)]
    parameters = SCHEMES.get(settings.scheme).parameters
    # An empty client is what a min_size of 0 asks for.
    if empty and "min_size" not in parameters:
        used = {name: getattr(settings, name) for name in sorted(parameters)}
        raise PartitionError(
            f"{settings.scheme}: client {empty[0]} gets no image ({len(empty)} of "
            f"{settings.clients} clients; {values(**used)}); use fewer clients or parameters "
            "nearer to IID"
        )


def _digest(train: tuple[Indices, ...], validation: tuple[Indices, ...], histogram: Indices) -> str:
    digest = hashlib.sha256()
    for array in (*train, *validation, histogram):
        digest.update(np.array(array.shape, "<i8").tobytes())
        digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()
