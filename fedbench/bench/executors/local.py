"""The local executor: worker processes of one thread each on this machine.

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
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from multiprocessing import connection, forkserver, resource_tracker
from typing import TYPE_CHECKING, cast

from fedbench.bench.executors.job import DIED, PACE, Event, Job, failure, work
from fedbench.bench.plan import Planned
from fedbench.bench.records import Record, find_record
from fedbench.registry import load_plugin

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from fedbench.federation.context import Progress

#: Seconds that workers have to leave before they are killed.
_GRACE = 1.0


def execute(
    cells: Sequence[Planned],
    job: Job,
    workers: int,
    on_event: Callable[[Event], None],
    go_on: Callable[[], bool],
) -> Generator[Record, None, None]:
    """Compute cells in worker processes (see ``fedbench.bench.executors.execute``).

    A cell whose worker died is tried once more when all others are done, alone on the machine.
    Closing the generator stops all workers within about a second.
    """
    _start_server()
    count = min(workers, len(cells))
    suspects = []
    with closing(_compute(cells, job, count, on_event, go_on)) as computed:
        for entry, record in computed:
            if record is None and count > 1:
                suspects.append(entry)
            else:
                yield record or failure(entry, job, DIED)
    with closing(_compute(suspects, job, 1, on_event, go_on)) as computed:
        for entry, record in computed:
            yield record or failure(entry, job, DIED)


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
    cells: Iterable[Planned],
    job: Job,
    count: int,
    on_event: Callable[[Event], None],
    go_on: Callable[[], bool],
) -> Generator[tuple[Planned, Record | None], None, None]:
    """Yield every cell with its record, or with None if its worker died."""
    left = deque(cells)
    busy: dict[Connection, _Worker] = {}

    def employ(worker: _Worker) -> None:
        busy[worker.pipe] = worker
        worker.give(left.popleft())

    everybody: list[_Worker] = []
    try:
        for number in range(min(count, len(left)) if go_on() else 0):
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
                if left and go_on():
                    if heard is None:
                        worker = _Worker(worker.number, job)
                        everybody.append(worker)
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

    def __init__(self, number: int, job: Job) -> None:
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


def _serve(pipe: Connection, number: int, job: Job) -> None:
    """Be a worker: compute cells until the parent closes the pipe or is gone."""
    for plugin in job.plugins:
        load_plugin(plugin)
    runtime = replace(job.runtime, device=job.devices[number % len(job.devices)])
    try:
        while True:
            entry: Planned = pipe.recv()
            pipe.send(work(entry, replace(job, runtime=runtime), _reporter(pipe, number, entry)))
    except (EOFError, ConnectionError):
        return


def _reporter(pipe: Connection, number: int, entry: Planned) -> Callable[[Progress], None]:
    last = 0.0

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < PACE:
            return
        last = now
        at = progress.round, progress.rounds, progress.stage, progress.done, progress.total
        try:
            pipe.send(Event(number, entry.cell_id, *at))
        except ConnectionError:
            # Without a parent nobody wants the cell, and this is no failure of it.
            raise SystemExit from None

    return show
