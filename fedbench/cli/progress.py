"""Progress on a terminal: a live display, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fedbench.cli.console import stderr

if TYPE_CHECKING:
    from fedbench.bench.executors import Event
    from fedbench.bench.records import Record
    from fedbench.bench.runtime import Runtime
    from fedbench.config import Cell
    from fedbench.federation import context


def describe(round: int, rounds: int, stage: str) -> str:
    """Return where a cell is, such as ``round 2/10 · client 3``."""
    return f"round {round}/{rounds} · {stage}" if rounds > 1 and round else stage


def one_cell(cell: Cell, means: Runtime, *, suite: str) -> Record:
    """Compute a cell in this process, showing its rounds and epochs."""
    from dataclasses import replace

    from fedbench.bench.cell import run_cell

    if not stderr.is_terminal:
        stderr.print(f"running {cell.method.name} on {cell.data.name} ({cell.cell_id})")
        return run_cell(cell, means, suite=suite)
    with _bars(transient=True) as bars:
        task = bars.add_task(cell.method.name, total=None)

        def show(progress: context.Progress) -> None:
            bars.update(
                task,
                completed=progress.done,
                total=progress.total or None,
                description=f"{cell.method.name} · "
                + describe(progress.round, progress.rounds, progress.stage),
            )

        return run_cell(cell, replace(means, show=show), suite=suite)


def _bars(*, transient: bool) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=stderr,
        transient=transient,
    )


class SweepDisplay:
    """The progress of a sweep: one line for all cells, one for each worker.

    Args:
        total: Cells to compute.
        labels: What to call each cell, by id.
    """

    def __init__(self, total: int, labels: dict[str, str]) -> None:
        self._labels, self._total, self._done, self._failed = labels, total, 0, 0
        self._start = time.monotonic()
        self._live = stderr.is_terminal
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=stderr,
        )
        self._all = self._bars.add_task("cells", total=total)
        self._workers: dict[int, TaskID] = {}

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
        if not self._live:
            return
        if event.worker not in self._workers:
            self._workers[event.worker] = self._bars.add_task("", total=None)
        text = describe(event.round, event.rounds, event.stage)
        self._bars.update(
            self._workers[event.worker],
            completed=event.done,
            total=event.total or None,
            description=f"  {self._labels[event.cell_id]} · {text}",
        )

    def finished(self, record: Record) -> None:
        """Count a cell."""
        self._done += 1
        self._failed += record.status == "failed"
        label = self._labels[record.cell_id]
        if self._live:
            failed = f", [red]{self._failed} failed[/]" if self._failed else ""
            self._bars.update(self._all, completed=self._done, description=f"cells{failed}")
            return
        took = f"{record.wall_seconds:.1f} s"
        accuracy = record.metrics.get("accuracy")
        outcome = "no accuracy" if accuracy is None else f"{100 * accuracy:.2f} %"
        if record.status != "ok":
            outcome = f"FAILED: {record.reason}"
        stderr.print(
            f"[{self._done}/{self._total}] {label}: {outcome} ({took}; "
            f"{time.monotonic() - self._start:.0f} s so far)",
            markup=False,
            highlight=False,
        )
