"""The generator of DENSE: noise to images, made anew for every batch of them.

Zhang et al. 2022, DENSE, https://arxiv.org/abs/2112.12371, and its code; Co-Boosting has the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedbench.errors import ModelError
from fedbench.seeding import isolated

#: It begins with maps of a quarter of the images' height and doubles them twice.
FACTOR = 4  # DENSE
_SPREAD = 0.02  # DENSE: of all initial weights
_SLOPE = 0.2  # DENSE: of LeakyReLU


def why_not(size: int) -> str | None:
    """Say why the generator cannot make images of a height in pixels, or return None if it can."""
    if size % FACTOR == 0:
        return None
    below = size - size % FACTOR
    return (
        f"the generator doubles its maps twice, so it makes images of a multiple of {FACTOR} "
        f"pixels and these have {size}x{size}; set data.image_size to {below} or {below + FACTOR}"
    )


class Generator(nn.Module):
    """Makes images of noise: a linear layer, three convolutions, two doublings, a sigmoid.

    Args:
        channels: Of the images.
        size: Their height in pixels, a multiple of 4.
        noise: Numbers that an image is made of.
        width: Maps of the last but one layer; those before have twice as many.
        source: Draws the weights. On the CPU; it is advanced.

    Attributes:
        shape: Of an image: channels, height, width.

    Raises:
        ModelError: It cannot make images of this size.
    """

    def __init__(
        self, channels: int, size: int, noise: int, width: int, source: torch.Generator
    ) -> None:
        super().__init__()
        if (reason := why_not(size)) is not None:
            raise ModelError(reason)
        self.shape = (channels, size, size)
        wide, self._start = 2 * width, size // FACTOR
        with isolated(0):  # torch draws weights as well, globally
            self.first = nn.Linear(noise, wide * self._start**2)
            self.body = nn.Sequential(
                nn.BatchNorm2d(wide),
                nn.Upsample(scale_factor=2),
                nn.Conv2d(wide, wide, 3, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.LeakyReLU(_SLOPE),
                nn.Upsample(scale_factor=2),
                nn.Conv2d(wide, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(_SLOPE),
                nn.Conv2d(width, channels, 3, padding=1),
                nn.Sigmoid(),
            )
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.BatchNorm2d):
                centre = 1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0
                nn.init.normal_(layer.weight, centre, _SPREAD, generator=source)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, noise: Tensor) -> Tensor:
        """Return (B, channels, size, size) float32 pixels in [0, 1] of (B, noise) numbers."""
        maps = self.first(noise).view(len(noise), -1, self._start, self._start)
        images: Tensor = self.body(maps)
        return images.float()
