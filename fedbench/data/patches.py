"""The crop bank: many small training images cut from one shared picture.

``augment`` moves the pixels of ready images a little; here images are made, each from a random
window of one picture: cut, scaled, rotated, sheared and recoloured. Crop i depends on the picture,
the settings, the seed and i only, so whoever holds the picture makes the same bank, a part of it
can be named by numbers, and a small bank is the beginning of a large one. The recipe is that of
S1 (https://github.com/sunnysoni97/single_image_fl, make_single_img_dataset.py, after Asano and
Saeed 2021, https://arxiv.org/abs/2112.00725), without its JPEG files.

All draws and colours are computed for many crops at once. Pixels are moved by Pillow, in as many
threads as torch has: its fixed-point arithmetic gives the same bytes on every machine. A large
window is cut from a copy of the picture that is already scaled down, made once for all windows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fedbench.errors import DataError, SettingsError
from fedbench.seeding import numpy_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 256  # crops a thread makes at a time: a megabyte, and fine enough for progress
#: Pixels that a scaled-down copy keeps, at least, for each of a scaled window's along one axis:
#: crops then differ from S1's by 0.7 of 255 grey levels on average; its JPEG files cost 8.
_SPARE = 1.25
_MAX_TRIES = 1000


@dataclass(frozen=True)
class CropSettings:
    """How crops are made; the defaults are those of S1's released code."""

    square: float = 0.5  # S1
    """Side of the random square that a window lies in, as a share of the picture's smaller side."""
    area: tuple[float, float] = (1 / 500, 1.0)  # S1
    """Bounds of the window's area, uniform, as a share of the square's."""
    aspect: tuple[float, float] = (3 / 4, 4 / 3)  # S1
    """Bounds of the window's width over its height, log-uniform."""
    oversize: float = math.sqrt(2)  # S1
    """Side that a window is scaled to, in sides of the crop that is cut from its middle."""
    angle: float = 30.0  # S1
    """Largest rotation either way, in degrees."""
    shear: float = 30.0  # S1
    """Largest shear along x either way, in degrees."""
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"  # S1's code; its text flips
    """Mirrored with probability 0.5 in each direction that is named."""
    jitter: float = 0.5  # S1
    """Probability that a crop's colours are changed."""
    brightness: float = 0.4  # S1
    """The factor is uniform in [1 - x, 1 + x]; also for contrast and saturation."""
    contrast: float = 0.4  # S1
    saturation: float = 0.4  # S1
    hue: float = 0.1  # S1
    """Largest turn of the hue either way, in turns; at most 0.5."""


@dataclass(frozen=True)
class Draws:
    """The random part of N crops, on the CPU.

    Attributes:
        windows: (N, 4) int64: left, top, width and height in pixels of the picture.
        angle: (N,) in degrees, clockwise.
        shear: (N,) in degrees.
        mirrored: (N, 2) whether flipped left to right, and upside down.
        jittered: (N,) whether colours change.
        factors: (N, 4) of brightness, contrast, saturation, and the turn of the hue.
        order: (N, 4) permutations of these four: which comes first.
    """

    windows: NDArray[np.int64]
    angle: NDArray[np.float64]
    shear: NDArray[np.float64]
    mirrored: NDArray[np.bool_]
    jittered: NDArray[np.bool_]
    factors: NDArray[np.float32]
    order: NDArray[np.int64]


def draw(count: int, picture_size: tuple[int, int], settings: CropSettings, seed: int) -> Draws:
    """Draw what makes N crops differ; row i depends on the seed and i only.

    Args:
        count: N.
        picture_size: Height and width of the picture in pixels.
        settings: How crops are made.
        seed: In [0, 2**63).

    Raises:
        SettingsError: No window of these settings was found in 1000 tries.
    """

    def uniform(name: str, columns: int) -> NDArray[np.float64]:
        return numpy_generator(seed, "patches", name).random((count, columns))

    height, width = picture_size
    side = int(settings.square * min(height, width))
    shapes = _window_shapes(count, side, settings, seed)
    free = np.array([width - side, height - side])
    places = uniform("places", 4)
    square = (places[:, :2] * (free + 1)).astype(np.int64)
    inside = (places[:, 2:] * (side - shapes + 1)).astype(np.int64)
    turns = 2 * uniform("turns", 2) - 1
    spread = (settings.brightness, settings.contrast, settings.saturation, settings.hue)
    factors = np.array([1, 1, 1, 0]) + np.array(spread) * (2 * uniform("factors", 4) - 1)
    flips = [settings.flip in (way, "both") for way in ("horizontal", "vertical")]
    return Draws(
        windows=np.concatenate([square + inside, shapes], axis=1),
        angle=settings.angle * turns[:, 0],
        shear=settings.shear * turns[:, 1],
        mirrored=(uniform("flips", 2) < 0.5) & np.array(flips),
        jittered=uniform("jitter", 1)[:, 0] < settings.jitter,
        factors=factors.astype(np.float32),
        order=uniform("order", 4).argsort(axis=1),
    )


