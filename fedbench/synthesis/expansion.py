"""Partition and expand: a canvas stores l x l small images, each enlarged before it is used.

One canvas of H x H pixels counts as one image in a budget, and trains a network with l² of them.

Source: Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022,
https://arxiv.org/abs/2205.14959; Zhao et al., "Improved Distribution Matching for Dataset
Condensation", CVPR 2023, https://arxiv.org/abs/2307.09742; the order of the tiles is CollabDM's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fedbench.errors import SettingsError


def check(factor: int, size: int) -> str | None:
    """Say why canvases of a size cannot be partitioned, or return None if they can.

    Args:
        factor: l, tiles along each axis.
        size: Height and width of a canvas in pixels.
    """
    if size % factor == 0:
        return None
    fits = [number for number in range(1, min(size // 2, 8) + 1) if size % number == 0]
    return (
        f"expansion factor {factor} does not divide images of {size}x{size} pixels; "
        f"use one of {', '.join(map(str, fits))}, or set data.image_size to a multiple of {factor}"
    )


def enlarge(canvases: Tensor, factor: int) -> Tensor:
    """Cut every canvas into tiles and enlarge each to the canvas' size.

    Args:
        canvases: (N, C, S, S) floats.
        factor: l; 1 changes nothing.

    Returns:
        (l²·N, C, S, S): first the top left tile of every canvas, then the one below it, and so on,
        column after column. Bilinear, so gradients reach every pixel of the canvas.

    Raises:
        SettingsError: The factor does not divide the size.
    """
    if factor == 1:
        return canvases
    count, channels, size, _ = canvases.shape
    if (problem := check(factor, size)) is not None:
        raise SettingsError(problem)
    small = size // factor
    tiles = canvases.view(count, channels, factor, small, factor, small)
    tiles = tiles.permute(4, 2, 0, 1, 3, 5).reshape(-1, channels, small, small)
    if tiles.device.type != "cpu":
        return stretch(tiles, size)
    return functional.interpolate(tiles, size=(size, size), mode="bilinear", align_corners=False)


def stretch(images: Tensor, size: int) -> Tensor:
    """Return what bilinear ``interpolate`` does, as two matrix products.

    The gradient of torch's own adds up in any order on a GPU, and the form that torch takes there
    when it is asked to repeat itself sorts places; products repeat themselves and are quick.

    Args:
        images: (N, C, s, s) floats.
        size: S, new height and width in pixels.

    Returns:
        (N, C, S, S), equal to ``interpolate``'s but for rounding.
    """
    small = images.shape[-1]
    steps = torch.arange(size, device=images.device, dtype=images.dtype)
    places = ((steps + 0.5) * (small / size) - 0.5).clamp(0, small - 1)
    pixels = torch.arange(small, device=images.device, dtype=images.dtype)
    weights = (1 - (places.unsqueeze(1) - pixels).abs()).clamp_min(0)
    # Autocast would round the products to bfloat16.
    with torch.autocast(images.device.type, enabled=False):
        return weights @ images @ weights.T


def expand(canvases: Tensor, labels: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return what a set of canvases (see ``enlarge``) and their labels train a network with.

    Args:
        canvases: (N, C, S, S) floats.
        labels: (N,) class ids or (N, classes) soft ones.
        factor: l.

    Returns:
        (l²·N, C, S, S) and as many labels.
    """
    return enlarge(canvases, factor), torch.cat([labels] * factor**2)


def compose(images: Tensor, factor: int) -> Tensor:
    """Shrink images and lay them out on canvases: where canvases start from.

    Args:
        images: (l²·N, C, S, S) floats in the order that ``enlarge`` gives: N images for the tiles
            at the top left, then N for those below them, and so on.
        factor: l; 1 changes nothing.

    Returns:
        (N, C, S, S); each tile is the exact mean over l x l pixels of its image.

    Raises:
        SettingsError: The factor does not divide the size.
    """
    if factor == 1:
        return images
    _, channels, size, _ = images.shape
    if (problem := check(factor, size)) is not None:
        raise SettingsError(problem)
    small = size // factor
    tiles = functional.avg_pool2d(images, factor).view(factor, factor, -1, channels, small, small)
    return tiles.permute(2, 3, 1, 4, 0, 5).reshape(-1, channels, size, size)
