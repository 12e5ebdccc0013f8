"""Features and logits of many images from one forward pass, also in bfloat16.

``fedbench.evaluation.predict.outputs`` gives one of the two, always in float32; for both it would
go through the network twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from fedbench.data.loaders import batches
from fedbench.models.net import Net

#: Images in a forward pass, by device and whether it is in bfloat16, whose maps take half the
#: cache: on a CPU core ResNet-8 and ConvNet of width 32 were a third quicker with 128 than with 64.
_BATCH = {("cpu", False): 64, ("cpu", True): 128}
_BATCH_ELSEWHERE = 1000


@torch.no_grad()
def describe(
    net: Net,
    images: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    autocast: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return a network's penultimate features and logits for every image.

    Args:
        net: Moved to the device; computes in eval mode and is put back as it was.
        images: (N, C, H, W), uint8 pixels or already normalised floats.
        mean: Normalisation of uint8 pixels, one value a channel.
        std: Likewise.
        device: Where to compute.
        autocast: Compute features in bfloat16 where torch deems that safe, and keep them so, which
            takes half the memory. Logits are computed from them in float32, because rounded ones
            would hardly tell one confident image from another.

    Returns:
        (N, d) features, float32 or bfloat16, and (N, classes) float32 logits, on the device.
    """
    modes = [(module, module.training) for module in net.modules()]
    net.to(device).eval()
    images = images.to(device)
    size = _BATCH.get((device.type, autocast), _BATCH_ELSEWHERE)
    parts: Iterable[Tensor] = (
        batches(images, size, mean, std)
        if images.dtype == torch.uint8
        else torch.split(images, size)
    )
    try:
        found = [_describe(net, part, autocast) for part in parts]
    finally:
        for module, training in modes:
            module.training = training
    features, logits = zip(*found, strict=True)
    return torch.cat(features), torch.cat(logits)


def _describe(net: Net, images: Tensor, autocast: bool) -> tuple[Tensor, Tensor]:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
        features = net.features(images)
    if autocast:
        # Some layers leave autocast in float32.
        features = features.bfloat16()
    return features, net.head(features.float())
