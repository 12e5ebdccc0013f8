"""A record by any of its names, and the tensors that its cell left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.errors import SettingsError, StoreError
from fedbench.files import home

if TYPE_CHECKING:
    from torch import Tensor

    from fedbench.bench.records import Record
    from fedbench.federation.synthetic import SyntheticSet

NAMES = "a cell id or its beginning, SUITE/CELL_ID, or a record's file"


def find_record(text: str, names: str = NAMES) -> tuple[Path, Record]:
    """Return the record that a word means, and its place.

    A cell id is looked for in all suites of the home, then in the published boards.

    Args:
        text: A record's file, a cell id or its beginning, or one with its suite before it.
        names: What could have been given, for errors.

    Raises:
        SettingsError: It is the beginning of several cells' ids, or means nothing.
        StoreError: The file is no record.
    """
    from fedbench.bench.records import read_record

    path = Path(text)
    if path.is_file():
        return path, read_record(path)
    suite, _, beginning = text.rpartition("/")
    places = [home(), Path("leaderboards")]
    if not beginning or set(beginning) - set("0123456789abcdef"):
        places = []  # a pattern for file names would not take it as it is written
    found = [
        path
        for place in places
        for folder in ([place / suite] if suite else sorted(place.glob("*")))
        for path in sorted((folder / "records").glob(f"{beginning}*.json"))
    ]
    ids = sorted({path.stem for path in found})
    if len(ids) > 1:
        raise SettingsError(
            f"{text!r} is the beginning of {len(ids)} cell ids: {', '.join(ids[:5])}"
        )
    if not found:
        raise SettingsError(f"there is nothing called {text!r} here; give {names}")
    return found[0], read_record(found[0])


def find_good_record(text: str) -> tuple[Path, Record]:
    """Return the record that a word means (see ``find_record``), if its cell has a result.

    Raises:
        SettingsError: It has failed or was skipped.
    """
    path, record = find_record(text)
    if record.status != "ok":
        raise SettingsError(
            f"cell {record.cell_id} {record.status} and left nothing to show: {record.reason}"
        )
    return path, record


def output_file(path: Path, record: Record, name: str) -> Path:
    """Return the file of what a cell left: in the record's suite, or where it was computed.

    Args:
        path: Of the record.
        record: Which names the output.
        name: Such as ``synthetic``, ``selection`` or a model's.

    Raises:
        StoreError: It is not here.
    """
    file = f"{record.outputs[name]}.safetensors"
    places = [path.parent.parent / "outputs" / file, home() / record.suite / "outputs" / file]
    for place in places:
        if place.exists():
            return place
    raise StoreError(
        f"output {name!r} of cell {record.cell_id} is not here ({places[-1]}); take it from where "
        f"the cell was computed, or compute it again: fedbench run --record {path} --force"
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
