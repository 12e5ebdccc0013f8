"""Which crops of a bank are shared in a round: balanced over classes, then pruned by confidence.

Two stages, each of which may be off. The first one clusters the crops' features by k-means; every
class that the network predicts for some crop gets its share of places, which go to the crops near
to or far from their own cluster's centre. Clusters themselves are not balanced. The second stage
drops a share of every predicted class: the crops that the network is surest of, or least sure of,
or any.

Pure functions of tensors: which network describes the crops is the method's affair.

Source: Soni, Saeed and Asano, "Federated Learning with a Single Shared Image", CVPR 2024 workshops,
https://arxiv.org/abs/2406.12658 (S1), and its code, https://github.com/sunnysoni97/single_image_fl,
which differ: S1 says that crops of low confidence are removed, the code removes those of high
confidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fedbench.errors import SettingsError, TrainingError
from fedbench.seeding import derive, generator
from fedbench.settings import Settings

#: Rows whose distances are computed at once, so that wide features are not copied as a whole.
_ROWS = 8192
#: Five passes without an early stop. Of 50,000 crops and 1,000 clusters the squared distances
#: are 4 % above those of full k-means, in a fifth of its time; reassigning small clusters made them
#: 6 to 8 %, because photographs have small clusters.
_MINI_BATCH = {
    "batch_size": 4096,
    "max_iter": 5,
    "max_no_improvement": None,
    "reassignment_ratio": 0,
}


class SelectionSettings(Settings):
    """How crops are selected."""

    cluster: Literal["none", "full", "mini_batch"] = "none"  # fedbench: as S1's headline runs act
    """No k-means; over all crops, as S1's code asks for; or over mini-batches, which is nearly as
    good and far quicker."""
    clusters: int = Field(1000, ge=1)  # S1
    """Number of clusters, k; at most the number of crops."""
    heuristic: Literal["easy", "hard", "mixed"] = "hard"  # S1's headline runs; its code: mixed
    """Which crops come first: those near to their cluster's centre, those far from it, or some of
    both."""
    mixed_share: float = Field(0.5, ge=0, le=1)  # S1's code
    """`mixed`: share of the places that go to easy crops; the rounded-up one."""
    easy_is_mixed: bool = False  # fedbench: the reference's slip
    """Let `easy` mean half easy, half hard, as S1's code computes it."""
    balance: float = Field(1.0, ge=0, le=1)  # S1's headline runs; its code: 0.5
    """Share of the places that is dealt evenly to the predicted classes (b); the others go to
    whichever crops the heuristic puts first."""
    prune: Literal["none", "top", "bottom", "random", "entropy", "entropy_high"] = (
        "top"  # S1's code
    )
    """Which crops of a predicted class are dropped: `top` those of highest confidence, `bottom`
    of lowest (what S1's text says), `random` any, `entropy` those of lowest entropy of the
    prediction (akin to `top`), `entropy_high` those of highest."""
    prune_share: float = Field(0.5, ge=0, lt=1)  # S1's ablation on CIFAR-10
    """Share of a predicted class that is dropped (τ), rounded down."""
    random_with_replacement: bool = False  # fedbench: the reference's slip
    """Let `random` draw what it drops with replacement, as S1's code does: it then keeps about
    exp(-τ) of the crops instead of 1-τ."""


@dataclass(frozen=True)
class Selection:
    """What was selected of N crops, and why. All tensors are on the CPU.

    Attributes:
        chosen: (n,) int64, the selected crops, ascending.
        balanced: (n1,) int64, those that the first stage left, ascending; all N where it is off.
        predicted: (N,) int64, the class of highest probability.
        confidence: (N,) float32, that probability.
        distance: (N,) float32, the distance of a crop's features to its cluster's centre; None
            where nothing was clustered.
    """

    chosen: Tensor
    balanced: Tensor
    predicted: Tensor
    confidence: Tensor
    distance: Tensor | None


def crops_needed(settings: SelectionSettings, count: int) -> int:
    """Return how many crops a bank needs so that at least ``count`` are selected.

    Without the first stage about that many are selected of such a bank: a few more, because what
    is dropped is rounded down in every class. With it the first stage acts on larger banks only
    (see ``acts``).
    """
    return math.ceil(count / _kept_share(settings))


def acts(settings: SelectionSettings, bank: int, count: int) -> bool:
    """Return whether the first stage leaves out any crop.

    It does not where all crops are needed for the second one, which is so in the headline runs of
    S1: 5,000 of 50,000 crops, nine in ten of them pruned.

    Args:
        settings: How crops are selected.
        bank: Number of crops, N.
        count: Number of crops to select.
    """
    return settings.cluster != "none" and bank > _places(settings, count)


def fault(settings: SelectionSettings, bank: int) -> str | None:
    """Return why nothing can be selected of a bank of so many crops, or None.

    The bound holds for banks on which the first stage does not act too, so that a setting is
    right or wrong whatever is pruned.
    """
    if settings.cluster == "none" or bank >= settings.clusters:
        return None
    return (
        f"{bank} crops are fewer than {settings.clusters} clusters; make `clusters` at most "
        f"{bank}, the bank larger, or `cluster` none"
    )


