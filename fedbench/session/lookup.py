"""Suites and records by any of their names, and the tensors that a cell left."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.errors import SettingsError, StoreError, did_you_mean
from fedbench.files import home, published_boards

if TYPE_CHECKING:
    from torch import Tensor

    from fedbench.bench.records.record import Record
    from fedbench.federation.synthetic import SyntheticSet

NAMES = "a cell id or its beginning, SUITE/CELL_ID, or a record's file"
SUITES = "a suite's name, its file, its folder of results, or one of its cells"
PLAN = "plan.json"
_YAML = (".yaml", ".yml")
#: Names that are told of what is not found, beside the nearest.
_NEAR = 5
#: Where suites lie below ``benchmarks/``.
_BELOW = ("*.yaml", "*/*.yaml")


def find_suite(text: str) -> Path:
    """Return the folder of results that a word means: below the home, or a published board.

    Args:
        text: A name, a suite's file, a folder with ``plan.json`` or a file in it, or a record.

    Raises:
        SettingsError: Nothing of that name has run here or is published.
    """
    path = Path(text).absolute()
    name = _name_in(path)
    if name is None:
        for folder in (path, *path.parents[:2]) if path.exists() else ():
            if (folder / PLAN).is_file():
                return folder
    boards = published_boards() or Path("leaderboards")
    for folder in (home() / (name or text), boards.absolute() / (name or text)):
        if (folder / PLAN).is_file():
            return folder
    if name is None and (found := records_like(text)):
        return found[0].parent.parent
    known = sorted(each.parent.name for top in (home(), boards) for each in top.glob(f"*/{PLAN}"))
    raise SettingsError(
        f"there is no plan of {text!r}{did_you_mean(path.name, known)}, neither in {home()} nor in "
        f"{boards.absolute()}; give {SUITES}, or run `fedbench sweep FILE` first"
    )


def find_suite_file(text: str) -> Path:
    """Return the suite file that a word means.

    Args:
        text: The file, or what ``find_suite`` takes: then it is looked for below ``benchmarks/``,
            here and in the checkout, and in this folder.

    Raises:
        SettingsError: There is none of that name.
    """
    path = Path(text).absolute()
    if path.is_file() and path.suffix in _YAML:
        return path
    if path.suffix in _YAML:
        raise SettingsError(f"there is no suite file {path}{_nearest_file(path)}")
    name, files = text, suite_files()
    if name not in files and (path.exists() or records_like(text)):
        with suppress(SettingsError):  # nothing that was swept
            name = find_suite(text).name
    if name not in files:
        raise SettingsError(
            f"there is no suite file of {text!r}{did_you_mean(name, files)}{_others(name, files)}; "
            f"`fedbench suites` lists the {len(files)} that have names here, and any file will do"
        )
    return files[name]


def _name_in(path: Path) -> str | None:
    """Return the name that a suite's file gives; None of what is no such file."""
    if path.suffix not in _YAML or not path.is_file():
        return None
    from fedbench.bench.suites.suite import read_suite

    return read_suite(path).name


def suite_files() -> dict[str, Path]:
    """Return the suite files that names mean: of this folder, then below ``benchmarks/``."""
    here, checkout = Path("benchmarks").absolute(), Path(__file__).parents[2] / "benchmarks"
    places = ((Path().absolute(), "*.yaml"), *((p, f) for p in (here, checkout) for f in _BELOW))
    found: dict[str, Path] = {}
    for place, pattern in places:
        for path in sorted(place.glob(pattern)):
            found.setdefault(path.stem, path)
    return found


def _others(name: str, files: Iterable[str]) -> str:
    """Return further names near one: those with a part of it, then those spelt like it."""
    known = list(files)
    parts = [part for part in re.split(r"[^a-z0-9]+", Path(name).stem.lower()) if len(part) > 2]
    near = [each for each in known if any(part in each for part in parts)]
    near += difflib.get_close_matches(name, known, n=_NEAR, cutoff=0.6)
    nearest = did_you_mean(name, known)
    found = [each for each in dict.fromkeys(near) if f"{each!r}" not in nearest][:_NEAR]
    return f"; near it: {', '.join(found)}" if found else ""


def _nearest_file(path: Path) -> str:
    near = did_you_mean(path.stem, files := suite_files())
    names = [str(file) for name, file in files.items() if f"{name!r}" in near]
    return f"; there is {names[0]}" if names else ""


