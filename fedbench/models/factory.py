"""Settings to networks: the one place that builds and initialises them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from fedbench.errors import ModelError
from fedbench.models.families import MODELS
from fedbench.models.initialisation import start
from fedbench.models.settings import Model, why_not
from fedbench.registry import imported
from fedbench.seeding import isolated

if TYPE_CHECKING:
    from fedbench.models.net import Net


def build(
    model: Model, *, channels: int, size: int, classes: int, seed: int, device: str = "cpu"
) -> Net:
    """Build a network on the CPU, in training mode, with weights that the seed alone decides.

    The global generators are as before afterwards. Nothing is cached: copying a small network takes
    as long as building it.

    Args:
        model: Which architecture, with its options.
        channels: Channels of the images.
        size: Height, which equals the width, of the images in pixels.
        classes: Number of logits, at least 1.
        seed: An integer in [0, 2**63), usually from ``seeding.derive``.
        device: Type of the device that the network is for. It decides the memory format (see
            ``Family``), which lasts: copies, moves and ``load_state_dict`` keep it. Maps follow the
            weights, so nobody has to convert images; what is sent, kept or hashed is contiguous.

    Raises:
        ModelError: The images are smaller than the architecture takes.
    """
    if (reason := why_not(model, size)) is not None:
        raise ModelError(reason)
    family = MODELS.get(model.name)
    make: Callable[..., Net] = imported(family.build)
    options = {option: getattr(model, option) for option in family.options}
    with isolated(seed):
        net = make(channels=channels, size=size, classes=classes, **options)
        if model.initialisation is not None:
            start(net, model.initialisation)
    if family.channels_last and device == "cpu":
        net.to(memory_format=torch.channels_last)
    return net


def parameter_count(net: Net) -> int:
    """Return the number of weights, P; buffers such as BatchNorm's statistics are not in it."""
    return sum(parameter.numel() for parameter in net.parameters())
