"""One shared picture by name: a built-in photograph, noise, a plugin's, or a file of yours.

Data sets are many small images with labels (``fedbench.data.load``); a picture is one large image
without any. Sizes are known at plan time, without torch; pixels are read when a method runs. A
picture is scaled down to a budget and never up: that would add pixels and no information.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image

from fedbench.data.apart import CrashedError, apart
from fedbench.data.modes import decoding, read_rgb
from fedbench.errors import DataError, SettingsError
from fedbench.registry import Registry
from fedbench.seeding import numpy_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

#: Height and width in pixels of a drawn picture without a budget, and its aspect ratio with one.
_DRAWN_SIZE = (427, 640)
#: Percent of a budget's pixels that a picture must have: 2560x1920 (S1's street) serves 5,000,000.
_ENOUGH = 90
_SIZE = struct.Struct(">II")  # how height and width travel
_ON_ITS_SIDE = range(5, 9)  # values of EXIF's orientation that swap height and width

#: Height and width of an image file, and what was asked of its (H, W, channels) bytes.
_Image = tuple[tuple[int, int], bytes]


@dataclass(frozen=True)
class Picture:
    """A picture that has a name: a file that comes with it, or one that is drawn at any size.

    Attributes:
        name: Its name in settings, without a dot: names with one are those of files.
        title: What it is, in one line.
        file: The image file, or a function that finds it.
        draw: Called as ``(height, width, channels)``; returns (height, width, channels) uint8, the
            same for the same arguments on every machine.
        size: Height and width in pixels of the file, where they are known without reading it.
        source: Where it comes from.
        version: Of what is drawn: raised when it gets other pixels.
    """

    name: str
    title: str
    file: Path | Callable[[], Path] | None = None
    draw: Callable[[int, int, int], NDArray[np.uint8]] | None = None
    size: tuple[int, int] | None = None
    source: str = ""
    version: int = 1

    def __post_init__(self) -> None:
        if (self.file is None) == (self.draw is None):
            raise SettingsError(f"picture {self.name!r} has to have either `file` or `draw`")
        if Path(self.name).suffix:
            raise SettingsError(
                f"picture {self.name!r} is called like a file; give it a name without a dot"
            )

    @property
    def path(self) -> Path | None:
        """The file; None where it is drawn."""
        return self.file() if callable(self.file) else self.file


def _photo(name: str) -> Picture:
    """Return a photograph that comes with scikit-learn."""

    def find() -> Path:
        # `sklearn.datasets.load_sample_image` reads this file too, after a second of imports.
        found = importlib.util.find_spec("sklearn")
        assert found is not None  # a dependency of ours
        assert found.origin is not None
        return Path(found.origin).parent / "datasets" / "images" / f"{name}.jpg"

    return Picture(
        name,
        f"the photograph {name}.jpg of scikit-learn",
        file=find,
        size=(427, 640),
        source="https://scikit-learn.org/stable/modules/generated/"
        "sklearn.datasets.load_sample_images.html",
    )


def _noise(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Return uniform noise."""
    source = numpy_generator(0, "picture", NOISE.name, NOISE.version)
    values = np.frombuffer(source.bytes(height * width * channels), dtype=np.uint8)
    return values.reshape(height, width, channels)


CHINA = _photo("china")
FLOWER = _photo("flower")
NOISE = Picture("noise", "uniform noise in every pixel", draw=_noise)

PICTURES: Registry[Picture] = Registry(
    "picture", "fedbench.pictures", {each.name: each for each in (CHINA, FLOWER, NOISE)}
)


def picture_size(name: str, root: Path) -> tuple[int, int] | None:
    """Return a picture's height and width in pixels, from its header alone.

    Args:
        name: One of ``PICTURES``, or a file's path, absolute or below the data root.
        root: The data root.

    Returns:
        None for one that is drawn at any size, and for a file that is not there (yet).

    Raises:
        SettingsError: The name is neither a picture's nor a file's.
        DataError: The file is there and is not an image.
    """
    if (known := _named(name)) is not None and known.size is not None:
        return known.size
    path = _place(name, root)
    if path is None or not path.exists():
        return None
    return _in_child(path, lambda: (_head(path), b""))[0]


