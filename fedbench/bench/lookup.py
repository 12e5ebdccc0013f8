"""Which cells need no computing: those with a good record of the data that is here now."""

from __future__ import annotations

import logging
from pathlib import Path

from fedbench.bench.records import Record, find_record, record_path, stamp
from fedbench.config import Cell
from fedbench.data.settings import Data
from fedbench.data.sources import Sources, locate
from fedbench.data.specs import DATASETS
from fedbench.federation.resources import Folders, digests
from fedbench.files import move_aside

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
    if _other_files(record, data, Folders(root, home)):
        log.warning(
            "the data files of %s have changed since record %s; it is kept as %s, and the cell "
            "is computed again",
            data.name,
            path.name,
            move_aside(path).name,
        )
        return None
    return found


def _other_files(record: Record, data: Data, folders: Folders) -> bool:
    """Return whether the data set's files or those of resources here are not a record's."""
    if data_digest(data, folders) not in (None, record.data.get("sources")):
        return True
    known = record.data.get("resources", {})
    return any(known[name] != digest for name, digest in digests(known, folders).items())


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
