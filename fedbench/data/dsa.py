"""Differentiable Siamese augmentation: one random operation, through which gradients reach pixels.

Where ``fedbench.data.augment`` moves bytes on their way into training, this changes normalised
floats, and synthetic images learn through it. Siamese: one set of parameters for a whole batch, so
that real and synthetic images of a class are changed alike; otherwise each image has its own. All
parameters are drawn on the CPU, so that a client and a server agree whatever their devices are (the
reference codes draw some of them on the device).

Source: Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021,
https://arxiv.org/abs/2102.08259, and the code of DatasetCondensation and CollabDM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from fedbench.data.augment import padding
from fedbench.errors import SettingsError, did_you_mean

Op = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]
OPS: tuple[Op, ...] = get_args(Op)
#: All operations, as the reference codes write them.
STRATEGY = "color_crop_cutout_flip_scale_rotate"  # DSA, DM, CollabDM

_SCALE = 1.2  # DSA
_ANGLE = math.radians(15)  # DSA


@dataclass(frozen=True)
class Draw:
    """One operation and its parameters.

    Attributes:
        op: Which one.
        values: (n, p) on the CPU, n being 1 (shared by all images) or the number of images:
            ``color`` three numbers in [0, 1) for brightness, saturation and contrast; ``crop`` the
            window's row and column in the padded image; ``cutout`` row and column of the square's
            centre; ``flip`` 0 or 1; ``scale`` a factor for each axis, above 1 shrinking what is
            seen; ``rotate`` an angle in radians.
    """

    op: Op
    values: Tensor


def parse(strategy: str | Sequence[str]) -> tuple[Op, ...]:
    """Return the operations of a strategy.

    Args:
        strategy: Names, or names joined by ``_`` such as ``color_crop``; ``none`` or nothing for
            no operation.

    Raises:
        SettingsError: There is no such operation.
    """
    names = strategy.split("_") if isinstance(strategy, str) else list(strategy)
    if names in ([], [""], ["none"]):
        return ()
    for name in names:
        if name not in OPS:
            raise SettingsError(
                f"augmentation {strategy!r} has no operation {name!r}{did_you_mean(name, OPS)}; "
                f"join some of {', '.join(OPS)} by '_', or write none"
            )
    return tuple(op for name in names for op in OPS if op == name)


def draw(ops: Sequence[Op], size: int, generator: torch.Generator, count: int = 1) -> Draw | None:
    """Draw one operation of several, and its parameters.

    Args:
        ops: Each as likely as any other.
        size: Height and width of the images in pixels.
        generator: On the CPU; it is advanced.
        count: Sets of parameters: 1 for all images together, or one for each.

    Returns:
        The draw, or None where there is no operation.
    """
    if not ops:
        return None
    op = ops[int(torch.randint(len(ops), (), generator=generator))]

    def integers(bound: int, columns: int) -> Tensor:
        return torch.randint(bound, (count, columns), generator=generator)

    def uniform(columns: int) -> Tensor:
        return torch.rand(count, columns, generator=generator)

    if op == "color":
        values = uniform(3)
    elif op == "crop":
        values = integers(2 * padding(size) + 1, 2)
    elif op == "cutout":
        values = integers(size + 1 - _cutout_side(size) % 2, 2)
    elif op == "flip":
        values = integers(2, 1)
    elif op == "scale":
        values = uniform(2) * (_SCALE - 1 / _SCALE) + 1 / _SCALE
    else:
        values = (2 * uniform(1) - 1) * _ANGLE
    return Draw(op, values)


def apply(images: Tensor, draw: Draw | None) -> Tensor:
    """Change images as a draw says; gradients pass to every pixel that is still seen.

    Args:
        images: (N, C, S, S) normalised floats.
        draw: With one set of parameters, or N; None changes nothing.

    Returns:
        (N, C, S, S); what was not seen before is 0, the mean colour.
    """
    if draw is None:
        return images
    # Autocast would round the sampling grid to bfloat16: half a pixel.
    with torch.autocast(images.device.type, enabled=False):
        # Not blocking: a GPU would be idle until all that was asked of it before is done.
        return _APPLY[draw.op](images, draw.values.to(images.device, non_blocking=True))


def _color(images: Tensor, values: Tensor) -> Tensor:
    brightness, saturation, contrast = values.view(-1, 3, 1, 1, 1).unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def _crop(images: Tensor, values: Tensor) -> Tensor:
    count, channels, size, _ = images.shape
    edge = padding(size)
    steps = torch.arange(size, device=images.device)
    rows = (values[:, :1] + steps) * (size + 2 * edge)
    places = (rows.unsqueeze(2) + (values[:, 1:] + steps).unsqueeze(1)).view(-1, 1, size * size)
    padded = functional.pad(images, (edge, edge, edge, edge)).flatten(2)
    return padded.gather(2, places.expand(count, channels, -1)).view_as(images)


def _cutout(images: Tensor, values: Tensor) -> Tensor:
    size = images.shape[-1]
    side = _cutout_side(size)
    start = values - side // 2
    steps = torch.arange(size, device=images.device)
    rows, columns = (
        (steps >= first) & (steps < first + side) for first in start.unsqueeze(2).unbind(1)
    )
    hidden = rows.unsqueeze(2) & columns.unsqueeze(1)
    return images * ~hidden.unsqueeze(1)


def _cutout_side(size: int) -> int:
    return int(0.5 * size + 0.5)


def _flip(images: Tensor, values: Tensor) -> Tensor:
    return torch.where(values.view(-1, 1, 1, 1) == 1, images.flip(-1), images)


def _scale(images: Tensor, values: Tensor) -> Tensor:
    zero = torch.zeros_like(values[:, 0])
    return _warp(images, [[values[:, 0], zero], [zero, values[:, 1]]])


def _rotate(images: Tensor, values: Tensor) -> Tensor:
    sine, cosine = values[:, 0].sin(), values[:, 0].cos()
    return _warp(images, [[cosine, -sine], [sine, cosine]])


def _warp(images: Tensor, matrix: list[list[Tensor]]) -> Tensor:
    """Sample at matrix·(x, y) for each output place, bilinear; n matrices, or one for all."""
    linear = torch.stack([torch.stack(row, dim=1) for row in matrix], dim=1)
    theta = functional.pad(linear, (0, 1))
    count, _, size, _ = images.shape
    grid = functional.affine_grid(theta, [len(theta), 1, size, size], align_corners=False)
    if images.device.type != "cpu":
        return sample(images, grid)
    return functional.grid_sample(images, grid.expand(count, -1, -1, -1), align_corners=False)


def sample(images: Tensor, grid: Tensor) -> Tensor:
    """Return what ``grid_sample`` does, in a form whose gradient a GPU can repeat.

    Its own adds up in any order there. Each output pixel is made of four picked ones, and torch
    has a deterministic gradient of picking.

    Args:
        images: (N, C, S, S) floats.
        grid: (N or 1, S, S, 2): x and y of each output pixel in [-1, 1], as ``grid_sample`` takes
            them without aligned corners; beyond the image is 0.

    Returns:
        (N, C, S, S), equal to ``grid_sample``'s but for rounding.
    """
    count, channels, size, _ = images.shape
    places, flat = ((grid + 1) * size - 1) / 2, images.flatten(2)
    corner = places.floor()
    (x, y), (right, down) = corner.long().unbind(3), (places - corner).unbind(3)
    total = torch.zeros_like(flat)
    for column, across in ((x, 1 - right), (x + 1, right)):
        for row, along in ((y, 1 - down), (y + 1, down)):
            inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
            weight = (across * along * inside).flatten(1).unsqueeze(1)
            index = (row.clamp(0, size - 1) * size + column.clamp(0, size - 1)).flatten(1)
            if len(grid) == 1:  # picked along the last axis for all images at once
                picked = flat.index_select(2, index[0])
            else:
                picked = flat.gather(2, index.unsqueeze(1).expand(count, channels, -1))
            total = total + picked * weight
    return total.view_as(images)


_APPLY: dict[Op, Callable[[Tensor, Tensor], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
