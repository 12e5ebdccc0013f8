"""ConvNet: the network of dataset distillation (DM, MTT, CollabDM).

Blocks of 3x3 convolution, normalisation, ReLU and 2x2 average pooling, then one linear layer on
the flattened map. It differs from `dense_cnn` by normalisation, by padding and by average instead
of max-pooling. "Instance norm" is GroupNorm with one group a channel and learnt scales, as in the
reference codes.

Source: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023,
https://arxiv.org/abs/2110.04181.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

from fedbench.models.net import FlatNet
from fedbench.models.pooling import HalvingPool

if TYPE_CHECKING:
    from fedbench.models.settings import Norm


class ConvNet(FlatNet):
    """ConvNet with PyTorch's default initialisation.

    Args:
        channels: Of the images. With one, the first convolution pads by 3 instead of 1, at every
            image size: maps are 4 pixels larger, so 28x28 gives the maps of 32x32.
        size: Height of the images in pixels, at least 2**depth.
        classes: Number of logits.
        width: Channels of each convolution.
        depth: Number of blocks; each halves the map, rounding down.
        norm: Normalisation after each convolution.
    """

    def __init__(
        self, *, channels: int, size: int, classes: int, width: int, depth: int, norm: Norm
    ) -> None:
        first_padding = 3 if channels == 1 else 1  # DM, MTT, CollabDM
        layers: list[nn.Module] = []
        for block in range(depth):
            layers += [
                nn.Conv2d(
                    width if block else channels, width, 3, padding=1 if block else first_padding
                ),
                *_normalisation(norm, width),
                nn.ReLU(),
                HalvingPool(),
            ]
        last = (size + 2 * (first_padding - 1)) // 2**depth
        super().__init__(nn.Sequential(*layers), width * last**2, classes)


def _normalisation(norm: Norm, width: int) -> list[nn.Module]:
    """Return the layer of that name, or nothing for ``none``."""
    if norm == "instance":
        return [nn.GroupNorm(width, width)]
    if norm == "group":
        # DM: 4 groups. Ours where 4 does not divide the width: the most that do, of 4's divisors.
        return [nn.GroupNorm(math.gcd(4, width), width)]
    return [nn.BatchNorm2d(width)] if norm == "batch" else []
