"""How pixels become what networks see, and back: one mean and one deviation for each channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalisation:
    """Pixels in [0, 1], less the mean, divided by the deviation.

    Calling it normalises images.

    Attributes:
        mean: One value a channel.
        std: Likewise, above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Return images in normalised space.

        Args:
            images: (..., C, H, W): uint8 pixels, or floats that are normalised already.

        Returns:
            float32 of the same shape on the same device; the same tensor where there is nothing to
            do.
        """
        if images.dtype != torch.uint8:
            return images.float()
        scale, bias = _affine(self, images.device)
        return images.float().mul_(scale).add_(bias)

    def of_unit(self, images: Tensor) -> Tensor:
        """Return pixels in [0, 1], (..., C, H, W) float32, in normalised space; gradients pass."""
        scale, bias = _affine(self, images.device)
        return images * (255 * scale) + bias

    def black(self, device: torch.device) -> Tensor:
        """Return what black is in normalised space, (C, 1, 1) float32. It must not be changed."""
        return _affine(self, device)[1]

    def to_pixels(self, images: Tensor) -> Tensor:
        """Return images as the nearest pixels; what lies beyond black or white becomes that.

        Args:
            images: (N, C, H, W): floats in normalised space, or uint8.

        Returns:
            (N, C, H, W) uint8; the same tensor where it is that.
        """
        if images.dtype == torch.uint8:
            return images
        return self._levels(images).clamp_(0, 255).to(torch.uint8)

    def clipped(self, images: Tensor) -> float:
        """Return the share of values that ``to_pixels`` has to clip, in [0, 1]."""
        if images.dtype == torch.uint8 or not images.numel():
            return 0.0
        levels = self._levels(images)
        return float(((levels < 0) | (levels > 255)).double().mean())

    def to_json(self) -> dict[str, list[float]]:
        """Return the constants as JSON values."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, values: Mapping[str, Sequence[float]]) -> Self:
        """Return what ``to_json`` wrote."""
        return cls(tuple(values["mean"]), tuple(values["std"]))

    def _levels(self, images: Tensor) -> Tensor:
        """Return floats as pixel levels in float64, rounded and not clipped."""
        mean, std = (
            torch.tensor(part, dtype=torch.float64, device=images.device).view(-1, 1, 1)
            for part in (self.mean, self.std)
        )
        return (images.double() * std + mean).mul_(255).round_()


@lru_cache(maxsize=64)
def _affine(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return scale and bias, (C, 1, 1) each, that take bytes to normalised values.

    Kept, because a batch would wait for them on their way to a GPU.
    """
    centre = torch.tensor(normalisation.mean, dtype=torch.float64).view(-1, 1, 1)
    spread = torch.tensor(normalisation.std, dtype=torch.float64).view(-1, 1, 1)
    return (1 / (255 * spread)).float().to(device), (-centre / spread).float().to(device)
