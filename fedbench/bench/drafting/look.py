"""What there is at a path: images in class folders or a csv of flows, as the readers see it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING

from fedbench.data.readers.flows import CrowdedError
from fedbench.data.settings import Data
from fedbench.data.sources import Sources, locate
from fedbench.data.specs import DATASETS, FLOWS, FOLDER, TEST_FOLDERS, TRAIN_FOLDERS
from fedbench.errors import DataError

if TYPE_CHECKING:
    from fedbench.data.dataset import ImageData

#: Heights of images that are chosen: multiples of four, so that every generator can make them.
SIZES = (16, 32, 64)
#: Heights of squares that a csv's features may need.
_SQUARES = (16, 32, 64)


@dataclass(frozen=True)
class Look:
    """What was seen.

    Attributes:
        sources: The files, as the data set's reader finds them.
        data: The settings that load them, at the chosen size.
        loaded: The images, labels and notes.
        sizes: How many image files have which width and height, the most frequent first; nothing
            of a csv.
        modes: Likewise their modes, as Pillow calls them.
        shorter: The median of the shorter sides in pixels; 0 of a csv.
    """

    sources: Sources
    data: Data
    loaded: ImageData
    sizes: dict[tuple[int, int], int]
    modes: dict[str, int]
    shorter: int

    @property
    def flows(self) -> bool:
        """Whether it is a csv."""
        return self.data.name == FLOWS.name


def look(path: Path, *, root: Path, cache: Path, say: Callable[[str], None]) -> Look:
    """Look at a folder of images or a csv, and decode it once into the cache.

    Args:
        path: What the user named.
        root: The data root; a path below it is written relative to it.
        cache: Where decoded images go.
        say: Is told what takes long.

    Raises:
        DataError: There is nothing, something else, fewer than two classes, or what cannot be read.
    """
    path = path.absolute()
    if not path.exists():
        raise DataError(f"there is no folder or file {path}")
    sources = _sources(path, root)
    place = sources.folder or path
    if sources.name == FLOWS.name and path.is_file():
        place = path
    sizes, modes, shorter = _heads(sources, say) if sources.name == FOLDER.name else ({}, {}, 0)
    data, loaded = _loaded(sources, _written(place, root), shorter, root, cache, say)
    if len(loaded.classes) < 2:
        raise DataError(
            f"{place} holds one class, {loaded.classes[0]!r}, and a classifier needs two: put the "
            "images of each class into a folder of their own"
        )
    return Look(sources, data, loaded, sizes, modes, shorter)


def chosen_size(shorter: int) -> int:
    """Return the height that images get: the largest of ``SIZES`` that most of them fill."""
    return max((size for size in SIZES if size <= shorter), default=SIZES[0])


def _sources(path: Path, root: Path) -> Sources:
    """Return what a path holds: images, flows, or a data set that is known by name.

    Raises:
        DataError: It is none of these.
    """
    _refuse_known(path)
    if path.is_file():
        found = locate(FLOWS, root, str(path))
        if not found.found:
            raise DataError(
                f"{path} is a file and no csv (.csv or .csv.gz); name the folder that holds the "
                "images' class folders, or a csv of flows"
            )
        return found
    inside = whole(path)
    while (alone := _only_folder(inside)) is not None:
        inside = alone
    images, flows = locate(FOLDER, root, str(inside)), locate(FLOWS, root, str(path))
    if images.found:
        return images
    if flows.found:
        return flows
    raise DataError(
        f"{path} holds neither images in class folders nor a csv of flows\n"
        + "\n".join(f"  accepted: {words}" for words in (*FOLDER.layouts, *FLOWS.layouts))
    )


def whole(path: Path) -> Path:
    """Return the folder that holds train/ and test/ where one of these two was named."""
    if path.name not in (*TRAIN_FOLDERS, *TEST_FOLDERS) or not path.is_dir():
        return path
    beside = {entry.name for entry in path.parent.iterdir() if entry.is_dir()}
    return path.parent if beside & {*TRAIN_FOLDERS} and beside & {*TEST_FOLDERS} else path


def _only_folder(path: Path) -> Path | None:
    """Return the one folder that a folder holds, if that holds the folders of the classes."""
    folders = _folders(path)
    if len(folders) != 1 or folders[0].name in TRAIN_FOLDERS:
        return None
    return folders[0] if _folders(folders[0]) else None


def _folders(path: Path) -> list[Path]:
    return [each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")]


def _refuse_known(path: Path) -> None:
    """Refuse a data set that has a name, and a suite, of its own.

    Raises:
        DataError: With the name.
    """
    folder = path if path.is_dir() else path.parent
    for name in DATASETS.names():
        spec = DATASETS.get(name)
        if spec.takes_path or not spec.accepts[0].parts:
            continue
        for root in (folder, folder.parent):
            found = locate(spec, root)
            inside = found.found and found.folder is not None
            if inside and (found.folder or root).is_relative_to(folder):
                raise DataError(
                    f"{path} holds the data set {name}, which fedbench knows by name: set "
                    f"FEDBENCH_DATA={root} and take a suite of benchmarks/, or `fedbench run "
                    f"--dataset {name}`"
                )


def _heads(
    sources: Sources, say: Callable[[str], None]
) -> tuple[dict[tuple[int, int], int], dict[str, int], int]:
    """Return widths and heights, modes, and the median of the shorter sides; heads are read alone.

    What has no head is named by the reader, with all other damaged files.
    """
    from PIL import Image

    say(f"{sources.folder}: looking at {len(sources.files):,} images")
    sizes: Counter[tuple[int, int]] = Counter()
    modes: Counter[str] = Counter()
    for file in sources.files:
        try:
            with Image.open(file.path) as image:
                sizes[image.size] += 1
                modes[image.mode] += 1
        except Exception:  # Pillow's plugins raise anything; see `data.modes.decoding`
            continue
    shorter = median_low([min(size) for size in sizes.elements()] or [SIZES[0]])
    return dict(sizes.most_common()), dict(modes.most_common()), shorter


def _loaded(
    sources: Sources,
    path: str,
    shorter: int,
    root: Path,
    cache: Path,
    say: Callable[[str], None],
) -> tuple[Data, ImageData]:
    """Load the data at the size that suits them.

    Raises:
        DataError: A file cannot be read, or a csv has more features than the largest square.
    """
    from fedbench.data.load import load

    candidates = (chosen_size(shorter),) if sources.name == FOLDER.name else _SQUARES
    for size in candidates:
        data = Data(name=sources.name, path=path, image_size=size)
        try:
            return data, load(data, root=root, cache=cache, offline=True, progress=say)
        except CrowdedError:
            if size == candidates[-1]:
                raise
    raise AssertionError("no size")


def _written(place: Path, root: Path) -> str:
    """Return a path as a suite has it: below the data root that the user has set, or absolute."""
    base = root.absolute()
    below = "FEDBENCH_DATA" in os.environ and place.is_relative_to(base)
    return str(place.relative_to(base)) if below else str(place)
