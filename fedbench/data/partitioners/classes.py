"""Partitions in which a client holds some classes only, and each class is split evenly.

``classes_exact`` spreads ownership evenly over the classes, ``classes_round_robin`` takes
neighbours, ``disjoint_classes`` gives every class to one client.

Sources: FedD3, https://arxiv.org/abs/2208.11311 (round robin); the EPFL reports on sharing
distilled data (S whole classes) and on dataset distillation for one-shot learning (disjoint).
"""

from __future__ import annotations

import numpy as np

from fedbench.data.partitioners.common import Indices, Rng, class_pools, deal, join
from fedbench.data.schemes import ClassesExact, ClassesRoundRobin, DisjointClasses, FewClasses
from fedbench.errors import PartitionError


def classes_exact(
    labels: np.ndarray, settings: ClassesExact, rng: Rng, classes: int
) -> list[Indices]:
    """Give every client exactly S of the classes that have images.

    Clients choose in turn the classes with the fewest owners so far, ties at random. So two
    classes differ by one owner at most, and every class has one as soon as K x S reaches their
    number; below that the others' images go to nobody.

    Raises:
        PartitionError: S exceeds the classes, or a class has fewer images than owners.
    """
    wanted = settings.classes_per_client
    pools = class_pools(labels, classes)
    present = np.flatnonzero([len(pool) for pool in pools])
    if wanted > len(present):
        raise PartitionError(
            f"classes_exact: classes_per_client={wanted}, but only {len(present)} classes have "
            f"images; set it to {len(present)} or less"
        )
    owners = np.zeros((classes, settings.clients), bool)
    for client in range(settings.clients):
        fewest = np.lexsort((rng.random(len(present)), owners[present].sum(1)))
        owners[present[fewest[:wanted]], client] = True
    return _split_evenly(pools, owners, settings, rng)


def classes_round_robin(
    labels: np.ndarray, settings: ClassesRoundRobin, rng: Rng, classes: int
) -> list[Indices]:
    """Give client i the classes i, i+1, ..., i+S-1 (mod C) (FedD3).

    With fewer than C-S+1 clients some classes have no owner, and their images go to nobody.

    Raises:
        PartitionError: S exceeds C, or a class has fewer images than owners.
    """
    wanted = settings.classes_per_client
    if wanted > classes:
        raise PartitionError(
            f"classes_round_robin: classes_per_client={wanted} exceeds the {classes} classes; "
            f"set it to {classes} or less"
        )
    owners = np.zeros((classes, settings.clients), bool)
    for client in range(settings.clients):
        owners[(client + np.arange(wanted)) % classes, client] = True
    return _split_evenly(class_pools(labels, classes), owners, settings, rng)


def _split_evenly(
    pools: list[Indices], owners: np.ndarray, settings: FewClasses, rng: Rng
) -> list[Indices]:
    """Shuffle each class and split it evenly over its owners ((C, K) bool)."""
    orders, receivers = [], []
    for c, (pool, mine) in enumerate(zip(pools, owners, strict=True)):
        clients = np.flatnonzero(mine)
        if len(clients) > len(pool) > 0:  # an absent class is nobody's loss
            raise PartitionError(
                f"{settings.scheme}: class {c} has {len(pool)} images for {len(clients)} owners; "
                f"use fewer than {settings.clients} clients, or set classes_per_client below "
                f"{settings.classes_per_client}"
            )
        if len(clients) and len(pool):
            orders.append(rng.permutation(pool))
            receivers.append(np.sort(np.resize(clients, len(pool))))
    return deal(join(orders), join(receivers), settings.clients)


def disjoint_classes(
    labels: np.ndarray, settings: DisjointClasses, rng: Rng, classes: int
) -> list[Indices]:
    """Give every class to one client: runs of neighbours, as equal as they can be.

    Among all cuts of the class order into K runs this one has the least sum of squared sizes. For
    balanced classes and K that divides C that is ``half_iid_half_class`` with a share of 0. The
    seed changes nothing.

    Raises:
        PartitionError: More clients than classes that have images.
    """
    pools = [pool for pool in class_pools(labels, classes) if len(pool)]
    if settings.clients > len(pools):
        raise PartitionError(
            f"disjoint_classes: {settings.clients} clients, but only {len(pools)} classes have "
            f"images; use at most {len(pools)} clients"
        )
    ends = _balanced_cuts([len(pool) for pool in pools], settings.clients)
    return [join(pools[i:j]) for i, j in zip([0, *ends], [*ends, len(pools)], strict=True)]


def _balanced_cuts(sizes: list[int], runs: int) -> list[int]:
    """Return the runs-1 places that cut sizes into non-empty runs of least squared sums."""
    total = np.concatenate([[0], np.cumsum(sizes)]).astype(np.float64)
    cost = np.where(total > 0, total**2, np.inf)  # one run up to each place
    before = []
    for _ in range(runs - 1):
        joined = np.tril((total[:, None] - total[None, :]) ** 2 + cost[None, :])
        joined[np.triu_indices(len(total))] = np.inf
        before.append(joined.argmin(1))
        cost = joined.min(1)
    place, places = len(sizes), []
    for step in reversed(before):
        place = int(step[place])
        places.append(place)
    return places[::-1]
