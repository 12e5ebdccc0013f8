"""What a student learns from teachers' logits: settings and loss, without Lightning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Objective = Literal["avg_logits", "avg_losses", "avg_probs"]
#: Of a batch's normalised images and its columns by name: (K, B, classes) logits.
Teacher = Callable[[Tensor, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Distillation:
    """What a student makes of its teachers' logits.

    Attributes:
        objective: ``avg_logits``: KL from the softmax of averaged logits; ``avg_probs``: from the
            averaged softmax; ``avg_losses``: the average of each teacher's KL.
        temperature: T, above 0; logits are divided by it.
        squared: Multiply the loss by T², which keeps gradients as large as without a temperature
            (Hinton et al. 2015, https://arxiv.org/abs/1503.02531).
        share: Factor of this loss beside that of the labels.
    """

    objective: Objective = "avg_logits"
    temperature: float = 1.0
    squared: bool = False
    share: float = 1.0

    def loss(self, student: Tensor, teachers: Tensor, weights: Tensor) -> Tensor:
        """Return the loss (see ``distillation_loss``), scaled."""
        loss = distillation_loss(student, teachers, weights, self.objective, self.temperature)
        factor = self.share * (self.temperature**2 if self.squared else 1.0)
        return loss if factor == 1 else factor * loss


def distillation_loss(
    student: Tensor,
    teachers: Tensor,
    weights: Tensor,
    objective: Objective = "avg_logits",
    temperature: float = 1.0,
) -> Tensor:
    """Return the mean over a batch of the divergence KL(teachers ‖ student).

    Lin et al. 2020, FedDF, https://arxiv.org/abs/2006.07242.

    Args:
        student: (B, classes) logits.
        teachers: (K, B, classes) logits.
        weights: (K,) summing to 1.
        objective: See ``Distillation``.
        temperature: T > 0.

    Returns:
        A scalar, at least 0 but for rounding.
    """
    guess = (student / temperature).log_softmax(dim=-1)
    scaled = teachers / temperature
    # Products and sums, because autocast would round an einsum to bfloat16.
    shares = weights.view(-1, 1, 1)
    if objective == "avg_losses":
        target = scaled.log_softmax(dim=-1)
        gaps = (target.exp() * (target - guess)).sum(dim=-1).mean(dim=-1)
        return (weights * gaps).sum()
    if objective == "avg_logits":
        target = (shares * scaled).sum(dim=0).log_softmax(dim=-1)
    else:
        mean = (shares * scaled.softmax(dim=-1)).sum(dim=0)
        target = mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
    return functional.kl_div(guess, target, reduction="batchmean", log_target=True)
