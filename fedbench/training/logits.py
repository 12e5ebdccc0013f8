"""Bounds on the length of logits, for losses: a client's cross entropy, a student's distillation.

Two readings exist. S1's code, with factor s, leaves a row alone whose Euclidean length is at most
1/s and gives every other one the length s: since 1/s = 0.4 is nearly always exceeded, that sets
the length, with a jump at the threshold. LogitClip proper (Wei et al. 2023,
https://arxiv.org/abs/2212.04055) cuts to the bound what is longer, without a jump.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class LogitBound:
    """A bound on each row's Euclidean length.

    Attributes:
        length: The bound s, above 0.
        rule: ``jump`` (S1's code): longer than 1/s becomes s long; ``clip``: longer than s becomes
            s long.
    """

    length: float
    rule: Literal["jump", "clip"] = "jump"

    def __call__(self, logits: Tensor) -> Tensor:
        """Return (..., classes) logits, each row bounded; the largest one stays the largest."""
        lengths = logits.norm(dim=-1, keepdim=True)
        threshold = 1 / self.length if self.rule == "jump" else self.length
        scale = self.length / lengths.clamp_min(threshold)
        return torch.where(lengths > threshold, logits * scale, logits)
