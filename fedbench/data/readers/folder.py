"""Your own images: train/<class>/... and test/<class>/..., any size, any mode.

Classes are the folders of train/, sorted by name. A class without test images is kept; a class
with test images only is an error, since no model could learn it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from fedbench.data.dataset import Split
from fedbench.data.readers import Counter, Decoded, Progress, split_of
from fedbench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedbench.data.sources import Sources

_SIXTEEN_BIT = 257  # 65535 / 255


def read(sources: Sources, size: int | None, progress: Progress) -> Decoded:
    """Read a tree of images.

    Args:
        sources: The files: parts ``train`` and ``test``.
        size: Height and width that images get: the shorter side is scaled to it, then the centre
            is cut out; None takes the spec's.
        progress: Is told how many images are decoded.

    Returns:
        Images with one channel if all of them are grey, else with three.

    Raises:
        DataError: An image cannot be read, or a class has test images only.
    """
    paths = {part: sources.part(part) for part in ("train", "test")}
    folder = sources.folder or sources.root
    classes = tuple(sorted({_class(path, folder) for path in paths["train"]}))
    tested = {_class(path, folder) for path in paths["test"]}
    unknown = sorted(tested - set(classes))
    if unknown:
        raise DataError(
            f"{folder / 'test'}: {_names(unknown)} only there and not in train/, so no model can "
            "learn it; add training images or take the folder away"
        )
    untested = sorted(set(classes) - tested)
    notes = (f"no test images of {_names(untested)} in training",) if untested else ()
    counter = Counter(sources.name, len(sources.files), progress, every=1000)
    pixels = size or sources.spec.size
    images = {part: _stack(sources, paths[part], pixels, counter) for part in paths}
    if all(_grey(stack) for stack in images.values()):
        images = {part: stack[:, :1] for part, stack in images.items()}

    def split(part: str) -> Split:
        labels = [classes.index(_class(path, folder)) for path in paths[part]]
        return split_of(images[part], np.asarray(labels))

    return Decoded(split("train"), split("test"), classes, notes)


def _class(path: Path, folder: Path) -> str:
    return path.relative_to(folder).parts[1]


def _names(classes: list[str]) -> str:
    names = ", ".join(repr(name) for name in classes)
    return f"class {names} is" if len(classes) == 1 else f"classes {names} are"


def _stack(sources: Sources, paths: list[Path], size: int, counter: Counter) -> NDArray[np.uint8]:
    stack = np.empty((len(paths), 3, size, size), dtype=np.uint8)
    for index, path in enumerate(paths):
        stack[index] = _load(sources, path, size)
        counter.add(1)
    return stack


def _grey(images: NDArray[np.uint8]) -> bool:
    first = images[:, 0]
    return bool((first == images[:, 1]).all() and (first == images[:, 2]).all())


def _load(sources: Sources, path: Path, size: int) -> NDArray[np.uint8]:
    """Return one image (3, size, size)."""
    try:
        with Image.open(path) as image:
            image.load()
            upright = colour(ImageOps.exif_transpose(image))
            square = ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise sources.fault(path, f"cannot be read as an image: {error}") from error
    return np.asarray(square).transpose(2, 0, 1)


def colour(image: Image.Image) -> Image.Image:
    """Return any mode as RGB: 16 bits scaled down, transparent parts laid over white."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray(np.clip(values // _SIXTEEN_BIT, 0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
