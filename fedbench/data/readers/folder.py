"""Your own images: train/<class>/... and test/<class>/..., any size, any mode.

Classes are the folders of train/, sorted by name. A class without test images is kept; a class
with test images only is an error, since no model could learn it. Where there is nothing to test
with, a fifth of the images is drawn for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps

from fedbench.data.apart import at
from fedbench.data.dataset import Split
from fedbench.data.modes import decoding, read_rgb
from fedbench.data.readers import Counter, Decoded, Progress, split_of
from fedbench.data.subset import stratified
from fedbench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from fedbench.data.sources import Sources

#: Of so many bad images an error names each.
_NAMED = 10
#: One image of so many is for testing where the folder has no test images.
_TESTED = 5


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
        DataError: Images cannot be read, a class has test images only, or its name is no UTF-8.
    """
    paths = {part: sources.part(part) for part in ("train", "test")}
    folder = sources.folder or sources.root
    classes = tuple(sorted({_class(path, folder) for path in paths["train"]}))
    tested = {_class(path, folder) for path in paths["test"]}
    _check_names(paths["train"], folder, 1)
    unknown = sorted(tested - set(classes))
    if unknown:
        train, test = (paths[part][0].relative_to(folder).parts[0] for part in ("train", "test"))
        raise DataError(
            f"{folder / test}: {_names(unknown)} only there and not in {train}/, so no model can "
            "learn it; add training images or take the folder away"
        )
    untested = sorted(set(classes) - tested)
    notes = (f"{_names(untested)} without test images",) if untested else ()
    counter = Counter(sources.name, len(sources.files), progress, every=1000)
    pixels = size or sources.spec.size
    images = {part: _stack(sources, paths[part], pixels, counter) for part in paths}
    if all(_grey(stack) for stack in images.values()):
        images = {part: stack[:, :1] for part, stack in images.items()}

    def split(part: str) -> Split:
        labels = [classes.index(_class(path, folder)) for path in paths[part]]
        return split_of(images[part], np.asarray(labels))

    return Decoded(split("train"), split("test"), classes, notes)


def read_undivided(sources: Sources, size: int | None, progress: Progress) -> Decoded:
    """Read a tree of images without test images, and draw these.

    Args:
        sources: The files: part ``images``, below <class>/ or train/<class>/.
        size: As in ``read``.
        progress: Likewise.

    Returns:
        Four of five images for training and one for testing, stratified by class, always the same;
        the only image of a class is for training.

    Raises:
        DataError: Images cannot be read, or the name of a class is no UTF-8.
    """
    paths, folder = sources.part("images"), sources.folder or sources.root
    depth = 0 if sources.layout and sources.layout.name == "classes" else 1
    names = [_class(path, folder, depth) for path in paths]
    classes = tuple(sorted(set(names)))
    _check_names(paths, folder, depth)
    counter = Counter(sources.name, len(paths), progress, every=1000)
    images = _stack(sources, paths, size or sources.spec.size, counter)
    labels = np.asarray([classes.index(name) for name in names])
    several = np.flatnonzero(np.bincount(labels)[labels] > 1)
    draws = stratified(
        torch.from_numpy(labels[several]), len(several) // _TESTED, 0, sources.name, "test"
    )
    tested = np.zeros(len(labels), dtype=bool)
    tested[several[draws.numpy()]] = True
    if not tested.any():
        raise DataError(
            f"{folder}: holds too few images to draw a fifth for testing; add images, or a folder "
            "test/ beside train/"
        )
    if _grey(images):
        images = images[:, :1]
    note = f"no folder of test images, so {tested.sum():,} of {len(labels):,} are drawn for testing"
    train, test = (split_of(images[part], labels[part]) for part in (~tested, tested))
    return Decoded(train, test, classes, (note,))


def _class(path: Path, folder: Path, depth: int = 1) -> str:
    return path.relative_to(folder).parts[depth]


def _names(classes: list[str]) -> str:
    """Return names with the verb that is theirs."""
    names = ", ".join(repr(name) for name in classes)
    return f"class {names} is" if len(classes) == 1 else f"classes {names} are"


def _check_names(paths: Iterable[Path], folder: Path, depth: int) -> None:
    """Refuse class names that cannot be written into records and pages."""
    for path in paths:
        parts = path.relative_to(folder).parts
        if not (name := parts[depth]).isprintable():
            raise DataError(
                f"{folder.joinpath(*parts[:depth])}: the folder {name!r} has a name that is not "
                "printable UTF-8; rename it"
            )


def _stack(sources: Sources, paths: list[Path], size: int, counter: Counter) -> NDArray[np.uint8]:
    stack = np.empty((len(paths), 3, size, size), dtype=np.uint8)
    faults: list[tuple[Path, str]] = []
    for index, path in enumerate(paths):
        try:
            stack[index] = _load(path, size)
        except (DataError, FileNotFoundError) as error:
            faults.append((path, str(error)))
        counter.add(1)
    if faults:
        raise _fault(sources, faults)
    return stack


def _fault(sources: Sources, faults: list[tuple[Path, str]]) -> DataError:
    """Return one error for all images that cannot be read."""
    (path, what), *others = faults
    more = "".join(f"\n  {each}: {why}" for each, why in others[: _NAMED - 1])
    unnamed = len(faults) - _NAMED
    rest = f"\n  and {unnamed:,} more" if unnamed > 0 else ""
    return sources.fault(path, f"{what}{more}{rest}")


def _grey(images: NDArray[np.uint8]) -> bool:
    first = images[:, 0]
    return bool((first == images[:, 1]).all() and (first == images[:, 2]).all())


def _load(path: Path, size: int) -> NDArray[np.uint8]:
    """Return one image (3, size, size)."""
    at(path)
    upright = read_rgb(path)
    with decoding():
        square = ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(square).transpose(2, 0, 1)
