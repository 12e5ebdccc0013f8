"""Which cells need no computing: those with a good record of the data that is here now."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from fedbench.bench.records.completed import completed
from fedbench.bench.records.record import Record, find_record, read_records, record_path, stamp
from fedbench.config import Cell
from fedbench.data.settings import Data
from fedbench.data.sources import Sources, locate
from fedbench.data.specs import DATASETS
from fedbench.errors import DataError, SettingsError
from fedbench.federation.resources import Folders, declared, digests
from fedbench.files import move_aside
from fedbench.methods import METHODS

log = logging.getLogger(__name__)


def data_sources(settings: Data, root: Path) -> Sources:
    """Return the data files that settings ask for, as far as they are here."""
    return locate(DATASETS.get(settings.name), root, settings.path)


def data_digest(settings: Data, folders: Folders) -> str | None:
    """Return a digest of the content of the files that settings ask for; None if some lack.

    Raises:
        DataError: A file cannot be read.
    """
    sources = data_sources(settings, folders.data)
    return sources.digest(folders.cache) if sources.found else None


def why_absent(settings: Data, root: Path, *, offline: bool) -> str | None:
    """Return why a cell's data cannot be had, as far as a look at folders and headers can tell.

    Nothing is decoded, downloaded or hashed. Where nothing of a data set is here and a download is
    allowed, nothing is said of it.

    Args:
        settings: Which data.
        root: The data root.
        offline: Whether a download is not allowed.
    """
    try:
        sources = data_sources(settings, root)
        if sources.found:
            sources.look()
            return None
    except DataError as error:
        return str(error)
    if sources.spec.torchvision and not sources.files and not offline:
        return None
    return sources.help


def absent(cells: Iterable[Cell], root: Path, *, offline: bool) -> dict[Data, str]:
    """Return the data that cells need and cannot have, those of public images among them, and why.

    See ``why_absent``.
    """
    wanted = dict.fromkeys(settings for cell in cells for settings in needed(cell))
    found = {settings: why_absent(settings, root, offline=offline) for settings in wanted}
    return {settings: why for settings, why in found.items() if why is not None}


def needed(cell: Cell) -> list[Data]:
    """Return the data sets that a cell reads: the clients', and those of public images."""
    names = METHODS.get(cell.method.name)(cell.method).resources(cell)
    public = (declared(name).data(cell) for name in names)
    return [cell.data, *(settings for settings in public if settings is not None)]


def has_record_of(folder: Path, settings: Data) -> bool:
    """Say whether a suite's folder, such as ``runs/run``, has a good record of some data."""
    wanted = settings.model_dump(mode="json")
    return any(
        record.status == "ok" and completed(record.settings)["data"] == wanted
        for _, record in read_records(folder / "records")
    )


def good_record(home: Path, suite: str, cell: Cell, root: Path) -> tuple[Path, Record] | None:
    """Return a cell's place and record if it is ``ok`` and was made from the files that are here.

    A cell's id names its data set, not its files. A record of other files, such as an image folder
    that has changed since, is moved aside with a warning. Where the files are not here, a record
    is taken as it is.

    Args:
        home: The folder of all results.
        suite: The folder of the record.
        cell: What was asked for.
        root: The data root.
    """
    return record_of(home, suite, cell.cell_id, cell.data, root)


def record_of(
    home: Path, suite: str, cell_id: str, data: Data, root: Path
) -> tuple[Path, Record] | None:
    """Return what ``good_record`` does, for those who know of a cell only its id and its data."""
    found = find_record(home, suite, cell_id)
    if found is None or found[1].status != "ok":
        return None
    path, record = found
    if changed := changed_files(record, data, Folders(root, home), {}):
        log.warning(
            "the files of %s have changed since record %s; it is kept as %s, and the cell "
            "is computed again",
            ", ".join(changed),
            path.name,
            move_aside(path).name,
        )
        return None
    return found


def changed_files(
    record: Record, data: Data, folders: Folders, seen: dict[Data | str, str | None]
) -> list[str]:
    """Return what a record was made of and is not what is here, by name: data set and resources.

    What is not here cannot be told from it.

    Args:
        record: Which.
        data: Its data set.
        folders: Where files are.
        seen: Digests of the files here, kept for the next record.
    """
    if data not in seen:
        seen[data] = data_digest(data, folders)
    changed = [data.name] if seen[data] not in (None, record.data.get("sources")) else []
    known = record.data.get("resources", {})
    for name in known.keys() - seen:
        try:
            seen[name] = digests([name], folders).get(name)
        except SettingsError:  # of a plugin that is not loaded, or of nobody
            seen[name] = None
    return changed + [name for name in known if seen[name] not in (None, known[name])]


def refuse_changed(record: Record, data: Data, folders: Folders) -> None:
    """Refuse to draw what a record has kept beside files that are not those that it was made of.

    Raises:
        DataError: With the names of what has changed.
    """
    if changed := changed_files(record, data, folders, {}):
        raise DataError(
            f"the files of {', '.join(changed)} have changed since cell {record.cell_id} was "
            "computed; put the old ones back, or compute the cell again"
        )


def newer_record(
    home: Path, suite: str, cell: Cell, root: Path, before: str | None
) -> Record | None:
    """Return what somebody has computed of a cell since it was asked for, be it ``ok`` or not.

    Args:
        home: The folder of all results.
        suite: The folder of the record.
        cell: What was asked for.
        root: The data root.
        before: The stamp of the record that was there then (see ``records.stamp``).
    """
    if stamp(record_path(home, suite, cell.cell_id)) in (None, before):
        return None
    found = find_record(home, suite, cell.cell_id)
    if found is not None and found[1].status == "ok":
        found = good_record(home, suite, cell, root)
    return found[1] if found is not None else None
