"""What an image costs on its way through a network, for estimates of time."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from fedbench.models.factory import build
from fedbench.models.settings import Model


@cache
def multiplications(model: Model, *, channels: int, size: int) -> int:
    """Return the multiply-adds of one image's forward pass, in convolutions and linear layers.

    Torch's own counter of operations would import its compiler, for seconds.

    Args:
        model: The architecture.
        channels: Of the images.
        size: Their height in pixels.

    Raises:
        ModelError: The images are smaller than the architecture takes.
    """
    net = build(model, channels=channels, size=size, classes=10, seed=0).eval()
    found: list[int] = []

    def hear(layer: nn.Module, _: object, out: Tensor) -> None:
        assert isinstance(layer.weight, Tensor)
        found.append(out.numel() * layer.weight[0].numel())

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(hear)
    with torch.no_grad():
        net(torch.zeros(1, channels, size, size))
    return sum(found)
