"""Records: one JSON file for each cell, the truth that all tables are made of.

Knows nothing of torch, so that reports answer at once. The fields are defined in
``docs/records.md``.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from fedbench.bench.records.about import method_label, preset_label
from fedbench.bench.records.former import of_today
from fedbench.bench.records.soundness import cleaned, faults
from fedbench.errors import StoreError
from fedbench.files import move_aside, write_atomic
from fedbench.settings import Settings, explain

log = logging.getLogger(__name__)

SCHEMA = 1
#: Of so many faults of one file each is named.
_FAULTS = 3
Status = Literal["ok", "failed", "skipped"]


class Record(Settings):
    """What one cell left behind."""

    schema_version: Literal[1] = 1
    """Version of this layout."""
    cell_id: str
    """Identity of the settings (ARCHITECTURE rule 11)."""
    status: Status
    """`ok`, `failed` (retried by the next run) or `skipped` (known at plan time)."""
    reason: str | None = None
    """Why it failed or was skipped."""
    traceback: str | None = None
    """Of a failure."""
    suite: str
    """The suite that it was computed for."""
    profile: str | None = None
    """The suite's profile."""
    control: bool = False
    """Whether the method is a row to compare with rather than a contender."""
    deterministic: bool = True
    """Whether the same settings give the same bits again on this device."""
    settings: dict[str, Any]
    """The whole cell, defaults written out."""
    about: dict[str, Any] = Field(default_factory=dict)
    """What its method says of itself (see ``bench.about``)."""
    versions: dict[str, Any]
    """Versions of the parts that the identity hashes."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Fingerprint, sizes and classes of the data as used."""
    partition: dict[str, Any] = Field(default_factory=dict)
    """Digest, label histogram and hold-outs."""
    metrics: dict[str, Any] = Field(default_factory=dict)
    """Headline numbers, then every model's."""
    findings: dict[str, Any] = Field(default_factory=dict)
    """What the method says of its work, such as clients whose distillation came to nothing."""
    curves: list[dict[str, Any]] = Field(default_factory=list)
    """Points on the fixed share of the test set."""
    ledger: dict[str, Any] = Field(default_factory=dict)
    """Bytes, rounds and seconds."""
    shared_pixels: int = 0
    """Pixels of the shared or synthetic set, and of public images held beforehand."""
    resource_bytes: int = 0
    """Bytes of resources that are no images, such as the weights of a network."""
    label_bytes: int = 0
    """Bytes of the shared set's soft labels, which no budget in pixels counts; 0 for class ids."""
    resources: list[str] = Field(default_factory=list)
    """What the server had beside uploads."""
    privileges: list[str] = Field(default_factory=list)
    """What the method was given that others were not."""
    outputs: dict[str, str] = Field(default_factory=dict)
    """Digests of what it left: models and synthetic sets, in `outputs/`."""
    wall_seconds: float = 0.0
    """From start to record, evaluation included."""
    evaluation_seconds: float = 0.0
    """The part of it that scoring models took, for curves and at the end."""
    waiting_seconds: float = 0.0
    """The part of it that passed while other processes built an artefact of this cell's."""
    peak_memory_bytes: int = 0
    """Largest resident memory of the process during the cell."""
    peak_device_memory_bytes: int = 0
    """Largest memory allocated on an accelerator."""
    environment: dict[str, Any] = Field(default_factory=dict)
    """Device, threads, versions, commit."""

    def method_label(self) -> str:
        """Return ``method`` or ``method (preset)``; a star is for settings that differ from it."""
        method = self.settings["method"]
        return method_label(str(method["name"]), preset_label(method, self.about))


def record_path(home: Path, suite: str, cell_id: str) -> Path:
    """Return where a cell's record lives."""
    return home / suite / "records" / f"{cell_id}.json"


def write_record(path: Path, record: Record) -> None:
    """Write a record; keys keep their order, floats their every digit."""
    content = json.dumps(record.model_dump(mode="json"), indent=1) + "\n"
    write_atomic(path, content, durable=True)


def keep_record(home: Path, record: Record) -> Path:
    """Write a cell's record in its place; a failure never takes the place of a good one.

    Returns:
        Where it was written: beside the good record, as ``CELL_ID.failed``, where there is one.
    """
    path = record_path(home, record.suite, record.cell_id)
    if record.status == "failed":
        there = find_record(home, record.suite, record.cell_id)
        if there is not None and there[1].status == "ok":
            path = path.with_suffix(".failed")
    write_record(path, record)
    return path


def stamp(path: Path) -> str | None:
    """Return a digest that tells a record from every later one of its cell; None if there is none.

    Two computations of a cell differ in their times, so no clock or file attribute is asked.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # moved aside where it is read as a record
        return type(error).__name__


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        StoreError: The file is truncated, foreign, of another schema version, holds what cannot be
            (see ``soundness``), or may not be read.
        FileNotFoundError: There is none.
    """
    try:
        record = Record.model_validate(cleaned(json.loads(path.read_text(encoding="utf-8"))))
        wrong = list(islice(faults(dict(record)), _FAULTS))
        if wrong:
            raise ValueError("; ".join(wrong))
        return record.model_copy(update={"settings": of_today(record.settings)})
    except ValidationError as error:
        raise StoreError(f"{path} is not a record of schema {SCHEMA}: {explain(error)}") from error
    except (ValueError, RecursionError, IsADirectoryError, PermissionError) as error:
        raise StoreError(f"{path} is not a record: {error}") from error


def find_record(home: Path, suite: str, cell_id: str) -> tuple[Path, Record] | None:
    """Return a cell's record if there is a whole one; a damaged one is moved aside."""
    path = record_path(home, suite, cell_id)
    try:
        record = read_record(path)
        if record.cell_id != cell_id:
            raise StoreError(f"{path} is the record of cell {record.cell_id}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except StoreError as error:
        aside = move_aside(path)
        log.warning("%s; moved to %s, and the cell is computed again", error, aside.name)
        return None
    return path, record


def read_records(folder: Path) -> Iterator[tuple[Path, Record]]:
    """Yield every record of a folder in order of name.

    A damaged one is named, once in a process, and left out, and so is one that is not named by its
    cell, such as a copy beside the original.
    """
    for path in sorted(folder.glob("*.json")):
        try:
            record = read_record(path)
        except FileNotFoundError:  # moved aside by a sweep at this moment
            continue
        except StoreError as error:
            _warn_once(f"{error}; left out")
            continue
        if record.cell_id != path.stem:
            _warn_once(f"{path} is the record of cell {record.cell_id}; left out")
            continue
        yield path, record


@lru_cache(maxsize=1000)
def _warn_once(message: str) -> None:
    log.warning("%s", message)
