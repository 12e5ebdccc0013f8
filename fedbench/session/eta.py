"""How long a sweep still takes: estimates, corrected by what cells have really taken."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

#: How much of the estimate the real times have to outweigh before they are believed.
_TRUST = 0.1


class Eta:
    """The time left for cells of very different length.

    Args:
        expected: Estimated seconds by cell id; None where nothing is known.
        methods: Each cell's method: a cell of unknown length takes what others of its method took.
        workers: How many cells are computed at once.
        clock: Returns seconds.
    """

    def __init__(
        self,
        expected: Mapping[str, float | None],
        methods: Mapping[str, str],
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._expected, self._methods, self._workers = dict(expected), methods, workers
        self._clock = clock
        self._left = set(expected)
        self._begun: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def begun(self, cell_id: str) -> None:
        """Note that a cell is in hand."""
        self._begun.setdefault(cell_id, self._clock())

    def finished(self, cell_id: str, seconds: float | None) -> None:
        """Note that a cell is over.

        Args:
            cell_id: Which.
            seconds: What it took; None if that says nothing, as of a failure.
        """
        self._left.discard(cell_id)
        if seconds is not None:
            self._took[cell_id] = seconds

    def seconds(self) -> float | None:
        """Return the seconds until all cells are done.

        Returns:
            None while nothing is known of more than half of the cells; otherwise the rest counts
            as the mean of what is known.
        """
        factor, now = self._correction(), self._clock()
        found = {name: self._length(name, factor) for name in self._left}
        known = [length for length in found.values() if length is not None]
        if 2 * len(known) < len(found):
            return None
        mean = statistics.mean([*known, *self._took.values()]) if found else 0.0
        left = [
            max((mean if length is None else length) - (now - self._begun.get(name, now)), 0.0)
            for name, length in found.items()
        ]
        return max(sum(left) / self._workers, *left) if left else 0.0

    def _correction(self) -> float:
        """Return what estimates are to be multiplied with."""
        known = {name: value for name, value in self._expected.items() if value is not None}
        weight = _TRUST * sum(known.values())
        took = sum(seconds for name, seconds in self._took.items() if name in known)
        expected = sum(known[name] for name in self._took if name in known)
        return (took + weight) / (expected + weight) if expected + weight else 1.0

    def _length(self, cell_id: str, factor: float) -> float | None:
        """Return what a cell takes, by its estimate or by what others of its method took."""
        expected = self._expected[cell_id]
        if expected is not None:
            return factor * expected
        method = self._methods[cell_id]
        alike = [took for name, took in self._took.items() if self._methods[name] == method]
        return statistics.mean(alike) if alike else None