def fitted(size: tuple[int, int] | None, pixels: int | None) -> tuple[int, int]:
    """Return the largest size of the same shape within a budget.

    Args:
        size: Height and width of the picture; None for a drawn one, which is 2:3.
        pixels: The budget, at least 1; None for the picture as it is.

    Returns:
        Height and width, each within a pixel of the exact aspect ratio and never larger than the
        picture's own; their product is at most ``pixels``. A side may be 0 where not even one
        pixel of each row fits (see ``too_small``).
    """
    height, width = size or _DRAWN_SIZE
    if pixels is None or (size is not None and height * width <= pixels):
        return height, width
    scale = math.sqrt(pixels / (height * width))
    tall, wide = int(height * scale), int(width * scale)
    # One side may often be rounded up: nearer to the budget, as near to the aspect ratio.
    near = ((tall + down, wide + right) for down in (0, 1) for right in (0, 1))
    return max((pair for pair in near if pair[0] * pair[1] <= pixels), key=math.prod)


def too_small(name: str, size: tuple[int, int] | None, pixels: int | None, crop: int) -> str | None:
    """Return why a picture cannot serve a budget with crops of a size, or None if it can.

    Args:
        name: Of the picture.
        size: From ``picture_size``; a file that is not there (None) is only held against what
            no picture could do.
        pixels: The budget; None for the picture as it is.
        crop: Height and width of the crops in pixels. A picture whose smaller side is as long
            gives blurred crops of at most a quarter of it; a smaller one is refused.
    """
    if size is not None and min(size) < crop:
        height, width = size
        return (
            f"picture {name!r} has {width}x{height} pixels, and crops are {crop}x{crop}; choose "
            f"a picture whose smaller side has at least {crop}"
        )
    short, long = sorted(size or _DRAWN_SIZE)
    needed = f"{crop * -(-crop * long // short):,} pixels would do"
    if pixels is not None and pixels < crop * crop:
        return f"a budget of {pixels:,} pixels is less than one crop of {crop}x{crop}; {needed}"
    if size is None and not _is_drawn(name):
        return None
    if size is not None and (reason := _scarce(name, size, pixels)) is not None:
        return reason
    height, width = fitted(size, pixels)
    if min(height, width) >= crop:
        return None
    return (
        f"a budget of {pixels:,} pixels leaves {width}x{height} of picture {name!r}, and crops are "
        f"{crop}x{crop}; {needed}"
    )


def read_picture(name: str, root: Path, *, pixels: int | None, channels: int) -> Tensor:
    """Read a picture, upright and scaled down to a budget.

    Lanczos is the sharpest of Pillow's antialiased filters: as the budget counts pixels, each
    should say as much as it can. Transparent parts lie over white.

    Args:
        name: As in ``picture_size``.
        root: The data root.
        pixels: The budget; None for the picture as it is.
        channels: 3 for RGB, 1 for luma (ITU-R 601).

    Returns:
        (channels, H, W) uint8 of the size that ``fitted`` says.

    Raises:
        SettingsError: The name is neither a picture's nor a file's.
        DataError: No such file, not an image, damaged, or too few pixels for the budget; or what is
            drawn has another shape.
    """
    import torch

    path = _place(name, root)
    if path is None:
        values = _drawn(name, pixels, channels)
    else:
        (height, width), pixels_of = _in_child(path, lambda: _read(name, path, pixels, channels))
        values = np.frombuffer(pixels_of, np.uint8).reshape(height, width, channels)
    return torch.from_numpy(values.transpose(2, 0, 1).copy())


