"""Who computes the cells of a sweep: worker processes of one thread each on this machine.

Workers are forked from a server that has the libraries loaded, so a worker costs milliseconds.
What a worker has finished is on the disk before the parent hears of it.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.bench.plan import Planned
from fedbench.bench.records import Record, record_path, write_record
from fedbench.config import identity
from fedbench.registry import load_plugin

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

    from fedbench.bench.cell import Runtime
    from fedbench.federation.context import Progress

#: Seconds between two messages of one worker.
_PACE = 0.1


@dataclass(frozen=True)
class Event:
    """What a worker is doing.

    Attributes:
        worker: Its process id.
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


def execute(
    cells: Sequence[Planned],
    runtime: Runtime,
    *,
    suite: str,
    profile: str | None,
    workers: int,
    plugins: Sequence[str] = (),
    on_event: Callable[[Event], None] = lambda _: None,
) -> Iterator[Record]:
    """Compute cells and yield their records as they are finished.

    Args:
        cells: What to compute, in this order.
        runtime: Where; each worker takes one thread of it on the CPU.
        suite: Names the folder of the records.
        profile: A label.
        workers: Processes; at least 1.
        plugins: Loaded by each worker first (see ``fedbench.registry.load_plugin``).
        on_event: Called, from another thread, with what workers are doing.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fedbench.bench.cell", "fedbench.training.classifier"])
    events: Queue[Event] = context.Queue()
    quiet = replace(runtime, threads=1, show=_silent, say=_silent)
    pool = ProcessPoolExecutor(
        min(workers, max(len(cells), 1)),
        mp_context=context,
        initializer=_begin,
        initargs=(events, tuple(plugins)),
    )
    try:
        with _listening(events, on_event):
            futures = {pool.submit(_work, entry, quiet, suite, profile): entry for entry in cells}
            for future in as_completed(futures):
                yield _result(future, futures[future], runtime.home, suite, profile)
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(
    future: Future[Record], entry: Planned, home: Path, suite: str, profile: str | None
) -> Record:
    try:
        return future.result()
    except BrokenProcessPool:
        record = Record(
            cell_id=entry.cell_id,
            status="failed",
            suite=suite,
            profile=profile,
            settings=entry.cell.model_dump(mode="json"),
            versions=identity(entry.cell)["versions"],
            reason="a worker process died, perhaps for want of memory; run the same "
            "command again with fewer workers",
        )
        write_record(record_path(home, suite, entry.cell_id), record)
        return record


@contextmanager
def _listening(events: Queue[Event], on_event: Callable[[Event], None]) -> Iterator[None]:
    stop = threading.Event()

    def listen() -> None:
        while not stop.is_set():
            try:
                on_event(events.get(timeout=_PACE))
            except queue.Empty:
                continue

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


_events: Queue[Event]


def _begin(events: Queue[Event], plugins: tuple[str, ...]) -> None:
    """Prepare a worker; the parent alone answers Ctrl-C."""
    global _events
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _events = events
    for plugin in plugins:
        load_plugin(plugin)


def _work(entry: Planned, runtime: Runtime, suite: str, profile: str | None) -> Record:
    from fedbench.bench.cell import run_cell

    last = 0.0

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PACE:
            last = now
            _events.put(
                Event(
                    os.getpid(),
                    entry.cell_id,
                    progress.round,
                    progress.rounds,
                    progress.stage,
                    progress.done,
                    progress.total,
                )
            )

    return run_cell(entry.cell, replace(runtime, show=show), suite=suite, profile=profile)


def _silent(_: object) -> None:
    """Take no notice."""
