"""Commands with time limits: each in a process group of its own, its output in one log."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from needs import ROOT
from parts import SECONDS, Part, Step

Status = Literal["ok", "failed", "time over", "not begun"]
#: Seconds that a command has to leave when its time is over.
_GRACE = 8.0
#: Seconds of a part that are kept for leaving, when a sweep is told when to begin no more cells.
_RESERVE = 20.0
#: Seconds below which no command is begun.
_LEAST = 5.0


@dataclass(frozen=True)
class Outcome:
    """What became of a command.

    Attributes:
        part: Of which it is a step.
        step: Its name.
        status: ``time over`` where it was stopped, which takes nothing away that it has written.
        seconds: How long it took.
        code: Its exit code, if it ended.
    """

    part: str
    step: str
    status: Status
    seconds: float
    code: int | None


class Runner:
    """Runs parts, and remembers what became of their steps.

    Args:
        log: The file of all output, each line with its part and step.
        environment: Of the commands.
        until: When all has to be over, by ``time.monotonic``.
    """

    def __init__(self, log: Path, environment: Mapping[str, str], until: float) -> None:
        self.outcomes: list[Outcome] = []
        self._environment, self._until = dict(environment), until
        self._log = log.open("a", encoding="utf-8", buffering=1)
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def part(self, part: Part) -> None:
        """Run a part's steps, so many together, until all are done or its time is over."""
        until = min(self._until, time.monotonic() + part.seconds)
        with ThreadPoolExecutor(part.together) as threads:
            try:
                for outcome in threads.map(
                    lambda step: self.step(part.name, step, until), part.steps
                ):
                    self.outcomes.append(outcome)
            except BaseException:
                self._until = 0.0  # nothing more begins
                self.stop()
                raise

    def step(self, part: str, step: Step, until: float) -> Outcome:
        """Run one command and return what became of it."""
        title, left = f"{part}/{step.name}", min(until, self._until) - time.monotonic()
        if left < _LEAST:
            self.say(f"{title}: not begun, the time is over")
            return Outcome(part, step.name, "not begun", 0.0, None)
        seconds = str(max(1, int(left - _RESERVE)))
        words = [word.replace(SECONDS, seconds) for word in step.words]
        self.say(f"{title}: at most {left:.0f} s")
        began = time.monotonic()
        code = self._run(title, words, left)
        spent = time.monotonic() - began
        status: Status = "time over" if code is None else "failed" if code else "ok"
        self.say(f"{title}: {status} after {spent:.1f} s" + (f", exit code {code}" if code else ""))
        return Outcome(part, step.name, status, spent, code)

    def say(self, line: str) -> None:
        """Put a line into the log and on the terminal."""
        print(line, flush=True)
        with self._lock:
            self._log.write(f"== {line}\n")

    def stop(self) -> None:
        """End all commands."""
        for process in list(self._alive):
            _end(process)

    def _run(self, title: str, words: Sequence[str], limit: float) -> int | None:
        """Return a command's exit code, or None where it had to be stopped."""
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=self._environment, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        self._alive.add(process)
        listener = threading.Thread(target=self._listen, args=(title, process), daemon=True)
        listener.start()
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)
            self._alive.discard(process)
            listener.join(1.0)  # a daemon that it has left may hold the pipe

    def _listen(self, title: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._lock:
                self._log.write(f"{title} | {line.decode(errors='replace').rstrip()}\n")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and all that it started in its group."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
