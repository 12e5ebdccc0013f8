"""What every executor tells its workers, what these report, and the cell they compute."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fedbench.bench.cells.lookup import good_record, newer_record
from fedbench.bench.cells.reasons import reason, trace
from fedbench.bench.cells.running import BusyError, running_path
from fedbench.bench.records.record import Record, keep_record
from fedbench.bench.suites.plan import Planned
from fedbench.config import identity
from fedbench.errors import UnwritableError
from fedbench.imports import heavy_imports
from fedbench.methods import METHODS

if TYPE_CHECKING:
    from fedbench.bench.cells.runtime import Runtime
    from fedbench.federation.context import Progress

log = logging.getLogger(__name__)

#: Seconds between two messages of one worker.
PACE = 0.1


@dataclass(frozen=True)
class Event:
    """What a worker is doing.

    Attributes:
        worker: Its number, from 0; one that died passes it on to its successor.
        cell_id: The cell in hand.
        round: From 1; 0 before the first.
        rounds: How many there are.
        stage: Such as ``client 3``.
        done: Epochs of the stage.
        total: Its epochs.
    """

    worker: int
    cell_id: str
    round: int
    rounds: int
    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Job:
    """What all workers are told when they begin.

    Attributes:
        runtime: Where and how cells run.
        suite: Names the folder of the records.
        profile: A label.
        plugins: Loaded by each worker first (see ``fedbench.plugins.load_plugin``).
        devices: Given to the workers in turn.
        before: By cell, the stamp of the record that was there when the sweep began (see
            ``records.stamp``); any other is somebody's work since then.
    """

    runtime: Runtime
    suite: str
    profile: str | None
    plugins: tuple[str, ...]
    devices: tuple[str, ...]
    before: Mapping[str, str | None] = field(default_factory=dict)


def failure(entry: Planned, job: Job, reason: str, trace: str | None = None) -> Record:
    """Write and return the record of a cell that could not write one itself."""
    home = job.runtime.home
    record = Record(
        cell_id=entry.cell_id,
        status="failed",
        reason=reason,
        traceback=trace,
        suite=job.suite,
        profile=job.profile,
        control=METHODS.get(entry.cell.method.name).control,
        settings=entry.cell.model_dump(mode="json"),
        versions=identity(entry.cell)["versions"],
    )
    keep_record(home, record)
    running_path(home, job.suite, entry.cell_id).unlink(missing_ok=True)
    return record


def finished(entry: Planned, job: Job) -> Record | None:
    """Return a cell's record if nobody has to compute it any more.

    That is a record of after the sweep began, by whichever process, and a good one of before
    unless the sweep is to compute all anew.
    """
    means, cell = job.runtime, entry.cell
    before = job.before.get(entry.cell_id)
    found = newer_record(means.home, job.suite, cell, means.data, before)
    if found is None and not means.refresh:
        good = good_record(means.home, job.suite, cell, means.data)
        return good[1] if good is not None else None
    return found


def work(
    entry: Planned, job: Job, show: Callable[[Progress], None], *, wait: bool = True
) -> Record:
    """Compute a cell in this process and return its record, whatever happens to the cell.

    All that the process prints meanwhile goes to the cell's log.

    Args:
        entry: The cell.
        job: Where and how.
        show: Called whenever its progress changes.
        wait: For another process that has the cell in hand.

    Raises:
        BusyError: Another process has the cell in hand, and this one is not to wait.
        UnwritableError: No record can be kept, so the sweep cannot go on.
    """
    with heavy_imports():
        from fedbench.bench.cells.cell import run_cell

    if (now := entry.cell.cell_id) != entry.cell_id:
        return failure(
            entry,
            job,
            f"to a worker this is cell {now}: a plugin file was edited since the sweep began; "
            "sweep again",
            "",
        )
    if (found := finished(entry, job)) is not None:
        return found
    means = replace(job.runtime, show=show, say=log.info, capture=True)
    before = job.before.get(entry.cell_id)
    try:
        return run_cell(
            entry.cell, means, suite=job.suite, profile=job.profile, before=before, wait=wait
        )
    except (BusyError, UnwritableError):
        raise
    except Exception as error:  # what run_cell does not make a record of
        return failure(entry, job, reason(error), trace())


def silent(_: object) -> None:
    """Take no notice."""
