"""Accuracy, likelihood and calibration of one model on one test set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

#: A logit at or below this says that a class is never predicted, as of one that nobody has. An
#: infinite one would make NaN of a row of such classes alone.
NEVER = -1e30
#: Nats that an image of such a class counts: a float32 probability can be no smaller.
FLOOR = -math.log(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True)
class Scores:
    """What a model's logits say on labelled images.

    Attributes:
        accuracy: Share of right predictions, in [0, 1].
        per_class: Recall of each class, in [0, 1]; NaN where a class has no image.
        nll: Mean negative log-likelihood in nats; an image of a class that is never predicted
            counts ``FLOOR``.
        never: Share of such images, in [0, 1].
        ece: Expected calibration error in [0, 1] (Guo et al. 2017, https://arxiv.org/abs/1706.04599).
    """

    accuracy: float
    per_class: tuple[float, ...]
    nll: float
    ece: float
    never: float = 0.0

    @property
    def balanced(self) -> float:
        """Mean recall over the classes that have images."""
        known = [value for value in self.per_class if value == value]
        return sum(known) / len(known)

    def on_mix(self, histogram: Sequence[int]) -> float | None:
        """Return the accuracy that a client with this label mix would see.

        Args:
            histogram: Its images of each class.

        Returns:
            The mean of per-class accuracies, weighted by the mix, in [0, 1]; None if no class of
            the mix has a test image.
        """
        pairs = [
            (count, value)
            for count, value in zip(histogram, self.per_class, strict=True)
            if count and value == value
        ]
        total = sum(count for count, _ in pairs)
        return sum(count * value for count, value in pairs) / total if total else None

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON values; a class without images is null.

        ``never`` is there only where it says something.
        """
        return {
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced,
            "nll": self.nll,
            "ece": self.ece,
            "per_class": [value if value == value else None for value in self.per_class],
            **({"never": self.never} if self.never else {}),
        }


def score(logits: Tensor, labels: Tensor, *, classes: int, bins: int) -> Scores:
    """Score logits against labels.

    Args:
        logits: (N, classes), or log-probabilities, any float type.
        labels: (N,) int64.
        classes: Number of classes.
        bins: Equal-width confidence bins of the calibration error.
    """
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, labels = logits.float().cpu(), labels.cpu()
    right = (logits.argmax(dim=1) == labels).double()
    counts = torch.bincount(labels, minlength=classes).double()
    hits = torch.bincount(labels, weights=right, minlength=classes)
    ece = multiclass_calibration_error(
        logits.softmax(dim=1), labels, num_classes=classes, n_bins=bins
    )
    never = logits.gather(1, labels[:, None]).squeeze(1) <= NEVER
    return Scores(
        accuracy=right.mean().item(),
        per_class=tuple((hits / counts).tolist()),
        nll=_likelihood(logits, labels, never),
        ece=float(ece),
        never=never.double().mean().item(),
    )


def _likelihood(logits: Tensor, labels: Tensor, never: Tensor) -> float:
    """Return the mean negative log-likelihood, with the floor of what is never predicted."""
    if not bool(never.any()):
        return cross_entropy(logits, labels).item()
    each = cross_entropy(logits, labels, reduction="none")
    return torch.where(never, FLOOR, each).mean().item()
