"""The local executor: worker processes of one thread each on this machine.

Workers are forked from a server that has the libraries loaded, so a worker costs milliseconds. Each
has a pipe of its own and one cell at a time; when it dies, the pipe ends, so it is known which cell
it had, and the others do not notice (a pool of the standard library breaks as a whole). What a
worker has finished is on the disk before the parent hears of it, and a worker whose parent is gone
kills itself, so that nobody goes on writing. A cell that another sweep has in hand is left to it,
and asked for again when there is nothing else to do.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, forkserver, resource_tracker
from typing import TYPE_CHECKING, cast

from fedbench.bench.cells.reasons import death, gpu_is_lost, reason, trace
from fedbench.bench.cells.running import BusyError, running_path
from fedbench.bench.executors.job import PACE, Event, Job, failure, finished, work
from fedbench.bench.records.record import Record
from fedbench.bench.suites.plan import Planned
from fedbench.errors import SettingsError, UnwritableError
from fedbench.files import Lock
from fedbench.plugins import load_plugin

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from fedbench.federation.context import Progress

#: Seconds that workers have to leave before they are killed.
_GRACE = 1.0
#: Seconds between two looks at cells that other processes have in hand.
_POLL = 0.5


@dataclass(frozen=True)
class _Died:
    """The worker of a cell is dead."""

    code: int | None


@dataclass(frozen=True)
class _Busy:
    """Another process has the cell in hand."""


@dataclass(frozen=True)
class _Unwritable:
    """Nothing can be kept any more."""

    message: str


_Heard = Event | Record | _Died | _Busy | _Unwritable


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

    Raises:
        UnwritableError: No record can be kept, so all workers have been stopped.
    """
    _start_server()
    count = min(workers, len(cells))
    suspects = []
    with closing(_Crew(job, count, on_event, go_on).compute(cells)) as computed:
        for entry, outcome in computed:
            if isinstance(outcome, Record):
                yield outcome
            elif count > 1:
                suspects.append(entry)
            else:
                yield failure(entry, job, death(outcome.code))
    with closing(_Crew(job, 1, on_event, go_on).compute(suspects)) as computed:
        for entry, outcome in computed:
            alone = outcome if isinstance(outcome, Record) else None
            yield alone or failure(entry, job, death(cast(_Died, outcome).code))


