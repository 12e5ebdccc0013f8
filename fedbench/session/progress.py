"""Progress on a terminal: a live display, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from fedbench.imports import heavy_imports
from fedbench.session.console import stderr
from fedbench.session.words import duration, position, whereabouts

#: Seconds between two lines of a cell's progress where there is no terminal, and their share of the
#: time so far where that is more.
_PACE, _SHARE = 5.0, 0.1
#: The same for each cell of a sweep, which says that it begins: after half a minute, then after as
#: long again as it has taken.
_SWEEP_PACE = 30.0

if TYPE_CHECKING:
    from fedbench.bench.cells.runtime import Runtime
    from fedbench.bench.executors import Event
    from fedbench.bench.records.record import Record
    from fedbench.config import Cell
    from fedbench.federation import context
    from fedbench.session.eta import Eta


def one_cell(cell: Cell, means: Runtime, *, suite: str) -> Record:
    """Compute a cell in this process, showing its rounds and epochs."""
    from dataclasses import replace

    with heavy_imports():
        from fedbench.bench.cells.cell import run_cell

    if not stderr.is_terminal:
        line = f"running {cell.method.name} on {cell.data.name} ({cell.cell_id})"
        stderr.print(line, markup=False)
        return run_cell(cell, replace(means, show=_Lines(cell.method.name).show), suite=suite)
    with _bars() as bars:
        task = bars.add_task(cell.method.name, total=None)

        def show(progress: context.Progress) -> None:
            bars.update(
                task,
                completed=progress.done,
                total=progress.total or None,
                description=escape(
                    f"{cell.method.name} · "
                    + position(progress.round, progress.rounds, progress.stage)
                ),
            )

        return run_cell(cell, replace(means, show=show), suite=suite)


class _Lines:
    """The progress of a cell where there is no terminal: a line now and then.

    Args:
        name: Of the method.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = self._said = time.monotonic()

    def show(self, progress: context.Progress) -> None:
        """Print where the cell is, unless a line was printed a moment ago."""
        now = time.monotonic()
        if now - self._said < max(_PACE, _SHARE * (now - self._begun)):
            return
        self._said = now
        place = position(progress.round, progress.rounds, progress.stage)
        epochs = f", {progress.done}/{progress.total}" if progress.total else ""
        line = f"{self._name} · {place}{epochs} ({duration(now - self._begun)})"
        stderr.print(line, markup=False, highlight=False)


def _bars() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=stderr,
        transient=True,
    )


class SweepDisplay:
    """The progress of a sweep: one line for all cells, one for each worker.

    Where there is no terminal, a line when a cell begins and one when it ends; a cell that takes
    long has some between them that say where it is.

    Args:
        labels: What to call each cell, by id.
        eta: Says how long the cells to compute will take.
        total: How many these are.
    """

    def __init__(self, labels: dict[str, str], eta: Eta, total: int) -> None:
        self._labels, self._eta, self._total = labels, eta, total
        self._done, self._failed = 0, 0
        self._start = time.monotonic()
        self._live = stderr.is_terminal
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1)),
            BarColumn(bar_width=16),
            MofNCompleteColumn(table_column=Column(no_wrap=True, justify="right")),
            _Left(eta),
            console=stderr,
            expand=True,
        )
        self._all = self._bars.add_task(self._summary(), total=total)
        self._workers: dict[int, TaskID] = {}
        self._cells: dict[int, str] = {}
        self._begun: dict[str, float] = {}
        self._said: dict[str, float] = {}

    @contextmanager
    def showing(self) -> Iterator[SweepDisplay]:
        """Show the display for the length of the block."""
        if not self._live:
            yield self
            return
        with self._bars:
            try:
                yield self
            finally:
                for task in self._workers.values():
                    self._bars.remove_task(task)

    def event(self, event: Event) -> None:
        """Show what a worker is doing."""
        self._eta.begun(event.cell_id)
        if not self._live:
            self._tell(event)
            return
        if event.worker not in self._workers:
            self._workers[event.worker] = self._bars.add_task("", total=None)
        if self._cells.get(event.worker) != event.cell_id:
            self._bars.reset(self._workers[event.worker])  # since when it is in hand
        self._cells[event.worker] = event.cell_id
        place = position(event.round, event.rounds, event.stage) or "starting"
        self._bars.update(
            self._workers[event.worker],
            completed=event.done,
            total=event.total or None,
            description=escape(f"  {self._labels[event.cell_id]} · {place}"),
            visible=True,
        )

    def _tell(self, event: Event) -> None:
        """Print that a cell begins, or now and then where it is."""
        now, name = time.monotonic(), event.cell_id
        label = self._labels[name]
        if name not in self._begun:
            self._begun[name] = self._said[name] = now
            also = [self._labels[each] for each in self._begun if each != name]
            beside = f"; also in hand: {', '.join(also)}" if also else ""
            line = f"begins {label} ({name}{beside})"
        elif now - self._said[name] >= max(_SWEEP_PACE, self._said[name] - self._begun[name]):
            self._said[name] = now
            place = whereabouts(event.round, event.rounds, event.stage, event.done, event.total)
            line = f"in hand {label}: {place}; for {duration(now - self._begun[name])}"
        else:
            return
        stderr.print(line, markup=False, highlight=False)

    def finished(self, record: Record) -> None:
        """Count a cell."""
        self._done += 1
        self._begun.pop(record.cell_id, None)
        self._failed += record.status == "failed"
        ok = record.status == "ok"
        spent = record.wall_seconds - record.waiting_seconds
        self._eta.finished(record.cell_id, spent if ok else None)
        if self._live:
            self._bars.update(self._all, completed=self._done, description=self._summary())
            for worker, cell_id in self._cells.items():
                if cell_id == record.cell_id:
                    self._bars.update(self._workers[worker], visible=False)
            return
        stderr.print(self._line(record), markup=False, highlight=False)

    def _summary(self) -> str:
        failed = f", [red]{self._failed} failed[/]" if self._failed else ""
        left = self._total - self._done
        return f"cells: {self._done - self._failed} done{failed}, {left} left"

    def _line(self, record: Record) -> str:
        """Return what is said of a cell where there is no terminal."""
        accuracy = record.metrics.get("accuracy")
        outcome = "no accuracy" if accuracy is None else f"{100 * accuracy:.2f} %"
        if record.status != "ok":
            outcome = f"FAILED: {record.reason}"
        failed = f", {self._failed} failed" if self._failed else ""
        return (
            f"[{self._done}/{self._total}] {self._labels[record.cell_id]}: {outcome} "
            f"({record.wall_seconds:.1f} s; {duration(time.monotonic() - self._start)} so far"
            f"{failed}; {self._total - self._done} left{_about(self._eta)})"
        )


class _Left(ProgressColumn):
    """The time left, on the line of all cells; on a worker's, how long its cell is in hand.

    Args:
        eta: Says how long the cells to compute will take.
    """

    def __init__(self, eta: Eta) -> None:
        super().__init__(Column(no_wrap=True, justify="right", min_width=10))
        self._eta = eta

    def render(self, task: Task) -> Text:
        """Return ``~12 min left``, ``for 8 s``, or nothing."""
        if task.id:
            return Text("" if task.elapsed is None else f"for {duration(task.elapsed)}")
        if task.finished:
            return Text("")
        left = self._eta.seconds()
        return Text("time unknown" if left is None else f"~{duration(left)} left", style="cyan")


def _about(eta: Eta) -> str:
    left = eta.seconds()
    return "" if not left else f", about {duration(left)}"
