"""What a student learns from teachers' logits: settings and loss, without Lightning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from fedbench.training.logits import LogitBound

Objective = Literal["avg_logits", "avg_losses", "avg_probs"]
#: Of a batch's normalised images and their positions in the public set: (K, B, classes) logits.
Teacher = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Distillation:
    """How a student is distilled.

    Attributes:
        lr: Adam's learning rate.
        steps: Length of the schedule.
        schedule: ``cosine`` falls to 0 at the last step.
        clip_norm: Largest norm of the gradient; None does not clip.
        temperature: T; logits are divided by it, and the loss is not multiplied by T².
        objective: ``avg_logits``: KL from the softmax of averaged logits; ``avg_probs``: from the
            averaged softmax; ``avg_losses``: the average of each teacher's KL.
        logit_bound: Bound on the student's logits in the loss.
    """

    lr: float
    steps: int
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: float | None = None
    temperature: float = 1.0
    objective: Objective = "avg_logits"
    logit_bound: LogitBound | None = None


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
