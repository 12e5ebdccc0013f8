"""What an image costs on its way through a network, for estimates of time."""

from __future__ import annotations

from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from fedbench.models.factory import build
from fedbench.models.settings import Model


@cache
def multiplications(model: Model, *, channels: int, size: int) -> int:
    """Return the multiply-adds of one image's forward pass.

    Args:
        model: The architecture.
        channels: Of the images.
        size: Their height in pixels.

    Raises:
        ModelError: The images are smaller than the architecture takes.
    """
    net = build(model, channels=channels, size=size, classes=10, seed=0).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(torch.zeros(1, channels, size, size))
    return int(counter.get_total_flops() // 2)