def source_digest(name: str, root: Path) -> str:
    """Return the SHA-256, in hex, of the file behind a picture; of a drawn one, of its version.

    Raises:
        SettingsError: The name is neither a picture's nor a file's.
        DataError: No such file, or it cannot be read.
    """
    path = _place(name, root)
    if path is None:
        words = [f"{name} {PICTURES.get(name).version}", *PICTURES.plugins(name).values()]
        return hashlib.sha256(" ".join(words).encode()).hexdigest()
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named(name: str) -> Picture | None:
    """Return the picture of that name; None for a file's path.

    Raises:
        SettingsError: The name is neither.
    """
    if Path(name).suffix:
        return None
    try:
        return PICTURES.get(name)
    except SettingsError as error:
        raise SettingsError(
            f"{error}, or the path of an image file such as photos/street.jpg"
        ) from error


def _is_drawn(name: str) -> bool:
    return (known := _named(name)) is not None and known.draw is not None


def _place(name: str, root: Path) -> Path | None:
    """Return the file behind a picture; None for a drawn one."""
    known = _named(name)
    return root / name if known is None else known.path


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Make one clear error of whatever is wrong with an image file."""
    try:
        with decoding():
            yield
    except FileNotFoundError as error:
        raise DataError(
            f"there is no picture {path}; put it there, set FEDBENCH_DATA to the folder that "
            f"holds it, or use one by name ({', '.join(PICTURES.names())})"
        ) from error
    except DataError as error:
        raise DataError(
            f"picture {path} {error}; give a whole JPEG, PNG or other image file that Pillow knows"
        ) from error


def _in_child(path: Path, read: Callable[[], tuple[tuple[int, int], bytes]]) -> _Image:
    """Read an image file in a process of its own, which it may crash.

    Returns:
        Height and width, and what there is of (H, W, channels) bytes.
    """

    def work(_: Callable[[str], None]) -> bytes:
        (height, width), content = read()
        return _SIZE.pack(height, width) + content

    try:
        result = apart(work, lambda _: None)
    except CrashedError as error:
        raise DataError(f"picture {path} {error}; give another file") from error
    height, width = _SIZE.unpack_from(result)
    return (height, width), result[_SIZE.size :]


def _head(path: Path) -> tuple[int, int]:
    """Return the height and width of a file's image, upright, from its header."""
    with _reading(path), Image.open(path) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
        return (image.width, image.height) if turned else (image.height, image.width)


def _read(name: str, path: Path, pixels: int | None, channels: int) -> _Image:
    """Return a file's image: height and width, and (H, W, channels) bytes."""
    with _reading(path):
        upright = read_rgb(path)
    size = upright.height, upright.width
    reason = _scarce(name, size, pixels)
    if reason is not None:
        raise DataError(reason)
    if channels == 1:
        upright = upright.convert("L")
    height, width = fitted(size, pixels)
    if (height, width) != size:
        upright = upright.resize((width, height), Image.Resampling.LANCZOS)
    return (height, width), np.asarray(upright).tobytes()


def _drawn(name: str, pixels: int | None, channels: int) -> NDArray[np.uint8]:
    """Return a drawn picture of a budget's size, (H, W, channels)."""
    height, width = fitted(None, pixels)
    draw = PICTURES.get(name).draw
    assert draw is not None  # the caller found no file
    values = draw(height, width, channels)
    if values.shape != (height, width, channels) or values.dtype != np.uint8:
        raise DataError(
            f"picture {name!r} was drawn as {values.dtype} of shape {values.shape}; `draw` has to "
            f"return uint8 of {(height, width, channels)}"
        )
    return values


def _scarce(name: str, size: tuple[int, int], pixels: int | None) -> str | None:
    """Return why a picture has too few pixels for a budget, or None."""
    height, width = size
    own = height * width
    if pixels is None or 100 * own >= _ENOUGH * pixels:
        return None
    return (
        f"picture {name!r} has {width}x{height} = {own:,} pixels, less than {_ENOUGH} % of the "
        f"budget of {pixels:,}, and enlarging would add no information; choose a larger picture "
        f"or a budget of at most {100 * own // _ENOUGH:,} pixels"
    )
