"""Outputs of a network over many images, in eval mode and float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fedbench.data.loaders import batches


@torch.inference_mode()
def outputs(
    model: nn.Module,
    images: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    batch_size: int,
    what: Literal["logits", "features"] = "logits",
) -> Tensor:
    """Return a network's outputs for every image.

    Args:
        model: Moved to the device and left in eval mode.
        images: (N, C, H, W), uint8 pixels or already normalised floats.
        mean: Normalisation of uint8 pixels, one value a channel.
        std: Likewise.
        device: Where to compute.
        batch_size: Images in a forward pass.
        what: ``logits``, or penultimate ``features`` of a ``Net``.

    Returns:
        (N, classes) or (N, d) float32 on the device.
    """
    model.to(device).eval()
    call: Callable[[Tensor], Tensor] = model if what == "logits" else getattr(model, what)
    images = images.to(device)
    parts: Iterable[Tensor] = (
        batches(images, batch_size, mean, std)
        if images.dtype == torch.uint8
        else torch.split(images, batch_size)
    )
    return torch.cat([call(part) for part in parts]).float()