def crop_bank(
    picture: Tensor,
    settings: CropSettings,
    *,
    count: int,
    size: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Make crops of one picture.

    Args:
        picture: (C, H, W) uint8 with 1 or 3 channels, on the CPU. Saturation and hue do nothing
            to one channel.
        settings: How crops are made.
        count: N.
        size: Height and width of a crop in pixels.
        seed: In [0, 2**63).
        progress: Is told now and then how many crops of N are made.

    Returns:
        (N, C, size, size) uint8, the same bytes whatever the number of threads. Black is where a
        rotated window shows nothing of the picture.

    Raises:
        DataError: The picture is smaller than a crop, or of another kind.
        SettingsError: ``count`` or ``size`` is below 1, or the settings allow no window.
    """
    _check(picture, count, size)
    draws = draw(count, (picture.shape[1], picture.shape[2]), settings, seed)
    side = int(settings.oversize * size)
    maps = _maps(draws, size, side)
    whole = _image(picture.permute(1, 2, 0).contiguous().numpy())
    steps = _steps(draws.windows[:, 2:], side)
    boxes = draws.windows[:, [0, 1, 0, 1]] + np.pad(draws.windows[:, 2:], ((0, 0), (2, 0)))
    boxes = boxes * np.tile(_copied(whole.size, steps), 2) / np.tile(whole.size, 2)
    bank = np.empty((count, len(picture), size, size), dtype=np.uint8)

    def make(start: int) -> int:
        part = slice(start, start + _CHUNK)
        crops = _cut(copies, steps[part], boxes[part], maps[part], size, side)
        _recolour(crops, draws, part)
        bank[part] = crops.transpose(0, 3, 1, 2)
        return min(part.stop, count)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        needed = [(across, down) for across, down in np.unique(steps, axis=0).tolist()]
        copies = dict(zip(needed, threads.map(partial(_copy, whole), needed), strict=True))
        for done in threads.map(make, range(0, count, _CHUNK)):
            if progress is not None:
                progress(done, count)
    return torch.from_numpy(bank)


def crop_outlines(
    picture_size: tuple[int, int],
    settings: CropSettings,
    *,
    indices: Tensor,
    size: int,
    seed: int,
) -> Tensor:
    """Return where in the picture crops of a bank come from.

    Args:
        picture_size: Height and width of the picture in pixels.
        settings: As for ``crop_bank``.
        indices: (n,) int64, which crops.
        size: As for ``crop_bank``.
        seed: As for ``crop_bank``.

    Returns:
        (n, 4, 2) float32: x and y in pixels of the picture, from its upper left corner, of each
        crop's upper left, upper right, lower right and lower left corner. A corner may lie outside
        the window that the crop was cut from; the crop is black there.
    """
    if not len(indices):
        return torch.empty(0, 4, 2)
    draws = draw(int(indices.max()) + 1, picture_size, settings, seed)
    side = int(settings.oversize * size)
    chosen = indices.numpy()
    maps = _maps(draws, size, side)[chosen].reshape(-1, 1, 2, 3)
    corners = np.array([(0, 0, 1), (size, 0, 1), (size, size, 1), (0, size, 1)])
    inside = (maps @ corners[..., None])[..., 0]
    windows = draws.windows[chosen, None]
    outlines = windows[..., :2] + inside * windows[..., 2:] / side
    return torch.from_numpy(outlines.astype(np.float32))


def bank_digest(bank: Tensor) -> str:
    """Return the SHA-256, in hex, of a bank's shape and bytes."""
    digest = hashlib.sha256(repr(tuple(bank.shape)).encode())
    digest.update(bank.contiguous().numpy().data)
    return digest.hexdigest()


def _check(picture: Tensor, count: int, size: int) -> None:
    for name, value in (("count", count), ("size", size)):
        if value < 1:
            raise SettingsError(f"{name} of crops is {value}; it must be at least 1")
    if picture.ndim != 3 or len(picture) not in (1, 3) or picture.dtype != torch.uint8:
        raise DataError(
            f"a picture is {picture.dtype} of shape {tuple(picture.shape)}; it must be uint8 of "
            "(1 or 3 channels, height, width)"
        )
    if min(picture.shape[1:]) < size:
        height, width = picture.shape[1:]
        raise DataError(
            f"a picture of {width}x{height} pixels is smaller than a crop of {size}x{size}; "
            f"choose one whose smaller side has at least {size}, or a larger budget"
        )


def _window_shapes(count: int, side: int, settings: CropSettings, seed: int) -> NDArray[np.int64]:
    """Return (N, 2) widths and heights in [1, side], by rejection.

    Each try has a generator of its own and draws for all rows, so that a row does not depend on
    how often the others were rejected.
    """
    shapes = np.zeros((count, 2), dtype=np.int64)
    open_rows = np.ones(count, dtype=bool)
    (least, most), bounds = settings.area, np.log(settings.aspect)
    for attempt in range(_MAX_TRIES):
        values = numpy_generator(seed, "patches", "window", attempt).random((count, 2))
        area = side**2 * (least + (most - least) * values[:, 0])
        root = np.exp((bounds[0] + (bounds[1] - bounds[0]) * values[:, 1]) / 2)
        tries = np.rint(np.sqrt(area)[:, None] * np.stack([root, 1 / root], axis=1))
        found = open_rows & ((tries >= 1) & (tries <= side)).all(axis=1)
        shapes[found] = tries[found]
        open_rows &= ~found
        if not open_rows.any():
            return shapes
    raise SettingsError(
        f"no window was found in {_MAX_TRIES} tries for {open_rows.sum()} of {count} crops: area "
        f"{settings.area} and aspect {settings.aspect} of a square of {side}x{side} pixels; "
        "widen area or aspect, or take a larger picture"
    )


def _maps(draws: Draws, size: int, side: int) -> NDArray[np.float64]:
    """Return (N, 6): for each crop a, b, c, d, e, f, which take its pixel at (x, y).

    It comes from (a x + b y + c, d x + e y + f) of the scaled window, as in Pillow's ``transform``;
    coordinates are those of pixels' corners. Rotation and shear leave the window's middle where
    it is, as torchvision's ``affine`` does.
    """
    angle, shear = np.radians(draws.angle), np.radians(draws.shear)
    slope = np.tan(shear)
    turn = np.stack(
        [
            np.cos(angle) - np.sin(angle) * slope,
            np.cos(angle) * slope + np.sin(angle),
            -np.sin(angle),
            np.cos(angle),
        ],
        axis=1,
    ).reshape(-1, 2, 2)
    # torchvision's centre crop starts at the rounded middle, half to even.
    start = round((side - size) / 2) - side / 2
    signs = np.where(draws.mirrored, -1.0, 1.0)
    linear = turn * signs[:, None]
    offset = (turn @ (signs * start)[..., None]) + side / 2
    maps: NDArray[np.float64] = np.concatenate([linear, offset], axis=2).reshape(-1, 6)
    # Few binary places: sums with them are exact, so that no machine's rounding moves a pixel.
    return np.rint(maps * 2**20) / 2**20


def _image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return (H, W, C) pixels as an image."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return an image's pixels as (H, W, C)."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def _steps(shapes: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Return (N, 2): from which copies windows are cut, by width and height (see ``_copy``)."""
    bounds = _SPARE * side * 2 ** (np.arange(1, 64) / 2)
    return np.searchsorted(bounds, shapes, side="right")


def _copied(whole: tuple[int, int], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (..., 2): the width and height of the copies that (..., 2) steps lead to."""
    return np.maximum(1, np.rint(whole / 2 ** (steps / 2))).astype(np.int64)


def _copy(whole: Image.Image, steps: tuple[int, int]) -> Image.Image:
    """Return the picture with width and height divided so many times by the root of two.

    Lanczos keeps what the windows' own filter will use, and a box filter would blur it.
    """
    if steps == (0, 0):
        return whole
    width, height = _copied(whole.size, np.array(steps)).tolist()
    return whole.resize((width, height), Image.Resampling.LANCZOS)


def _cut(
    copies: Mapping[tuple[int, int], Image.Image],
    steps: NDArray[np.int64],
    boxes: NDArray[np.float64],
    maps: NDArray[np.float64],
    size: int,
    side: int,
) -> NDArray[np.uint8]:
    """Return (n, size, size, C): windows scaled to one side, rotated, sheared and cut out.

    Args:
        copies: Of the picture, by steps.
        steps: (n, 2): from which copy.
        boxes: (n, 4): left, top, right and bottom of the window, in pixels of the copy.
        maps: (n, 6): see ``_maps``.
        size: Of the crops.
        side: That windows are scaled to.
    """
    channels = len(next(iter(copies.values())).getbands())
    crops = np.empty((len(steps), size, size, channels), dtype=np.uint8)
    rows = zip(crops, steps.tolist(), boxes.tolist(), maps.tolist(), strict=True)
    for crop, (across, down), (left, top, right, bottom), entries in rows:
        x, y = int(left), int(top)
        # Cut first: else the filter would see pixels around the window, where S1's sees none.
        part = copies[across, down].crop((x, y, math.ceil(right), math.ceil(bottom)))
        box = (left - x, top - y, right - x, bottom - y)
        scaled = part.resize((side, side), Image.Resampling.BICUBIC, box=box)
        turned = scaled.transform(
            (size, size), Image.Transform.AFFINE, entries, Image.Resampling.BILINEAR
        )
        crop[:] = _pixels(turned)
    return crops


def _recolour(crops: NDArray[np.uint8], draws: Draws, part: slice) -> None:
    """Change the colours of those (n, S, S, C) crops that are to be jittered, in place."""
    rows = np.flatnonzero(draws.jittered[part])
    values, factors, order = crops[rows], draws.factors[part][rows], draws.order[part][rows]
    # As in torchvision: hue and saturation leave grey images alone.
    changes = _CHANGES if crops.shape[3] == 3 else _CHANGES[:2]
    for place in range(len(_CHANGES)):
        for number, change in enumerate(changes):
            now = np.flatnonzero(order[:, place] == number)
            if len(now):
                values[now] = change(values[now], factors[now, number])
    crops[rows] = values


def _mix(
    base: NDArray[np.uint8] | NDArray[np.float32] | float,
    crops: NDArray[np.uint8],
    factors: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Return base + factor * (crop - base), cut to [0, 255] and truncated, as Pillow blends."""
    start = np.asarray(base, dtype=np.float32)
    mixed = crops - start
    mixed *= factors[:, None, None, None]  # in place: memory is what this costs
    mixed += start
    return mixed.clip(0, 255, out=mixed).astype(np.uint8)


def _luma(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (n, S, S, 1)."""
    sheet = _image(crops.reshape(-1, *crops.shape[2:]))
    return _pixels(sheet.convert("L")).reshape(*crops.shape[:3], 1)


def _brightness(crops: NDArray[np.uint8], factors: NDArray[np.float32]) -> NDArray[np.uint8]:
    return _mix(0.0, crops, factors)


def _contrast(crops: NDArray[np.uint8], factors: NDArray[np.float32]) -> NDArray[np.uint8]:
    grey = _luma(crops).mean(axis=(1, 2, 3), keepdims=True)
    return _mix(np.floor(grey + 0.5).astype(np.float32), crops, factors)


def _saturation(crops: NDArray[np.uint8], factors: NDArray[np.float32]) -> NDArray[np.uint8]:
    return _mix(_luma(crops), crops, factors)


def _hue(crops: NDArray[np.uint8], turns: NDArray[np.float32]) -> NDArray[np.uint8]:
    sheet = _image(crops.reshape(-1, *crops.shape[2:])).convert("HSV")
    hue, saturation, value = np.moveaxis(_pixels(sheet).reshape(crops.shape), 3, 0)
    # A turn has 256 steps and torchvision's factor 255; both wrap around.
    hue = hue + (turns * 255).astype(np.int64).astype(np.uint8)[:, None, None]
    # Back by a table, which is faster than Pillow and differs from it by rounding alone.
    lost: NDArray[np.float32] = _ABSENT.take(hue, axis=0)
    lost *= (np.multiply(value, saturation, dtype=np.float32) / np.float32(255))[..., None]
    np.subtract(value[..., None] + np.float32(0.5), lost, out=lost)
    return lost.astype(np.uint8)


def _absent() -> NDArray[np.float32]:
    """Return (256, 3): the share of red, green and blue that a pure hue lacks."""
    sixths = np.arange(256) * 6 / 255
    lacks = np.stack([2 - abs(sixths - 3), abs(sixths - 2) - 1, abs(sixths - 4) - 1], axis=1)
    return np.clip(lacks, 0, 1).astype(np.float32)


_ABSENT = _absent()
#: In the order of the columns of ``Draws.factors``.
_CHANGES = (_brightness, _contrast, _saturation, _hue)
