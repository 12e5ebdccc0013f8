"""Clients, skews, budgets and subsets that suit somebody's data; every split is tried before."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from fedbench.bench.drafting.look import Look
from fedbench.data.partition import split
from fedbench.data.schemes import partition_settings
from fedbench.data.subset import stratified
from fedbench.errors import DataError, PartitionError

#: Profiles of a suite, the smallest first.
PROFILES = ("smoke", "quick", "standard", "paper")
#: Skews to choose from, the most skewed first.
_BETAS = {
    "smoke": (0.5, 1.0, 10.0),
    "quick": (0.1, 0.5),
    "standard": (0.1, 0.3, 0.5, 1.0),
    "paper": (0.1, 0.3, 0.5),
}
_MILD = (1.0, 10.0)  # where none of these can be drawn
#: Training images that the small profiles take at most.
_MOST = {"smoke": 400, "quick": 5000}
_SMOKE_TEST = 200
#: Shares of the training images: what the server gets as public ones, and at most.
_PUBLIC, _MOST_PUBLIC = 0.1, 0.2
#: Images of a class for each one that is shared, or a set would be the data themselves.
_WORTH = 5
#: Images that a client should have on average, at least and for batches of 64.
_EACH, _FULL_BATCHES = 40, 200
#: Height in pixels above which the small profiles do not go: the time grows with its square.
_SMALL_IMAGE = 32


@dataclass(frozen=True)
class Size:
    """What one profile takes.

    Attributes:
        name: The profile.
        train: Training images of all clients.
        test: Test images; None takes all.
        clients: Numbers of clients, ascending.
        betas: Dirichlet concentrations that can be drawn for all of these.
        dropped: Others that could not.
        classes: How many there are.
        rarest: Training images of the smallest class.
        ipc: Budgets in images per class, ascending.
        min_size: Images that every client has at least.
        batch: Images in a step of a client.
        image: Height of the images in pixels.
    """

    name: str
    train: int
    test: int | None
    clients: tuple[int, ...]
    betas: tuple[float, ...]
    dropped: tuple[float, ...]
    classes: int
    rarest: int
    ipc: tuple[int, ...]
    min_size: int
    batch: int
    image: int


@dataclass(frozen=True)
class Choice:
    """What suits the data.

    Attributes:
        classes: How many there are.
        images: Training images in all.
        public: Of these, those that no client holds and the server has; 0 is none.
        rarest: The name of the smallest class, and how many training images the clients have of it.
        sizes: By profile.
    """

    classes: int
    images: int
    public: int
    rarest: tuple[str, int]
    sizes: dict[str, Size]


def choose(look: Look) -> Choice:
    """Return what suits the data.

    Raises:
        DataError: There are too few images for two clients.
    """
    labels = look.loaded.train.labels
    images, classes = len(labels), len(look.loaded.classes)
    if images < 2 * classes or images < 20:
        raise DataError(
            f"{look.data.path} holds {images} training images of {classes} classes, too few to "
            "spread over clients; 20 are the least, and two of a class on average"
        )
    main = _budgets(labels, (1, 10))[-1]
    public = _public(images, main * classes)
    held = _counts(labels, images - public)
    rarest = int(np.argmin(held))
    sizes = {name: _size(name, look, images - public, main) for name in PROFILES}
    of_rarest = (look.loaded.classes[rarest], int(held[rarest]))
    return Choice(classes, images, public, of_rarest, sizes)


def _size(name: str, look: Look, images: int, main: int) -> Size:
    """Return what a profile takes.

    Args:
        name: The profile.
        look: The data.
        images: Training images of all clients.
        main: The budget of the quick profile, in images per class.
    """
    labels, small = look.loaded.train.labels, name in _MOST
    train = min(images, _MOST.get(name, images))
    clients = _clients(train)[:1] if small else _clients(train)
    chosen = labels[stratified(labels, train, 0, "train")].numpy()
    min_size = min(10, max(2, train // (4 * clients[-1])))  # DENSE, CollabDM: 10

    def drawn(betas: Iterable[float]) -> tuple[float, ...]:
        classes = len(look.loaded.classes)
        return tuple(b for b in betas if _drawn(chosen, clients, b, min_size, classes))

    betas = drawn(_BETAS[name]) or drawn(_MILD)[:1]
    budgets = {"smoke": (min(main, 2),), "quick": (main,)}
    return Size(
        name=name,
        train=train,
        test=_SMOKE_TEST if name == "smoke" and len(look.loaded.test) > _SMOKE_TEST else None,
        clients=clients,
        betas=betas[:1] if name == "smoke" else betas,
        dropped=tuple(b for b in _BETAS[name] if b not in betas),
        classes=len(look.loaded.classes),
        rarest=int(np.bincount(chosen, minlength=len(look.loaded.classes)).min()),
        ipc=budgets.get(name) or _budgets(labels, (1, 10, 50)),
        min_size=min_size,
        batch=16 if name == "smoke" or train // clients[-1] < _FULL_BATCHES else 64,
        image=min(look.data.size, _SMALL_IMAGE) if small else look.data.size,
    )


def _clients(images: int) -> tuple[int, ...]:
    """Return numbers of clients, each with enough images on average."""
    found = (
        tuple(k for k in (5, 10, 20) if images >= 10 * _EACH * k)
        or tuple(k for k in (5, 3) if images >= _EACH * k)[:1]
    )
    return found or (2,)


def _budgets(labels: torch.Tensor, wanted: Iterable[int]) -> tuple[int, ...]:
    """Return the budgets in images per class that half of the classes can afford; 1 at least."""
    counts = labels.bincount()
    median = float(counts[counts > 0].float().median())
    return tuple(ipc for ipc in wanted if ipc * _WORTH <= median) or (1,)


def _public(images: int, needed: int) -> int:
    """Return how many training images are the server's: a tenth, more if a budget asks for it."""
    wanted = max(math.ceil(_PUBLIC * images), needed)
    return wanted if wanted <= _MOST_PUBLIC * images else 0


def _counts(labels: torch.Tensor, size: int) -> np.ndarray:
    """Return the images of each class in a subset."""
    kept = labels[stratified(labels, size, 0, "train")]
    return np.bincount(kept.numpy(), minlength=int(labels.max()) + 1)


def _drawn(
    labels: np.ndarray, clients: Iterable[int], beta: float, min_size: int, classes: int
) -> bool:
    """Say whether a skew can be drawn for some numbers of clients and three seeds."""
    for count in clients:
        wanted = partition_settings({"clients": count, "beta": beta, "min_size": min_size})
        for seed in range(3):
            try:
                split(labels, wanted, seed, classes)
            except PartitionError:
                return False
    return True
