"""The mirror as a sweep or a report uses it: records in, never in the way.

All of wandb happens in another process (see ``writer``), which is fed by a thread; whatever goes
wrong there is a warning.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Self

import fedbench
from fedbench.bench.records.record import Record
from fedbench.errors import SettingsError
from fedbench.report.board import Board
from fedbench.report.tracking.content import Content, of_board, of_record

if TYPE_CHECKING:
    from fedbench.report.comparisons import Comparison
    from fedbench.report.figures import Figure

log = logging.getLogger(__name__)

#: The first version with all that ``writer`` uses: a login that never asks, bounded uploads.
OLDEST = (0, 31)
#: Seconds without an answer after which the writer is stopped: more than its own limits add up to.
PATIENCE = 180.0
#: Seconds that the writer has to end after Ctrl-C.
GRACE = 10.0
#: Settings of a run that is being written by somebody else, such as a sweep of W&B's around us.
_FOREIGN = ("WANDB_RESUME", "WANDB_RUN_ID", "WANDB_SERVICE", "WANDB_SWEEP_ID")


@dataclass(frozen=True)
class Outcome:
    """What became of a suite's mirror.

    Attributes:
        folder: Where wandb's files are.
        online: Whether runs went to the server.
        written: How many runs were written.
        same: How many were there already.
        lost: How many could not be written; the records have them.
        disabled: Whether W&B is switched off.
    """

    folder: Path
    online: bool
    written: int
    same: int
    lost: int
    disabled: bool

    def __str__(self) -> str:
        if self.disabled:
            return "W&B: disabled, nothing mirrored"
        how = "uploaded" if self.online else "written offline"
        text = f"W&B: {self.written} runs {how}, {self.same} unchanged"
        if self.lost:
            text += f", {self.lost} missing (`fedbench report --wandb` tries them again)"
        return text if self.online else f"{text}; `wandb sync {self.folder}` uploads them"


class Mirror:
    """Mirrors a suite while it is computed.

    Nothing here waits for wandb but ``finish`` and ``close``. As a context manager it closes
    itself, after an exception within seconds.

    Args:
        folder: ``runs/SUITE``; wandb's files go below its ``wandb``.
        patience: Seconds without a sign of life after which wandb is given up.

    Raises:
        SettingsError: wandb is not installed, or too old.
    """

    def __init__(self, folder: Path, *, patience: float = PATIENCE) -> None:
        _check_installed()
        self._folder, self._patience = folder, patience
        self._queue: SimpleQueue[Content | None] = SimpleQueue()
        self._sent: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._online, self._given_up = False, False
        self._heard = time.monotonic()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def add(self, record: Record) -> None:
        """Mirror a record that has just been made; returns at once."""
        self._send(of_record(record))

    def finish(
        self,
        board: Board,
        figures: Iterable[Figure] = (),
        comparisons: Iterable[Comparison] = (),
    ) -> Outcome:
        """Mirror what is still missing of a suite, then its leaderboard, and close.

        Args:
            board: The suite's records and rows.
            figures: Of its report.
            comparisons: Published numbers beside ours.
        """
        for record in (*board.good, *board.failed):
            self.add(record)
        self._send(of_board(board, figures, comparisons))
        self.close()
        count = Counter(self._states.values())
        missing = len(self._sent.keys() - self._states.keys())
        return Outcome(
            folder=self._folder / "wandb",
            online=self._online,
            written=count["written"],
            same=count["same"],
            lost=count["failed"] + missing,
            disabled=count["disabled"] > 0,
        )

    def close(self, limit: float = float("inf")) -> None:
        """Wait until all that was added is mirrored.

        Args:
            limit: Seconds after which the rest is dropped.
        """
        if self._thread is None:
            return
        self._queue.put(None)
        end = time.monotonic() + limit
        self._heard = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.05)
            now = time.monotonic()
            if now > end or now - self._heard > self._patience:
                self._given_up = True
                self._stop()
        self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(GRACE if kind else float("inf"))

    def _send(self, content: Content) -> None:
        digest = content.digest()
        if self._sent.get(content.id) == digest:
            return
        self._sent[content.id] = digest
        if self._thread is None:
            self._thread = threading.Thread(target=self._carry, name="wandb mirror", daemon=True)
            self._thread.start()
        self._queue.put(content)

    def _carry(self) -> None:
        """Hand contents to the writer one by one; after its end, drop them."""
        try:
            with self._writer() as process:
                for content in iter(self._queue.get, None):
                    self._exchange(process, content)
        except (OSError, ValueError) as error:
            log.warning(
                "W&B: its process ended early (%s); the rest is not mirrored, see %s",
                error,
                self._folder / "wandb" / "writer.log",
            )

    def _exchange(self, process: subprocess.Popen[str], content: Content) -> None:
        if self._given_up:
            raise BrokenPipeError("it was stopped")
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(content.to_json() + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise BrokenPipeError(f"exit code {process.wait()}")
        reply = json.loads(line)
        self._heard = time.monotonic()
        self._states[content.id], self._online = reply["state"], reply["online"]
        if reply["warning"]:
            log.warning("W&B: %s", reply["warning"])

    @contextmanager
    def _writer(self) -> Iterator[subprocess.Popen[str]]:
        root = self._folder / "wandb"
        root.mkdir(parents=True, exist_ok=True)
        with (root / "writer.log").open("w", encoding="utf-8") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fedbench.report.tracking.writer", str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                encoding="utf-8",
                env=_environment(root),
                start_new_session=True,  # Ctrl-C is the sweep's; the writer ends with its input
            )
        try:
            with self._process as process:
                yield process
        finally:
            self._stop()

    def _stop(self) -> None:
        """End the writer and whatever wandb has started in it, if it is still there."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _check_installed() -> None:
    wanted = ".".join(map(str, OLDEST))
    fix = f"install it with `pip install 'wandb>={wanted}'`, or leave out --wandb"
    try:
        version = importlib.metadata.version("wandb")
    except importlib.metadata.PackageNotFoundError as error:
        raise SettingsError(f"--wandb needs wandb, which is not installed; {fix}") from error
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or tuple(map(int, numbers.groups())) < OLDEST:
        raise SettingsError(f"--wandb needs wandb {wanted} or newer, and {version} is here; {fix}")


def _environment(root: Path) -> dict[str, str]:
    """Return the writer's environment: all of wandb's files below ``root``, nothing of others."""
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    package = str(Path(fedbench.__file__).parents[1])
    path = os.pathsep.join([package, *filter(None, [kept.get("PYTHONPATH")])])
    own = {
        "PYTHONPATH": path,
        "WANDB_CACHE_DIR": str((root / "cache").absolute()),
        "WANDB_DATA_DIR": str((root / "staging").absolute()),
    }
    # Its own error reports go to its makers unless the user says so.
    return {"WANDB_ERROR_REPORTING": "false", **kept, **own}