def _start_server() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["fedbench.bench.cells.cell", "fedbench.training.classifier"]
    )
    resource_tracker.ensure_running()  # first, because it changes the mask
    # The server and all workers inherit the mask: the parent alone answers Ctrl-C.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    except OSError as error:
        raise SettingsError(
            f"no socket for worker processes in {tempfile.gettempdir()!r} ({error}); set TMPDIR to "
            "a folder that you may write, with a path of at most 70 characters, such as /tmp"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Crew:
    """So many workers, and the cells that they are given.

    Args:
        job: What workers are told when they begin.
        count: How many at most.
        on_event: Called with what workers are doing.
        go_on: Asked before a worker is given a cell.
    """

    def __init__(
        self,
        job: Job,
        count: int,
        on_event: Callable[[Event], None],
        go_on: Callable[[], bool],
    ) -> None:
        self._job, self._on_event, self._go_on = job, on_event, go_on
        self._idle = deque(_Worker(number, job) for number in range(count))
        self._busy: dict[Connection, _Worker] = {}
        self._left: deque[Planned] = deque()
        self._elsewhere: dict[str, tuple[Planned, Lock]] = {}

    def compute(
        self, cells: Iterable[Planned]
    ) -> Generator[tuple[Planned, Record | _Died], None, None]:
        """Yield every cell with its record, or with how its worker died."""
        self._left.extend(cells)
        try:
            while True:
                self._employ()
                if not self._busy and not self._elsewhere:
                    return
                for worker, heard in self._listen():
                    if isinstance(heard, Event):
                        self._on_event(heard)
                    elif isinstance(heard, _Unwritable):
                        raise UnwritableError(heard.message)
                    elif isinstance(heard, _Busy):
                        self._leave(worker)
                    else:
                        entry = self._rest(worker)
                        self._employ()  # before the caller takes its time
                        yield entry, heard
                yield from self._look_elsewhere()
        finally:
            _dismiss([*self._idle, *self._busy.values()])
            for worker in self._busy.values():
                place = self._job.runtime.home, self._job.suite, worker.entry.cell_id
                running_path(*place).unlink(missing_ok=True)

    def _employ(self) -> None:
        """Give cells to those who have none; when no more are to be given, forget the rest."""
        while self._left and self._idle:
            if not self._go_on():
                self._left.clear()
                break
            worker = self._idle.popleft()
            worker.give(self._left.popleft())
            self._busy[worker.pipe] = worker
        if self._elsewhere and not self._busy and not self._go_on():
            self._elsewhere.clear()

    def _listen(self) -> Iterator[tuple[_Worker, _Heard]]:
        """Yield what workers say, or nothing if it is time to look after cells elsewhere."""
        if not self._busy:
            time.sleep(_POLL)
            return
        patience = _POLL if self._elsewhere and self._idle else None
        for pipe in connection.wait(list(self._busy), patience):
            worker = self._busy[cast("Connection", pipe)]
            yield worker, worker.hear()

    def _rest(self, worker: _Worker) -> Planned:
        """Note that a worker has no cell any more, and return the one that it had."""
        del self._busy[worker.pipe]
        self._idle.append(worker)
        return worker.entry

    def _leave(self, worker: _Worker) -> None:
        """Leave a worker's cell to the process that has it in hand."""
        entry = self._rest(worker)
        place = self._job.runtime.home / self._job.suite / "locks" / f"{entry.cell_id}.lock"
        self._elsewhere[entry.cell_id] = entry, Lock(place)

    def _look_elsewhere(self) -> Iterator[tuple[Planned, Record]]:
        """Yield what other processes have finished; take over what they have let go."""
        if self._left or not self._idle:
            return
        for entry, lock in list(self._elsewhere.values()):
            found = finished(entry, self._job)
            if found is not None:
                del self._elsewhere[entry.cell_id]
                yield entry, found
            elif lock.acquire(wait=False):
                lock.release()
                del self._elsewhere[entry.cell_id]
                self._left.append(entry)


class _Worker:
    """A worker process, as its parent sees it. It is started with its first cell.

    Args:
        number: From 0.
        job: What it is told when it begins.
    """

    entry: Planned
    pipe: Connection

    def __init__(self, number: int, job: Job) -> None:
        self._number, self._job = number, job
        self.process: multiprocessing.process.BaseProcess | None = None

    def give(self, entry: Planned) -> None:
        """Hand it a cell; if it dies meanwhile, ``hear`` will say so."""
        if self.process is None or not self.process.is_alive():
            self._start()
        self.entry = entry
        with suppress(OSError):
            self.pipe.send(entry)

    def hear(self) -> _Heard:
        """Return what it says, or that it is dead."""
        try:
            said: _Heard = self.pipe.recv()
            return said
        except (EOFError, OSError):
            # It may have left once the record was written, or died before it could send it.
            code = self._bury()
            return finished(self.entry, self._job) or _Died(code)

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=_serve, args=(far, self._number, self._job))
        self.process.start()
        far.close()

    def _bury(self) -> int | None:
        assert self.process is not None
        self.process.join(_GRACE)
        code, self.process = self.process.exitcode, None
        return code


def _dismiss(workers: Iterable[_Worker]) -> None:
    """Stop workers, whatever they are doing; they are gone afterwards."""
    present = [w.process for w in workers if w.process is not None and w.process.is_alive()]
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
                process.join(_GRACE)


def _serve(pipe: Connection, number: int, job: Job) -> None:
    """Be a worker: compute cells until the parent closes the pipe or is gone."""
    threading.Thread(target=_follow_parent, name="follow-parent", daemon=True).start()
    faulthandler.enable()
    for plugin in job.plugins:
        load_plugin(plugin)
    runtime = replace(job.runtime, device=job.devices[number % len(job.devices)])
    own = replace(job, runtime=runtime)
    with suppress(EOFError, ConnectionError):
        while True:
            entry: Planned = pipe.recv()
            outcome = _outcome(entry, own, _reporter(pipe, number, entry))
            if gpu_is_lost():  # its record is kept, and the next cell needs another process
                return
            pipe.send(outcome)


def _outcome(entry: Planned, job: Job, show: Callable[[Progress], None]) -> _Heard:
    try:
        return work(entry, job, show, wait=False)
    except BusyError:
        return _Busy()
    except UnwritableError as error:
        return _Unwritable(str(error))
    except (SystemExit, KeyboardInterrupt):  # how Lightning passes on a signal
        raise
    except BaseException as error:  # some library's own
        return failure(entry, job, reason(error), trace())


def _follow_parent() -> None:
    """Die when the parent does: another sweep may begin at any moment."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)


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
