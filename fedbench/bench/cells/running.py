"""Which cells are in hand now: a small file for each, refreshed by the process that computes it.

The file is for people who look (`fedbench status`, `fedbench gc`); who may compute a cell is
decided by its lock alone (``fedbench.files.Lock``). Knows nothing of torch.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from fedbench.errors import FedbenchError, UnwritableError
from fedbench.files import write_atomic

if TYPE_CHECKING:
    from fedbench.federation.context import Progress

log = logging.getLogger(__name__)

#: Seconds between two looks at whether something has changed.
PACE = 2.0
#: Seconds after which a file is written although nothing has changed.
PULSE = 30.0
#: Seconds without a refresh after which a process counts as gone.
STALE = 120.0


class BusyError(FedbenchError):
    """Another process has the cell in hand."""


@dataclass(frozen=True)
class InHand:
    """A cell that a process computes, or computed when it died.

    Attributes:
        cell_id: The cell.
        pid: The process.
        host: Its machine.
        started: Seconds since 1970, by that machine's clock.
        updated: Likewise, of the last refresh.
        round: From 1; 0 before the first.
        rounds: How many there are.
        stage: Such as ``client 3``.
        done: Epochs of the stage.
        total: Its epochs.
    """

    cell_id: str
    pid: int
    host: str
    started: float
    updated: float
    round: int = 0
    rounds: int = 0
    stage: str = ""
    done: int = 0
    total: int = 0

    @property
    def live(self) -> bool:
        """Whether the process is there, as far as this machine can tell.

        Here that means that it exists; on another machine, that its file is not older than
        ``STALE`` seconds by this machine's clock.
        """
        if self.host == platform.node():
            return _exists(self.pid)
        return time.time() - self.updated < STALE


def running_path(home: Path, suite: str, cell_id: str) -> Path:
    """Return where a cell says that it is in hand."""
    return home / suite / "running" / f"{cell_id}.json"


def in_hand(folder: Path) -> list[InHand]:
    """Return the cells that are in hand, or were when their process died, by id.

    Args:
        folder: Of the suite, such as ``runs/digits``.
    """
    found = []
    for path in sorted((folder / "running").glob("*.json")):
        try:
            found.append(InHand(**json.loads(path.read_text(encoding="utf-8"))))
        except FileNotFoundError:  # finished at this moment
            continue
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s is not ours: %s; left out", path, error)
    return found


class Heartbeat:
    """Says that a cell is in hand, for the length of a ``with`` block.

    A thread does the writing, so that a long epoch does not look like a dead process.

    Args:
        path: See ``running_path``.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._started = path, time.time()
        self._now = self._written = (0, 0, "", 0, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def show(self, progress: Progress) -> None:
        """Take note of where the cell is; it is written within ``PACE`` seconds."""
        at = progress.round, progress.rounds, progress.stage, progress.done, progress.total
        self._now = at

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._over.wait(PACE):
            if self._now != self._written or time.monotonic() - last >= PULSE:
                last = time.monotonic()
                try:
                    self._write()
                except UnwritableError as error:
                    # The cell will meet the full disk itself if it has anything to write.
                    log.warning("%s", error)
                    return

    def _write(self) -> None:
        at = self._written = self._now
        who = self._path.stem, os.getpid(), platform.node(), self._started, time.time()
        write_atomic(self._path, json.dumps(asdict(InHand(*who, *at))))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, but there
        return True
    return True
