"""How many distillation steps a student makes: in each round, for each size of network."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from fedbench.settings import Settings


class StepSchedule(Settings):
    """Steps over rounds and architectures; the method's own `steps` are the most."""

    kind: Literal["constant", "cosine"] = "constant"  # S1's headline runs
    """`cosine` falls from the most to the fewest over a period, and starts again."""
    fewest: int = Field(100, ge=0)  # S1, with 250 as the other value
    """Fewest steps."""
    period: int = Field(5, ge=1)  # S1, aligned with its warm start
    """Rounds from one peak to the next, I_s; 1 stays at the peak."""
    by_size: bool = False  # fedbench: S1's text suggests it, its code has none
    """The largest architecture makes all steps, smaller ones fewer, in proportion to the logarithm
    of their number of weights but never fewer than the fewest."""

    def least(self, most: int) -> int:
        """Return how few steps a student may make in a round.

        Args:
            most: Steps at the peak.
        """
        varies = self.by_size or (self.kind == "cosine" and self.period > 1)
        return min(self.fewest, most) if varies else most

    def steps(self, most: int, round: int, *, size: int, largest: int) -> int:
        """Return the steps of one student in one round.

        S1's code peaks in the first round and in those divisible by the period.

        Args:
            most: Steps at the peak, S_max.
            round: From 1.
            size: The student's number of weights.
            largest: That of the largest student.
        """
        fewest = min(self.fewest, most)
        if self.kind == "cosine" and self.period > 1 and round > 1:
            place = round % self.period
            fall = place / (self.period - 1)
            most = int(fewest + (most - fewest) * (1 + math.cos(math.pi * fall)) / 2)
        if not self.by_size:
            return most
        return max(fewest, int(most * (math.log(size) / math.log(largest))))
