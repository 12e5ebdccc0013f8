"""A method's cell, computed as each property needs it: watched, killed, with another seed.

A kill is an exception that nothing catches, at the moment at which the journal would be written:
what was done since the last commit is lost, as a SIGKILL loses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.datasets import load_data
from fedbench.bench.cells.runtime import Runtime
from fedbench.bench.records.compare import Difference, compare
from fedbench.bench.records.record import Record
from fedbench.bench.suites.plan import Planned, planned
from fedbench.bench.suites.suite import merge
from fedbench.config import parse
from fedbench.federation import journal as journals
from fedbench.federation import work as works
from fedbench.federation.journal import Journal
from fedbench.federation.stages import stages
from fedbench.files import data_root
from fedbench.methods import METHODS
from fedbench.seeding import isolated
from fedbench.testing.tiny import TINY, broken, hold
from fedbench.testing.watch import Watch

#: What is laid over the tiny cell for methods that want them: hold-outs, and a budget.
_HELD_OUT = {"partition": {"validation": 0.2}}
_BUDGET = {"budget": {"ipc": 1}}


class Killed(BaseException):
    """Stands for a kill: no code of ours catches it."""


class Runs:
    """What is known of one method's cell.

    Args:
        folder: For everything that the runs write.
        cache: Of decoded data sets.
        method: The method's settings, its name among them.
        over: Laid over the tiny cell.
        kills: How often the killed run is killed at most.
    """

    def __init__(
        self,
        folder: Path,
        cache: Path,
        method: Mapping[str, Any],
        over: Mapping[str, Any],
        kills: int,
    ) -> None:
        self._folder, self._cache, self._kills = folder, cache, kills
        room = {**_HELD_OUT, **({} if "budget" in over else _BUDGET)}
        self._tree = merge(merge(merge(dict(TINY), room), {"method": dict(method)}), dict(over))
        self.name = str(method["name"])
        self._commits, self._calm = 0, _Steps()

    def planned(self, **over: object) -> Planned:
        """Return the cell, with settings laid over it, as a sweep plans it."""
        return planned(parse(merge(self._tree, over)))

    def compute(self, suite: str, **over: object) -> Record:
        """Return the record of a cell that was computed in a home of its own.

        Args:
            suite: Names the home.
            **over: Laid over the cell.
        """
        entry = self.planned(**over)
        hold(
            entry.skip is None,
            "the cell of these properties has to run",
            f"method {self.name!r} skips it: {entry.skip}",
            "lay what it needs over the tiny cell by `cell`, or set `settings`",
        )
        record = self.attempt(suite, entry)
        if record.status != "ok":
            broken(
                "the cell of these properties has to run",
                f"method {self.name!r} fails: {record.reason}\n{record.traceback}",
                "mend the method, or its `settings` and `cell` here",
            )
        return record

    def attempt(self, suite: str, entry: Planned) -> Record:
        """Return the record of a planned cell, good or failed (see ``compute``)."""
        return run_cell(entry.cell, self._runtime(suite), suite=suite)

    @cached_property
    def watched(self) -> tuple[Record, Watch]:
        """The cell's record, and what was in reach and passed while it was computed."""
        entry = self.planned()
        watch = Watch.of(entry.cell, load_data(entry.cell.data, self._runtime("watched")))
        save = Journal.save

        def counted(journal: Journal) -> None:
            self._commits += 1
            save(journal)

        with isolated(1), _committed(counted, self._calm), watch.over(METHODS.get(self.name)):
            record = self.compute("watched")
        return record, watch

    @property
    def record(self) -> Record:
        """The cell's record."""
        return self.watched[0]

    @property
    def watch(self) -> Watch:
        """What was in reach and passed while it was computed."""
        return self.watched[1]

    @cached_property
    def killed(self) -> Resumed:
        """A run that was killed and taken up again until it was done."""
        _ = self.record  # counts commits and steps
        every = max(1, math.ceil(self._commits / (self._kills + 1)))
        steps, save = _Steps(), Journal.save
        for kill in range(self._kills + 1):
            left = math.inf if kill == self._kills else every if self._commits > 1 else 0

            def mortal(journal: Journal) -> None:
                nonlocal left
                if not left:
                    raise Killed
                left -= 1
                save(journal)

            # Other global generators than those of the watched run: nobody may draw from them.
            with isolated(2 + kill), _committed(mortal, steps), suppress(Killed):
                record = self.compute("killed")
                again = steps.done - self._calm.done
                return Resumed(record, kill, again, kill * self._calm.deepest)
        raise AssertionError("the last attempt is not killed")

    @cached_property
    def again(self) -> list[Difference]:
        """What differs between two undisturbed runs; asked where the killed one differs."""
        with isolated(3):
            return compare(self.record, self.compute("again"))

    @cached_property
    def other(self) -> Record:
        """The record of the next seed."""
        return self.compute("other", seed=1)

    def _runtime(self, suite: str) -> Runtime:
        home = self._folder / suite
        if not home.exists():
            home.mkdir(parents=True)
            (home / "cache").symlink_to(self._cache)
        return Runtime(home=home, data=data_root(), device="cpu", threads=1, offline=True)


@dataclass(frozen=True)
class Resumed:
    """What a run came to that was killed and taken up again.

    Attributes:
        record: Its record.
        kills: How often it was killed.
        again: Steps of ``stages`` that were done again.
        may: How many kills may cost: a step of each series that was in hand.
    """

    record: Record
    kills: int
    again: int
    may: int


@dataclass
class _Steps:
    """Counts the steps that ``stages`` has given, and how deep series stand in one another."""

    done: int = 0
    open: int = 0
    deepest: int = 0

    def counted(self, whole: Callable[..., Iterator[int]]) -> Callable[..., Iterator[int]]:
        """Return ``stages`` with every step counted."""

        def given(*arguments: object) -> Iterator[int]:
            for step in whole(*arguments):
                self.done += 1
                self.open += 1
                self.deepest = max(self.deepest, self.open)
                try:
                    yield step
                finally:
                    self.open -= 1

        return given


@contextmanager
def _committed(save: Callable[[Journal], None], steps: _Steps) -> Iterator[None]:
    """Let every commit happen, however quick the work was, by a function in place of ``save``."""
    with ExitStack() as stack:
        for name, value in (("_SHARE", math.inf), ("_PACE", 0.0)):
            stack.enter_context(mock.patch.object(journals, name, value))
        stack.enter_context(mock.patch.object(Journal, "save", save))
        stack.enter_context(mock.patch.object(works, "stages", steps.counted(stages)))
        yield
