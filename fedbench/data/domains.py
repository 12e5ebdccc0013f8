"""Feature skew: named, seeded transformations that make every client's images look otherwise.

The papers' domains (photographs, sketches, paintings of the same classes) are other data sets;
these are photometric stand-ins on any data set. What a transformation draws (a colour, an angle)
is drawn once for a client, noise for each image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional

from fedbench.data.settings import DOMAINS_VERSION, Domain
from fedbench.seeding import generator

#: Of (N, C, S, S) float32 images in [0, 1] and a CPU generator: the same, transformed.
Transform = Callable[[Tensor, torch.Generator], Tensor]
#: Images that are transformed at once.
_CHUNK = 4096


def transform(images: Tensor, domain: Domain, seed: int, client: int, which: str) -> Tensor:
    """Return a client's view of images.

    On the CPU, so that a GPU sees the same bytes.

    Args:
        images: (N, C, S, S) uint8.
        domain: The client's.
        seed: The cell's.
        client: 0 to K-1.
        which: Tells draws for each image apart: ``train``, ``validation`` or ``test``.

    Returns:
        The same shape, type and device.
    """
    if domain == "plain" or not len(images):
        return images
    found = []
    for number, part in enumerate(torch.split(images.cpu(), _CHUNK)):
        # Drawn first and from a generator of its own, so that all images have the client's.
        fixed = generator(seed, "domain", domain, client)
        each = generator(seed, "domain", domain, client, which, number)
        source = each if domain == "noise" else fixed
        moved = _TRANSFORMS[domain](part.float() / 255, source)
        found.append((moved * 255).round_().clamp_(0, 255).to(torch.uint8))
    return torch.cat(found).to(images.device)


def domain_of(domains: tuple[Domain, ...] | None, client: int) -> Domain:
    """Return a client's domain: number k modulo their number; ``plain`` where there are none."""
    return domains[client % len(domains)] if domains else "plain"


def domain_name(domain: Domain) -> str:
    """Return what names a domain in keys: of a later version with its number."""
    if domain == "plain" or DOMAINS_VERSION == 1:
        return domain
    return f"{domain}/{DOMAINS_VERSION}"


def _invert(images: Tensor, source: torch.Generator) -> Tensor:
    return 1 - images


def _tint(images: Tensor, source: torch.Generator) -> Tensor:
    """Blend half and half with one colour, in grey images with one grey."""
    colour = torch.rand(images.shape[1], generator=source).view(1, -1, 1, 1)
    return 0.5 * images + 0.5 * colour


def _blur(images: Tensor, source: torch.Generator) -> Tensor:
    """Blur by a Gaussian whose deviation is a 24th of the image's size."""
    spread = images.shape[-1] / 24
    reach = math.ceil(2 * spread)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1).float() ** 2) / (2 * spread**2))
    kernel = kernel / kernel.sum()
    channels = images.shape[1]
    wide = functional.pad(images, (reach,) * 4, mode="replicate")
    down = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    along = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    return functional.conv2d(functional.conv2d(wide, down, groups=channels), along, groups=channels)


def _rotate(images: Tensor, source: torch.Generator) -> Tensor:
    """Rotate by 30 to 60 degrees, either way; what comes in is black."""
    degrees = 30 + 30 * float(torch.rand((), generator=source))
    sign = 1 if torch.rand((), generator=source) < 0.5 else -1
    cos, sin = math.cos(math.radians(sign * degrees)), math.sin(math.radians(sign * degrees))
    turn = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(len(images), 2, 3)
    grid = functional.affine_grid(turn, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def _low_contrast(images: Tensor, source: torch.Generator) -> Tensor:
    """Keep 30 % of the distance to middle grey."""
    return 0.5 + 0.3 * (images - 0.5)


def _noise(images: Tensor, source: torch.Generator) -> Tensor:
    """Add normal noise of a deviation of a quarter, to each image its own."""
    return images + 0.25 * torch.randn(images.shape, generator=source)


def _edge(images: Tensor, source: torch.Generator) -> Tensor:
    """Return the size of Sobel's gradient, by channel."""
    slope = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
    channels = images.shape[1]
    wide = functional.pad(images, (1,) * 4, mode="replicate")
    both = torch.stack([slope, slope.T]).unsqueeze(1).repeat(channels, 1, 1, 1)
    found = functional.conv2d(wide, both, groups=channels)
    return found.view(len(images), channels, 2, *images.shape[2:]).square().sum(2).sqrt()


_TRANSFORMS: Mapping[Domain, Transform] = {
    "plain": lambda images, _: images,
    "invert": _invert,
    "tint": _tint,
    "blur": _blur,
    "rotate": _rotate,
    "low_contrast": _low_contrast,
    "noise": _noise,
    "edge": _edge,
}
assert set(_TRANSFORMS) == set(get_args(Domain))
