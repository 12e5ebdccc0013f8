"""FedAvg whose clients are held near the weights that they received.

Li et al. 2020, https://arxiv.org/abs/1812.06127. The local loss gains (μ/2)·‖θ−θ_r‖²; with μ = 0
this is FedAvg bit for bit. S1's code squares the sum of the differences instead, which is not
FedProx and not offered.
"""

from __future__ import annotations

from pydantic import Field

from fedbench.federation.method import Course
from fedbench.methods.fedavg import FedAvg, FedAvgConfig


class FedProxConfig(FedAvgConfig):
    """Settings of FedProx."""

    mu: float = Field(0.01, ge=0)  # fedbench: of the grid .001, .01, .1, 1
    """Weight of the proximal term."""


class FedProx(FedAvg):
    """FedAvg with a proximal term in the local loss."""

    name = "fedprox"
    course = Course(
        down="a seed, then weights, R-1 times",
        client="trains, held near what it was sent",
        up="weights, R times",
        server="averages weights by numbers of images",
    )
    control = False
    Config = FedProxConfig
    config: FedProxConfig

    def proximal(self) -> float:
        """Return μ."""
        return self.config.mu