def find_record(text: str, names: str = NAMES, place: Path | None = None) -> tuple[Path, Record]:
    """Return the record that a word means, and its place.

    A cell id is looked for in all suites of the home, then in the published boards.

    Args:
        text: A record's file, a cell id or its beginning, or one with its suite before it.
        names: What could have been given, for errors.
        place: Instead of the home.

    Raises:
        SettingsError: It is the beginning of several cells' ids, or means nothing.
        StoreError: The file is no record.
    """
    from fedbench.bench.records.record import read_record

    path = Path(text).absolute()
    if path.is_file():
        return path, read_record(path)
    if path.suffix == ".json":
        raise SettingsError(f"there is no record {path}; give {names}")
    found = records_like(text, place)
    ids = sorted({path.stem for path in found})
    if len(ids) > 1:
        raise SettingsError(
            f"{text!r} is the beginning of {len(ids)} cell ids: {', '.join(ids[:5])}"
        )
    if not found and path.is_dir():
        raise SettingsError(f"{path} is a folder and no record; give {names}")
    if not found:
        raise SettingsError(f"there is nothing called {text!r} here; give {names}")
    return found[0], read_record(found[0])


def records_like(text: str, place: Path | None = None) -> list[Path]:
    """Return the records whose ids begin so, ``SUITE/ID`` in one suite, the home's first.

    Args:
        text: The beginning.
        place: Instead of the home.
    """
    suite, _, beginning = text.rpartition("/")
    if not beginning or set(beginning) - set("0123456789abcdef"):
        return []  # a pattern for file names would not take it as it is written
    places = [place or home(), published_boards() or Path("leaderboards")]
    folders = [folder for each in places for folder in sorted(each.glob("*"))]
    if suite:
        folders = [Path(suite), *(each / suite for each in places)]
    return [
        path.absolute()
        for folder in folders
        for path in sorted((folder / "records").glob(f"{beginning}*.json"))
    ]


def find_good_record(text: str, place: Path | None = None) -> tuple[Path, Record]:
    """Return the record that a word means (see ``find_record``), if its cell has a result.

    Raises:
        SettingsError: It has failed or was skipped.
    """
    path, record = find_record(text, place=place)
    if record.status != "ok":
        raise SettingsError(
            f"cell {record.cell_id} {record.status} and left nothing to show: {record.reason}"
        )
    return path, record


def output_file(path: Path, record: Record, name: str) -> Path:
    """Return the file of what a cell left: in the record's suite, or where it was computed again.

    Args:
        path: Of the record.
        record: Which names the output.
        name: Such as ``synthetic``, ``selection`` or a model's.

    Raises:
        StoreError: It is not here.
    """
    file = f"{record.outputs[name]}.safetensors"
    suite = path.parent.parent
    homes = (suite.parent / record.suite, home() / record.suite, home() / "reproduced")
    places = [folder / "outputs" / file for folder in (suite, *homes)]
    for place in places:
        if place.exists():
            return place
    known = path if path.is_file() else record.cell_id
    raise StoreError(
        f"output {name!r} of cell {record.cell_id} is not here ({places[0]}); take it from where "
        f"the cell was computed, or compute it again: fedbench run --record {known}"
    )


def read_output(path: Path, record: Record, name: str) -> dict[str, Tensor]:
    """Return the tensors of what a cell left (see ``output_file``).

    Raises:
        StoreError: It is not here, or not what the record names.
    """
    import safetensors
    import safetensors.torch

    from fedbench.federation.artefacts import tensors_digest

    place = output_file(path, record, name)
    try:
        tensors = safetensors.torch.load_file(place)
    except (OSError, safetensors.SafetensorError) as error:
        raise StoreError(f"{place} is damaged: {error}; delete it and compute again") from error
    if tensors_digest(tensors) != place.stem:
        raise StoreError(f"{place} is not what its name says; delete it and compute again")
    return tensors


def read_sets(path: Path, record: Record) -> dict[str, SyntheticSet]:
    """Return the sets of images that a cell left, by output, the shared one first.

    See ``read_output``.
    """
    from fedbench.federation.synthetic import SyntheticSet, is_set

    names = sorted(name for name in record.outputs if is_set(name))
    for name in names:
        read_output(path, record, name)  # refuses a damaged file
    return {name: SyntheticSet.load(output_file(path, record, name)) for name in names}
