"""A log file for each cell: what was asked, where the cell was when, and how it ended.

In a worker process everything that is printed while the cell is in hand lands there too, native
messages and tracebacks included, because the file takes the place of standard output and error
below Python. Later computations of the cell are appended.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
import traceback
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from fedbench.bench.records.about import method_label, preset_label
from fedbench.files import writing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedbench.bench.records.record import Record
    from fedbench.config import Cell
    from fedbench.federation.context import Progress

#: Seconds between two lines of one round.
PACE = 10.0
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_path(home: Path, suite: str, cell_id: str) -> Path:
    """Return where a cell's log is."""
    return home / suite / "logs" / f"{cell_id}.log"


class CellLog:
    """Writes a cell's log for the length of a ``with`` block.

    Args:
        path: See ``log_path``.
        capture: Take what the process prints, too.
    """

    def __init__(self, path: Path, *, capture: bool) -> None:
        self._path, self._capture = path, capture
        self._stack = ExitStack()
        self._round, self._said = 0, 0.0

    def __enter__(self) -> CellLog:
        with self._stack as stack, writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = stack.enter_context(self._path.open("a", 1, "utf-8", "backslashreplace"))
            if self._capture:
                stack.callback(_restore, _redirect(self._file))
            handler = logging.StreamHandler(self._file)
            handler.setFormatter(logging.Formatter(_FORMAT))
            logging.getLogger().addHandler(handler)
            stack.callback(logging.getLogger().removeHandler, handler)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._stack.close()
            return
        with suppress(OSError):  # the log's disk may be what the cell has failed by
            self._file.writelines(traceback.format_exception(error))
            self.line(f"left: {kind.__name__}: {error}")
        with suppress(OSError):
            self._stack.close()

    def line(self, text: str) -> None:
        """Write a line with the time before it."""
        self._file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        self._said = time.monotonic()

    def begin(self, cell: Cell, suite: str, device: str, threads: int) -> None:
        """Write what is computed and where."""
        settings = cell.model_dump(mode="json", exclude_defaults=True)
        self.line(f"begin {cell.cell_id} of {suite}: {title(cell)}")
        self.line(f"settings {json.dumps(settings, separators=(',', ':'))}")
        self.line(f"on {platform.node()}, process {os.getpid()}, {device}, {threads} threads")

    def show(self, progress: Progress) -> None:
        """Write where the cell is at every new round, and now and then within one."""
        if progress.round == self._round and time.monotonic() - self._said < PACE:
            return
        self._round = progress.round
        epochs = f", epoch {progress.done}/{progress.total}" if progress.total else ""
        self.line(f"round {progress.round}/{progress.rounds}: {progress.stage}{epochs}")

    def end(self, record: Record) -> None:
        """Write how it ended."""
        accuracy = record.metrics.get("accuracy")
        outcome = record.reason if accuracy is None else f"accuracy {100 * accuracy:.2f} %"
        if record.traceback:
            self._file.write(record.traceback)
        self.line(f"end {record.status} after {record.wall_seconds:.2f} s: {outcome}")


def title(cell: Cell) -> str:
    """Return a cell in one line: ``fedavg (one_shot) on digits, iid, 5 clients, seed 0``."""
    method, partition = cell.method, cell.partition
    name = method_label(method.name, preset_label(method.model_dump(mode="json")))
    return (
        f"{name} on {cell.data.name}, {partition.scheme}, {partition.clients} clients, "
        f"seed {cell.seed}"
    )


def _streams() -> Iterator[TextIO]:
    yield from (stream for stream in (sys.stdout, sys.stderr) if stream is not None)


def _redirect(file: TextIO) -> tuple[list[int], int]:
    """Let standard output and error go to a file, and return how they were."""
    for stream in _streams():
        stream.flush()
    before = [os.dup(1), os.dup(2)]
    for number in (1, 2):
        os.dup2(file.fileno(), number)
    logger = logging.getLogger("fedbench")
    level = logger.level
    logger.setLevel(logging.INFO)
    return before, level


def _restore(saved: tuple[list[int], int]) -> None:
    before, level = saved
    for stream in _streams():
        stream.flush()
    for number, handle in enumerate(before, 1):
        os.dup2(handle, number)
        os.close(handle)
    logging.getLogger("fedbench").setLevel(level)
