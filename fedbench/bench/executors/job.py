"""What every executor tells its workers, what these report, and the cell they compute."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fedbench.bench.plan import Planned
from fedbench.bench.records import Record, keep_record
from fedbench.config import identity
from fedbench.registry import METHODS

if TYPE_CHECKING:
    from fedbench.bench.runtime import Runtime
    from fedbench.federation.context import Progress

#: Seconds between two messages of one worker.
PACE = 0.1
#: The reason of a cell whose worker has died twice.
DIED = (
    "a worker process died, perhaps for want of memory; run the same command again with fewer "
    "workers"
)


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
        plugins: Loaded by each worker first (see ``fedbench.registry.load_plugin``).
        devices: Given to the workers in turn.
    """

    runtime: Runtime
    suite: str
    profile: str | None
    plugins: tuple[str, ...]
    devices: tuple[str, ...]


def failure(entry: Planned, job: Job, reason: str, trace: str | None = None) -> Record:
    """Write and return the record of a cell that could not write one itself."""
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
    keep_record(job.runtime.home, record)
    return record


def work(entry: Planned, job: Job, show: Callable[[Progress], None]) -> Record:
    """Compute a cell in this process and return its record, whatever happens."""
    from fedbench.bench.cell import run_cell

    means = replace(job.runtime, show=show)
    try:
        return run_cell(entry.cell, means, suite=job.suite, profile=job.profile)
    except Exception as error:  # what run_cell does not make a record of, such as a full disk
        reason = f"{type(error).__name__}: {error}"
        return failure(entry, job, reason, traceback.format_exc())


def silent(_: object) -> None:
    """Take no notice."""
