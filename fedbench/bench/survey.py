"""Where a suite stands: what is done, failed, skipped, in hand and left, and what that will take.

Made of a plan and records alone, without torch, so that it answers in a second while a sweep runs.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedbench.bench.cells.logs import log_path
from fedbench.bench.cells.running import InHand, in_hand
from fedbench.bench.estimate import (
    Cost,
    Estimate,
    Sample,
    artefact_sizes,
    estimate,
    outputs_here,
    sample,
)
from fedbench.bench.records.completed import filled
from fedbench.bench.records.record import Record, read_record, read_records, record_path
from fedbench.bench.suites.planfile import Entry, Plan
from fedbench.errors import StoreError

State = Literal["done", "running", "todo", "not_now"]
Passes = Callable[[Record], float | None]
#: Records of other suites that estimates look at: the newest.
_OTHERS = 1000


@dataclass(frozen=True)
class Failed:
    """A cell whose last computation failed; the next sweep tries it again.

    Attributes:
        cell_id: The cell.
        reason: Why.
        log: Its log, or its record where there is no log.
    """

    cell_id: str
    reason: str
    log: Path


@dataclass(frozen=True)
class Trainings:
    """The client trainings of a suite's cells that are not skipped.

    Attributes:
        uses: How often cells ask for one.
        distinct: How many different ones that are.
        shared: How many of these several cells ask for.
        trained: How many finished cells have left in the artefact store, or taken from it; cells
            that were computed elsewhere have not.
        to_do: How many the cells to compute still need.
    """

    uses: int
    distinct: int
    shared: int
    trained: int
    to_do: int


@dataclass(frozen=True)
class Survey:
    """Where a suite stands.

    Attributes:
        plan: What was asked for.
        done: Cells with a good record.
        failed: Cells whose last computation failed and that are not in hand.
        running: Cells that a living process has in hand.
        gone: Cells whose process has died; the next sweep goes on with them.
        todo: Cells to compute, failed ones too, in that order; in a narrowed sweep, those of them
            that were selected.
        not_now: Cells that are left but were not selected.
        skipped: Cells that cannot run, by reason.
        excluded: Combinations that the suite leaves out, by reason.
        trainings: What cells share.
        estimate: What the cells to compute will take.
        free: Bytes that are free on the disk.
    """

    plan: Plan
    done: tuple[str, ...]
    failed: tuple[Failed, ...]
    running: tuple[InHand, ...]
    gone: tuple[InHand, ...]
    todo: tuple[str, ...]
    not_now: tuple[str, ...]
    skipped: dict[str, int]
    excluded: dict[str, int]
    trainings: Trainings
    estimate: Estimate
    free: int


def survey(
    home: Path,
    plan: Plan,
    *,
    redo: Collection[str] = (),
    chosen: Collection[str] | None = None,
    device: str | None = None,
    gpu: str | None = None,
    passes: Passes = lambda _: None,
    cost: Cost | None = None,
    beside: Path | None = None,
    given: Iterable[tuple[Path, Record]] = (),
) -> Survey:
    """Look at a suite's records.

    Args:
        home: The folder of all results.
        plan: What was asked for.
        redo: Cells whose good records do not count, such as those of changed data files.
        chosen: Ids of the cells that are to be computed, if not all that are left.
        device: The type of the device that estimates are for; that of the suite's newest record
            where None.
        gpu: The name of the GPU that they are for; where None, the newest record's if that is of
            one, and any where ``device`` is given.
        passes: Says how many image passes a record's cell has, where the plan does not.
        cost: Says what an image costs in a cell's networks (see ``estimate.estimate``).
        beside: Folder of published boards, whose records tell what cells take where the home has
            too few.
        given: Records, with their files, that count as the suite's own where it has none itself.
    """
    folder = home / plan.suite
    found = list(read_records(folder / "records"))
    present = {record.cell_id for _, record in found}
    found += [(path, record) for path, record in given if record.cell_id not in present]
    records = {record.cell_id: record for _, record in found}
    beats = {beat.cell_id: beat for beat in in_hand(folder)}
    wanted = {entry.cell_id: entry for entry in plan.cells if entry.skip is None}

    def state(name: str) -> State:
        if name in records and records[name].status == "ok" and name not in redo:
            return "done"
        if name in beats and beats[name].live:
            return "running"
        return "todo" if chosen is None or name in chosen else "not_now"

    states = {name: state(name) for name in wanted}

    def having(*several: State) -> tuple[str, ...]:
        return tuple(name for name, state in states.items() if state in several)

    # A copied record left its weights elsewhere; one of no files was made here if its log is.
    here = {
        record.cell_id
        for path, record in found
        if outputs_here(record, path)
        and (record.outputs or log_path(home, plan.suite, record.cell_id).exists())
    }
    done = [name for name in having("done") if name in here]  # others left their weights elsewhere
    trained = {training for name in done for training in wanted[name].trainings}
    to_come = [wanted[name] for name in having("running", "todo")]
    left = having("todo", "not_now")
    return Survey(
        plan=plan,
        done=having("done"),
        failed=tuple(
            failure(home, records[name])
            for name in left
            if name in records and records[name].status == "failed"
        ),
        running=tuple(beats[name] for name in having("running")),
        gone=tuple(beats[name] for name in left if name in beats),
        todo=having("todo"),
        not_now=having("not_now"),
        skipped=dict(Counter(entry.skip for entry in plan.cells if entry.skip is not None)),
        excluded=dict(Counter(item.reason for item in plan.excluded)),
        trainings=_trainings(wanted.values(), to_come, trained),
        estimate=estimate(
            to_come,
            _samples(home, plan, found, beside, (device, gpu), passes),
            trained=trained,
            artefact_size=artefact_sizes(home / "artefacts" / "classifier"),
            cost=cost,
        ),
        free=_free(home),
    )


def failure(home: Path, record: Record) -> Failed:
    """Return what is to be said of the record of a failed cell."""
    log = log_path(home, record.suite, record.cell_id)
    place = log if log.exists() else record_path(home, record.suite, record.cell_id)
    return Failed(record.cell_id, record.reason or "", place)


def _trainings(
    wanted: Iterable[Entry], to_come: Iterable[Entry], trained: Collection[str]
) -> Trainings:
    uses = Counter(name for entry in wanted for name in entry.trainings)
    needed = {name for entry in to_come for name in entry.trainings}
    return Trainings(
        uses=uses.total(),
        distinct=len(uses),
        shared=sum(count > 1 for count in uses.values()),
        trained=len(trained),
        to_do=len(needed - set(trained)),
    )


def _samples(
    home: Path,
    plan: Plan,
    found: Sequence[tuple[Path, Record]],
    beside: Path | None,
    where: tuple[str | None, str | None],
    passes: Passes,
) -> list[Sample]:
    """Return what earlier cells took, this suite's and others', on one type of device and GPU."""
    device, gpu = where
    known = {entry.cell_id: entry for entry in plan.cells}
    several = [*found, *_others(home, plan.suite), *_published(beside)]
    good = [pair for pair in several if pair[1].status == "ok"]
    own = [pair for pair in found if pair[1].status == "ok"]
    if device is None and good:
        newest = max(own or good, key=lambda pair: pair[0].stat().st_mtime)
        device = newest[1].environment.get("device")
        gpu = newest[1].environment.get("device_name") if device == "cuda" else None

    def taken(path: Path, record: Record) -> Sample:
        """Take a cell of the plan as the plan names it: its record may be older than a setting."""
        entry = known.get(record.cell_id)
        if entry is None:
            return sample(record, path, passes(record))
        whole = {"settings": filled(record.settings, entry.settings)}
        return sample(record.model_copy(update=whole), path, entry.passes or passes(record))

    return [taken(path, record) for path, record in good if _as_in_a_sweep(record, device, gpu)]


def _published(folder: Path | None) -> Iterator[tuple[Path, Record]]:
    for board in sorted(folder.glob("*/records")) if folder else ():
        yield from read_records(board)


def _others(home: Path, suite: str) -> Iterator[tuple[Path, Record]]:
    """Yield the newest records of other suites."""
    paths = [path for path in home.glob("*/records/*.json") if path.parts[-3] != suite]
    for path in sorted(paths, key=lambda path: -path.stat().st_mtime)[:_OTHERS]:
        with suppress(StoreError, FileNotFoundError):  # its own suite's sweep will say so
            yield path, read_record(path)


def _as_in_a_sweep(record: Record, device: str | None, gpu: str | None) -> bool:
    """Say whether a cell ran on a type of device as workers run it: on one thread of a CPU."""
    where = record.environment
    if where.get("device") != device or (gpu is not None and where.get("device_name") != gpu):
        return False
    return device != "cpu" or where.get("threads") == 1


def _free(home: Path) -> int:
    while not home.exists():
        home = home.parent
    return shutil.disk_usage(home).free
