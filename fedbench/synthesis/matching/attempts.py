"""One client's attempt to distil: what moves, how it is judged, and whether anything came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fedbench.synthesis.matching.trajectories import Gradient

Which = Literal["best", "last"]

#: How a client's distillation came to nothing; their places are the codes of ``ill``.
ILL = (
    "",
    "it diverged",
    "its loss did not fall",
    "no set did better on the hold-out than the images it began with",
)
#: Iterations over which losses are averaged, because each begins at another epoch: S5's figures.
WINDOW = 30

_LOST = 1e3  # a loss from which no student came back: a thousand times an expert's step


@dataclass(frozen=True)
class Rates:
    """How images and the student's learning rate move.

    Attributes:
        images: Learning rate of the images.
        lr: Learning rate of the student's learning rate, or of its logarithm.
        momentum: Of both.
        log: Whether it is of the logarithm.
        floor: Below this the student's learning rate does not fall.
    """

    images: float
    lr: float
    momentum: float
    log: bool
    floor: float


class Attempt:
    """One distillation from its beginning.

    Args:
        images: (n, C, S, S) normalised floats to start from.
        lr: The student's learning rate to start from.
        rates: How both move.

    Attributes:
        kept: All that changes, as stages keep it.
        rates: As given.
    """

    def __init__(self, images: Tensor, lr: float, rates: Rates) -> None:
        self.rates = rates
        start = torch.tensor(lr, device=images.device)
        self.kept: dict[str, Any] = {
            "images": images.clone(),
            "speed": torch.zeros_like(images),
            "lr": start,
            "lr_speed": torch.zeros_like(start),
            "best": images.clone(),
            "losses": [],
            "judged": [],
            "accuracies": [],
            "lrs": [],
            "diverged": False,
        }

    @property
    def images(self) -> Tensor:
        """The images as they are now."""
        found: Tensor = self.kept["images"]
        return found

    @property
    def lr(self) -> Tensor:
        """The student's learning rate as it is now, a number."""
        found: Tensor = self.kept["lr"]
        return found

    @property
    def diverged(self) -> bool:
        """Whether a loss or a gradient was not finite, or the loss was beyond hope."""
        return bool(self.kept["diverged"])

    @property
    def means(self) -> list[float]:
        """Mean accuracies at the iterations that were judged."""
        return [mean_of(each) for each in self.kept["accuracies"]]

    def worth(self, which: Which) -> float:
        """Return the accuracy of the best or the last images; without, how far the loss fell."""
        if not self.means:
            return -mean_of(self.kept["losses"][-WINDOW:])
        return max(self.means) if which == "best" else self.means[-1]

    @property
    def ill(self) -> int:
        """How it came to nothing (see ``ILL``); 0 where it did not."""
        if self.diverged:
            return 1
        losses = self.kept["losses"]
        window = min(WINDOW, len(losses) // 2)
        if window and mean_of(losses[-window:]) >= mean_of(losses[:window]):
            return 2
        return 3 if len(self.means) > 1 and max(self.means) <= self.means[0] else 0

    def judge(self, step: int, accuracies: Sequence[float]) -> None:
        """Note how well networks do that were trained on the images, and keep the best images."""
        if not accuracies:
            return
        kept = self.kept
        if not self.means or mean_of(accuracies) > max(self.means):
            kept["best"] = self.images.clone()
        kept["judged"].append(step)
        kept["accuracies"].append(list(accuracies))
        kept["lrs"].append(float(self.lr))

    def move(self, found: Gradient) -> None:
        """Take a step of SGD with momentum on the images and on the student's learning rate."""
        kept, rates, loss = self.kept, self.rates, float(found.loss)
        finite = bool(found.images.isfinite().all()) and bool(found.lr.isfinite())
        if not (finite and loss < _LOST):
            kept["diverged"] = True
            return
        kept["losses"].append(loss)
        kept["speed"] = rates.momentum * kept["speed"] + found.images
        kept["images"] = self.images - rates.images * kept["speed"]
        slope = found.lr * self.lr if rates.log else found.lr
        kept["lr_speed"] = rates.momentum * kept["lr_speed"] + slope
        move = rates.lr * kept["lr_speed"]
        lr = self.lr * torch.exp(-move) if rates.log else self.lr - move
        kept["lr"] = lr.clamp(min=rates.floor)

    def tensors(self, which: Which) -> dict[str, Tensor]:
        """Return the best or the last images, and how the attempt went.

        Where nothing could be judged, nobody knows which are best, and the last are returned.
        """
        kept = self.kept
        return {
            "images": kept["best"] if which == "best" and kept["judged"] else kept["images"],
            "losses": torch.tensor(kept["losses"]),
            "judged": torch.tensor(kept["judged"]),
            "accuracies": torch.tensor(kept["accuracies"]),
            "lrs": torch.tensor(kept["lrs"]),
        }


def mean_of(values: Sequence[float]) -> float:
    """Return the mean of some values; of none, infinity."""
    return sum(values) / len(values) if values else math.inf
