"""Class-wise Dirichlet partitions: every class is spread over the clients by its own Dir(beta).

The variants differ in the cap (a client that holds its N/K images gets none of later classes), in
what is dealt beforehand, and in which clients share a draw. In ``per_client`` it is the client that
draws a class mix.

Sources: Yurochkin et al. 2019, https://arxiv.org/abs/1905.12022 (the draw); NIID-Bench,
https://arxiv.org/abs/2102.02079 (cap and retries); FedDF, https://arxiv.org/abs/2006.07242
(groups); CollabDM, https://arxiv.org/abs/2408.02266 (floor).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedbench.data.partitioners.common import Indices, Rng, class_pools, deal, join, values
from fedbench.data.schemes import (
    ClassWise,
    ClassWiseSized,
    Dirichlet,
    DirichletCapped,
    DirichletGroups,
    FloorPerClass,
)
from fedbench.errors import PartitionError

GROUP = 10  # FedDF: clients that share a draw


@dataclass(frozen=True)
class _Draw:
    """The rules of one class-wise draw.

    Attributes:
        clients: Number of clients.
        beta: Dirichlet concentration, > 0.
        cap: Images from which on a client gets none of later classes; None for no cap.
        min_size: Smallest client that is accepted, in images of this draw.
        shuffle: Whether each class is shuffled first; off where the pools are in random order.
    """

    clients: int
    beta: float
    cap: float | None
    min_size: int
    shuffle: bool = True

    def once(self, pools: Sequence[Indices], rng: Rng) -> tuple[list[Indices], Indices] | None:
        """Draw once.

        Returns:
            Each class's indices in dealing order, and (C, K) counts; None if a class found no
            client to go to, because all its mass lay on clients at the cap.
        """
        held = np.zeros(self.clients, np.int64)
        orders, counts = [], np.zeros((len(pools), self.clients), np.int64)
        for c, pool in enumerate(pools):
            orders.append(rng.permutation(pool) if self.shuffle else pool)
            mass = rng.dirichlet(np.full(self.clients, self.beta))
            if self.cap is not None:
                mass = mass * (held < self.cap)
            total = mass.sum()
            if not total > 0:  # NaN too: the legacy generator underflows for tiny beta
                return None
            # A cumulative sum of .9999... leaves one image for a last client at the cap. It stays:
            # the published splits have it.
            ends = (np.cumsum(mass / total) * len(pool)).astype(np.int64)
            ends[-1] = len(pool)
            counts[c] = np.diff(ends, prepend=0)
            held += counts[c]
        return orders, counts

    def until_it_fits(
        self, pools: Sequence[Indices], rng: Rng, settings: ClassWise
    ) -> list[Indices]:
        """Draw until every client holds ``min_size`` images.

        Raises:
            PartitionError: Not within ``settings.max_tries`` draws, or impossible.
        """
        total = sum(map(len, pools))
        if self.clients * self.min_size > total:
            raise PartitionError(
                f"{settings.scheme}: {self.clients} clients cannot each get {self.min_size} of "
                f"{total} images; use at most {total // self.min_size} clients, or accept smaller "
                f"ones (at most {total // self.clients} images)"
            )
        smallest = -1
        for _ in range(settings.max_tries):
            drawn = self.once(pools, rng)
            if drawn is None:
                continue
            orders, counts = drawn
            size = int(counts.sum(0).min())
            if size >= self.min_size:
                owners = np.repeat(np.tile(np.arange(self.clients), len(pools)), counts.ravel())
                return deal(join(orders), owners, self.clients)
            smallest = max(smallest, size)
        raise PartitionError(self._failure(settings, total, smallest))

    def _failure(self, settings: ClassWise, total: int, smallest: int) -> str:
        tried = values(beta=self.beta, clients=settings.clients, max_tries=settings.max_tries)
        fixes = [f"raise beta above {self.beta:g}", f"use fewer than {settings.clients} clients"]
        if smallest >= 1 and isinstance(settings, ClassWiseSized):
            fixes.insert(0, f"set min_size to {smallest} or less")
        best = (
            "every draw left a class without a client that may take it"
            if smallest < 0
            else f"the best draw's smallest client got {smallest}"
        )
        return (
            f"{settings.scheme}: none of {settings.max_tries} draws gave each of {self.clients} "
            f"clients at least {self.min_size} of {total} images ({tried}); {best}. "
            f"To mend it, {', '.join(fixes[:-1])} or {fixes[-1]}"
        )


def dirichlet(labels: np.ndarray, settings: Dirichlet, rng: Rng, classes: int) -> list[Indices]:
    """Spread each class by Dir(beta) over the clients; no cap (FL-bench).

    Raises:
        PartitionError: No draw gave every client ``min_size`` images.
    """
    draw = _Draw(settings.clients, settings.beta, None, settings.min_size)
    return draw.until_it_fits(class_pools(labels, classes), rng, settings)


def dirichlet_capped(
    labels: np.ndarray, settings: DirichletCapped, rng: Rng, classes: int
) -> list[Indices]:
    """Spread each class by Dir(beta) over the clients below N/K images (DENSE).

    Raises:
        PartitionError: No draw gave every client ``min_size`` images.
    """
    if settings.legacy_seed is not None:
        rng = np.random.RandomState(settings.legacy_seed)
    cap = len(labels) / settings.clients
    draw = _Draw(settings.clients, settings.beta, cap, settings.min_size)
    return draw.until_it_fits(class_pools(labels, classes), rng, settings)


def dirichlet_groups(
    labels: np.ndarray, settings: DirichletGroups, rng: Rng, classes: int
) -> list[Indices]:
    """Draw inside groups of 10 clients, then re-cut all into K equal parts (FedDF).

    Each group deals its own random share of the images with the cap, and accepts no client below
    half its average. The lists are put end to end and cut anew, so a client straddles draws.

    Raises:
        PartitionError: A group had no success.
    """
    order = rng.permutation(len(labels)).astype(np.int64)
    lists: list[Indices] = []
    # As in FedDF: full groups first, the last one takes what is left over.
    sizes = [min(GROUP, settings.clients - start) for start in range(0, settings.clients, GROUP)]
    ends = [int(GROUP / settings.clients * len(order)) * g for g in range(1, len(sizes))]
    for clients, pool in zip(sizes, np.split(order, ends), strict=True):
        average = len(pool) / clients
        draw = _Draw(clients, settings.beta, average, int(0.5 * average), shuffle=False)
        pools = [pool[labels[pool] == c] for c in range(classes)]
        lists += draw.until_it_fits(pools, rng, settings)
    return np.array_split(join(lists), settings.clients)


def floor_per_class(
    labels: np.ndarray, settings: FloorPerClass, rng: Rng, classes: int
) -> list[Indices]:
    """Give everyone ``floor`` images of every class, the rest as capped (CollabDM).

    Cap and ``min_size`` count the rest only; the cap is N/K of all images.

    Raises:
        PartitionError: A class has fewer than K x floor images, or the rest does not fit.
    """
    floor, clients = settings.floor, settings.clients
    pools = [rng.permutation(pool) for pool in class_pools(labels, classes)]
    rarest = min(range(classes), key=lambda c: len(pools[c]))
    if len(pools[rarest]) < clients * floor:
        raise PartitionError(
            f"floor_per_class: class {rarest} has {len(pools[rarest])} images, but {clients} "
            f"clients x floor={floor} need {clients * floor}; lower floor or use fewer clients"
        )
    first = [join(pool[k * floor : (k + 1) * floor] for pool in pools) for k in range(clients)]
    draw = _Draw(clients, settings.beta, len(labels) / clients, settings.min_size)
    rest = draw.until_it_fits([pool[clients * floor :] for pool in pools], rng, settings)
    return [np.concatenate(pair) for pair in zip(first, rest, strict=True)]