def select(
    features: Tensor, logits: Tensor, settings: SelectionSettings, *, count: int, seed: int
) -> Selection:
    """Select crops by what a network says of them.

    The first stage leaves n1 = ``count`` / (1 - τ) crops, rounded down, or all of a smaller bank.
    So at least ``count`` are selected of a bank that has ``crops_needed``, and a few more where
    a class is not a multiple; without the first stage all but the pruned share are.

    Of crops that are equally far, confident or uncertain, the one of lower index counts as nearer
    and is dropped first. K-means runs on one thread, so that the same arguments give the same
    selection.

    Args:
        features: (N, d) floats of any type.
        logits: (N, classes) floats of any type.
        settings: How crops are selected.
        count: How many to select, at least 1.
        seed: Of the clusters and of random pruning.

    Raises:
        SettingsError: There are fewer crops than clusters.
        TrainingError: A feature or a logit is not finite.
    """
    if (problem := fault(settings, len(logits))) is not None:
        raise SettingsError(problem)
    if not (features.isfinite().all() and logits.isfinite().all()):
        raise TrainingError(
            "the network's outputs on the crops are not finite, so none can be selected; "
            "its training has diverged: lower the learning rate"
        )
    # In float32 the confidences of many crops would be exactly 1, and their order that of indices.
    odds = logits.detach().cpu().double().log_softmax(1)
    predicted, confidence = odds.argmax(1), odds.exp().amax(1)
    balanced, distance = torch.arange(len(logits)), None
    if acts(settings, len(logits), count):
        distance = _distances(features.detach().cpu().float(), settings, seed)
        balanced = _balance(distance, predicted, settings, _places(settings, count))
    chosen = _prune(balanced, predicted, odds, settings, seed)
    return Selection(chosen, balanced, predicted, confidence.float(), distance)


def _exact(share: float) -> Fraction:
    """Return a share as it is written: 1 - 0.9 is then a tenth, and 100 times 0.29 is 29."""
    return Fraction(str(share))


def _kept_share(settings: SelectionSettings) -> Fraction:
    return 1 - _exact(settings.prune_share) if settings.prune != "none" else Fraction(1)


def _places(settings: SelectionSettings, count: int) -> int:
    """Return n1, the number of crops that the first stage leaves of a large bank."""
    return math.floor(count / _kept_share(settings))


def _distances(features: Tensor, settings: SelectionSettings, seed: int) -> Tensor:
    """Cluster (N, d) features and return (N,) distances to the own cluster's centre."""
    from sklearn.cluster import KMeans, MiniBatchKMeans  # a second that plans do without
    from threadpoolctl import threadpool_limits

    common = {"n_init": 1, "random_state": derive(seed, "clusters") % 2**32}
    found = (
        KMeans(settings.clusters, **common)
        if settings.cluster == "full"
        else MiniBatchKMeans(settings.clusters, **common, **_MINI_BATCH)
    )
    with threadpool_limits(1):  # several threads add up in any order
        found.fit(features.numpy())
    centres, own = torch.from_numpy(found.cluster_centers_), torch.from_numpy(found.labels_).long()
    return torch.cat(
        [
            (part - centres[cluster]).norm(dim=1)
            for part, cluster in zip(
                torch.split(features, _ROWS), torch.split(own, _ROWS), strict=True
            )
        ]
    )


def _balance(
    distance: Tensor, predicted: Tensor, settings: SelectionSettings, places: int
) -> Tensor:
    """Deal the places to the predicted classes, and the remaining ones to any crop."""
    share = _easy_share(settings)
    order = distance.argsort(stable=True)
    classes = torch.unique(predicted)
    quota = math.floor(_exact(settings.balance) * places / len(classes))
    taken = torch.zeros(len(order), dtype=torch.bool)
    for number in classes:
        taken[_ends(order[predicted[order] == number], quota, share)] = True
    rest = order[~taken[order]]
    taken[_ends(rest, places - int(taken.sum()), share)] = True
    return taken.nonzero().flatten()


def _easy_share(settings: SelectionSettings) -> Fraction:
    if settings.heuristic == "easy":
        return Fraction(1, 2) if settings.easy_is_mixed else Fraction(1)
    return _exact(settings.mixed_share) if settings.heuristic == "mixed" else Fraction(0)


def _ends(order: Tensor, count: int, easy: Fraction) -> Tensor:
    """Take ``count`` from both ends of an ascending order, or all if there are no more."""
    if count >= len(order):
        return order
    far = math.floor((1 - easy) * count)
    return torch.cat([order[: count - far], order[len(order) - far :]])


def _prune(
    crops: Tensor, predicted: Tensor, odds: Tensor, settings: SelectionSettings, seed: int
) -> Tensor:
    """Drop the pruned share of every predicted class, rounded down, from ascending crops."""
    if settings.prune == "none":
        return crops
    source, share = generator(seed, "prune"), _exact(settings.prune_share)
    score = _score(odds, settings.prune)
    kept = torch.zeros(len(predicted), dtype=torch.bool)
    kept[crops] = True
    for number in torch.unique(predicted[crops]):
        own = crops[predicted[crops] == number]
        drop = math.floor(share * len(own))
        if score is not None:
            dropped = score[own].argsort(stable=True)[:drop]
        elif settings.random_with_replacement:
            dropped = torch.randint(len(own), (drop,), generator=source)
        else:
            dropped = torch.randperm(len(own), generator=source)[:drop]
        kept[own[dropped]] = False
    return kept.nonzero().flatten()


def _score(odds: Tensor, prune: str) -> Tensor | None:
    """Return (N,) scores of which the lowest are dropped, or None for random ones."""
    if prune == "random":
        return None
    if prune in ("top", "bottom"):
        confidence = odds.amax(1)
        return -confidence if prune == "top" else confidence
    entropy: Tensor = torch.special.entr(odds.exp()).sum(1)
    return entropy if prune == "entropy" else -entropy
