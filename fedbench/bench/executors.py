"""Who computes the cells of a sweep: worker processes of one thread each on this machine.

Workers are forked from a server that has the libraries loaded, so a worker costs milliseconds. Each
has a pipe of its own and one cell at a time; when it dies, the pipe ends, so it is known which cell
it had, and the others do not notice (a pool of the standard library breaks as a whole). What a
worker has finished is on the disk before the parent hears of it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, forkserver, resource_tracker
from typing import TYPE_CHECKING, cast

from fedbench.bench.plan import Planned
from fedbench.bench.records import Record, find_record, keep_record
from fedbench.config import identity
from fedbench.registry import METHODS, load_plugin

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from fedbench.bench.runtime import Runtime
    from fedbench.federation.context import Progress

#: Seconds between two messages of one worker.
_PACE = 0.1
#: Seconds that workers have to leave before they are killed.
_GRACE = 1.0
_DIED = (
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
class _Job:
    """What all workers are told when they begin."""

    runtime: Runtime
    suite: str
    profile: str | None
    plugins: tuple[str, ...]
    devices: tuple[str, ...]


def execute(
    cells: Sequence[Planned],
    runtime: Runtime,
    *,
    suite: str,
    profile: str | None,
    workers: int,
    plugins: Sequence[str] = (),
    devices: Sequence[str] = (),
    on_event: Callable[[Event], None] = lambda _: None,
) -> Generator[Record, None, None]:
    """Compute cells and yield their records as they are finished.

    A cell whose worker dies is tried once more when all others are done, alone on the machine, and
    has failed if its worker dies again. Closing the generator, or an exception such as Ctrl-C in
    it, stops all workers within about a second; a cell in hand goes on at its last commit when it
    is next computed.

    Args:
        cells: What to compute, in this order.
        runtime: Where; each worker takes one thread of it on the CPU.
        suite: Names the folder of the records.
        profile: A label.
        workers: Processes; at least 1.
        plugins: Loaded by each worker first (see ``fedbench.registry.load_plugin``).
        devices: Given to the workers in turn; the runtime's device where there are none.
        on_event: Called with what workers are doing, while a record is waited for.
    """
    _start_server()
    quiet = replace(runtime, threads=1, show=_silent, say=_silent)
    job = _Job(quiet, suite, profile, tuple(plugins), tuple(devices) or (runtime.device,))
    count = min(workers, len(cells))
    suspects = []
    with closing(_compute(cells, job, count, on_event)) as computed:
        for entry, record in computed:
            if record is None and count > 1:
                suspects.append(entry)
            else:
                yield record or _failure(entry, job, _DIED)
    with closing(_compute(suspects, job, 1, on_event)) as computed:
        for entry, record in computed:
            yield record or _failure(entry, job, _DIED)


def _start_server() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["fedbench.bench.cell", "fedbench.training.classifier"]
    )
    resource_tracker.ensure_running()  # first, because it changes the mask
    # The server and all workers inherit the mask: the parent alone answers Ctrl-C.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _compute(
    cells: Iterable[Planned], job: _Job, count: int, on_event: Callable[[Event], None]
) -> Generator[tuple[Planned, Record | None], None, None]:
    """Yield every cell with its record, or with None if its worker died."""
    left = deque(cells)
    busy: dict[Connection, _Worker] = {}

    def employ(worker: _Worker) -> None:
        busy[worker.pipe] = worker
        worker.give(left.popleft())

    everybody: list[_Worker] = []
    try:
        for number in range(min(count, len(left))):
            everybody.append(_Worker(number, job))
            employ(everybody[-1])
        while busy:
            for pipe in connection.wait(list(busy)):
                worker = busy[cast("Connection", pipe)]
                entry, heard = worker.entry, worker.hear()
                if isinstance(heard, Event):
                    on_event(heard)
                    continue
                del busy[worker.pipe]
                if heard is None and left:
                    worker = _Worker(worker.number, job)
                    everybody.append(worker)
                if left:
                    employ(worker)
                yield entry, heard
    finally:
        _dismiss(everybody)


class _Worker:
    """A worker process, as its parent sees it.

    Args:
        number: From 0.
        job: What it is told when it begins.
    """

    entry: Planned

    def __init__(self, number: int, job: _Job) -> None:
        self.number, self._job, self._since = number, job, 0.0
        context = multiprocessing.get_context("forkserver")
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=_serve, args=(far, number, job))
        self.process.start()
        far.close()

    def give(self, entry: Planned) -> None:
        """Hand it a cell; if it is dead, ``hear`` will say so."""
        self.entry, self._since = entry, time.time()
        with suppress(OSError):
            self.pipe.send(entry)

    def hear(self) -> Event | Record | None:
        """Return what it says: an event, or its cell's record, or None if it is dead."""
        try:
            said: Event | Record = self.pipe.recv()
            return said
        except (EOFError, OSError):
            home, suite = self._job.runtime.home, self._job.suite
            found = find_record(home, suite, self.entry.cell_id)
            # It may have died between writing the record and sending it.
            if found and found[1].status == "ok" and found[0].stat().st_mtime >= self._since:
                return found[1]
            return None


def _dismiss(workers: Iterable[_Worker]) -> None:
    """Stop workers, whatever they are doing; they are gone afterwards."""
    present = [worker.process for worker in workers if worker.process.is_alive()]
    for process in present:
        process.terminate()
    end = time.monotonic() + _GRACE
    try:
        for process in present:
            process.join(max(0.0, end - time.monotonic()))
    finally:  # also when Ctrl-C is pressed again
        for process in present:
            if process.is_alive():
                process.kill()


def _failure(entry: Planned, job: _Job, reason: str, trace: str | None = None) -> Record:
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


def _serve(pipe: Connection, number: int, job: _Job) -> None:
    """Be a worker: compute cells until the parent closes the pipe or is gone."""
    for plugin in job.plugins:
        load_plugin(plugin)
    runtime = replace(job.runtime, device=job.devices[number % len(job.devices)])
    try:
        while True:
            entry: Planned = pipe.recv()
            pipe.send(_work(entry, replace(job, runtime=runtime), _reporter(pipe, number, entry)))
    except (EOFError, ConnectionError):
        return


def _work(entry: Planned, job: _Job, show: Callable[[Progress], None]) -> Record:
    from fedbench.bench.cell import run_cell

    means = replace(job.runtime, show=show)
    try:
        return run_cell(entry.cell, means, suite=job.suite, profile=job.profile)
    except Exception as error:  # what run_cell does not make a record of, such as a full disk
        reason = f"{type(error).__name__}: {error}"
        return _failure(entry, job, reason, traceback.format_exc())


def _reporter(pipe: Connection, number: int, entry: Planned) -> Callable[[Progress], None]:
    last = 0.0

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _PACE:
            return
        last = now
        at = progress.round, progress.rounds, progress.stage, progress.done, progress.total
        try:
            pipe.send(Event(number, entry.cell_id, *at))
        except ConnectionError:
            # Without a parent nobody wants the cell, and this is no failure of it.
            raise SystemExit from None

    return show


def _silent(_: object) -> None:
    """Take no notice."""
