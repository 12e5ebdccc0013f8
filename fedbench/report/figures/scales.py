"""Logarithmic axes of amounts: units that people read, and a lane of its own for zero."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from fedbench.report.figures import style

Unit = Literal["B", "s"]
_UNITS: dict[Unit, tuple[tuple[float, str], ...]] = {
    "B": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")),
    "s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")),
}
_STEP, _REACH = 0.05, 0.18  # inches that points in one place are moved apart, and at most in all
_LANE = 0.11  # of the axis: how far from the rest the lane is


@dataclass(frozen=True)
class LogScale:
    """A logarithmic axis from its values.

    What is at most ``floor`` is drawn in a lane before a break in the axis, since a logarithm
    knows no zero.

    Attributes:
        low: Left end of the logarithmic part.
        high: Its right end.
        floor: What is not above it stands in the lane.
        lane: Whether there is a lane.
        unit: Of the values.
    """

    low: float
    high: float
    floor: float
    lane: bool
    unit: Unit

    @classmethod
    def of(cls, values: Iterable[float], unit: Unit, floor: float = 0.0) -> LogScale:
        """Return the axis that holds all finite values, at least a decade of it."""
        known = [value for value in values if math.isfinite(value)]
        above = [math.log10(value) for value in known if value > floor] or [0.0]
        low, high = min(above), max(above)
        spare = max(0.07 * (high - low), 0.12, (1 - (high - low)) / 2)
        lane = any(value <= floor for value in known)
        return cls(10 ** (low - spare), 10 ** (high + spare), floor, lane, unit)

    @property
    def _span(self) -> float:
        return math.log10(self.high / self.low)

    @property
    def zero(self) -> float:
        """Where values in the lane are drawn."""
        return self.low / 10 ** (_LANE * self._span)

    @property
    def start(self) -> float:
        """Where the axis begins."""
        return self.low / 10 ** (2 * _LANE * self._span) if self.lane else self.low

    def place(self, values: Iterable[float]) -> list[float]:
        """Return where values are drawn."""
        return [self.zero if value <= self.floor else value for value in values]

    def spread(self, places: Sequence[float], wide: float) -> list[float]:
        """Shift points that share a place sideways, so that they do not hide each other.

        Args:
            places: Where the points are drawn, in the order of drawing.
            wide: Width of the panel in inches.
        """
        inch = (1 + 2 * _LANE * self.lane) * self._span / wide  # in decades
        order = sorted(range(len(places)), key=lambda point: (places[point], point))
        groups: list[list[int]] = []
        for point in order:
            near = groups and math.log10(places[point] / places[groups[-1][0]]) < 0.012 * inch
            groups[-1].append(point) if near else groups.append([point])
        shifted = list(places)
        for group in groups:
            step = min(_STEP, _REACH / max(1, len(group) - 1)) * inch
            for rank, point in enumerate(group):
                shifted[point] *= 10 ** (step * (rank - (len(group) - 1) / 2))
        return shifted

    def ticks(self, most: int) -> list[float]:
        """Return round values in the logarithmic part, at most about that many."""
        decades = self._inside((1,))
        if len(decades) >= 3:
            return decades[:: -(-len(decades) // most)]
        fine = self._inside((1, 2, 5) if self._span < 1.7 else (1, 3))
        return fine if len(fine) <= most else (decades if len(decades) > 1 else fine[::2])

    def _inside(self, steps: Sequence[int]) -> list[float]:
        """Return multiples of powers of ten, but none where the axis of the next panel begins."""
        near = 10 ** (0.035 * self._span)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        every = [step * 10.0**power for power in range(first, last) for step in steps]
        return [tick for tick in every if self.low * near <= tick <= self.high / near]

    def dress(self, axes: Axes, which: Literal["x", "y"], most: int) -> None:
        """Set scale, limits, ticks and the break of one axis."""
        across = which == "x"
        (axes.set_xscale if across else axes.set_yscale)("log")
        (axes.set_xlim if across else axes.set_ylim)(self.start, self.high)
        places = self.ticks(most)
        names = [amount(tick, self.unit) for tick in places]
        if self.lane:
            places = [self.zero, *places]
            names = ["0" if not self.floor else f"<{amount(self.floor, self.unit)}", *names]
        (axes.set_xticks if across else axes.set_yticks)(places, names)
        (axes.xaxis if across else axes.yaxis).set_minor_locator(NullLocator())
        if self.lane:
            self._break(axes, across)

    def _break(self, axes: Axes, across: bool) -> None:
        """Shade the lane, and break the axis where it ends."""
        span = axes.axvspan if across else axes.axhspan
        span(self.start, self.low, color="#f4f4f4", zorder=0, linewidth=0)
        share = 2 * _LANE / (1 + 2 * _LANE)
        point = (share, 0) if across else (0, share)
        mark = [(-1, -1.6), (1, 1.6)] if across else [(-1.6, -1), (1.6, 1)]
        for shift in (-0.012, 0.012):
            at = (point[0] + shift, 0) if across else (0, point[1] + shift)
            axes.plot(
                *at,
                transform=axes.transAxes,
                marker=mark,
                markersize=6,
                color="#666666",
                markeredgewidth=0.7,
                linestyle="none",
                clip_on=False,
                zorder=5,
            )


def amount(value: float, unit: Unit) -> str:
    """Return a round amount with its unit: ``10 kB``, ``1 ms``."""
    steps = _UNITS[unit]
    size, name = next((step for step in steps if value >= step[0] * 0.999), steps[-1])
    number = value / size
    return f"{number:,.0f} {name}" if number >= 100 else f"{number:.3g} {name}"


def plain_number(value: float) -> str:
    """Return the value of a setting as people write it: ``0.1``, ``25,600``."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def settings_axis(axes: Axes, values: Sequence[float], wide: float) -> None:
    """Make the x axis one of chosen settings: logarithmic where they are above zero.

    Args:
        axes: The panel.
        values: The settings' values, sorted.
        wide: Width of the panel in inches.
    """
    if min(values) > 0:
        axes.set_xscale("log")
        spare = (max(values) / min(values)) ** 0.09
        axes.set_xlim(min(values) / spare, max(values) * spare)
    names = [plain_number(value) for value in values]
    shown = _apart(values, names, wide)
    axes.set_xticks(values, [name if place in shown else "" for place, name in enumerate(names)])
    axes.xaxis.set_minor_locator(NullLocator())


def _apart(values: Sequence[float], names: Sequence[str], wide: float) -> list[int]:
    """Return which of the labels fit side by side."""
    scale = np.log(values) if min(values) > 0 else np.asarray(values, float)
    inches = (scale - scale[0]) / max(scale[-1] - scale[0], 1e-12) * wide * 0.85
    widths = [style.width(name) for name in names]
    shown = [0]
    for place in range(1, len(values)):
        needed = (widths[place] + widths[shown[-1]]) / 2 + 0.06
        if inches[place] - inches[shown[-1]] >= needed:
            shown.append(place)
    return shown


def dodge(count: int, values: Sequence[float]) -> list[float]:
    """Return factors by which series are shifted sideways, so that their bars stand apart."""
    if count < 2 or len(values) < 2 or min(values) <= 0:
        return [1.0] * count
    ratio = min(high / low for low, high in pairwise(values))
    reach = min(0.045 * math.log(values[-1] / values[0]), 0.3 * math.log(ratio))
    return [math.exp(reach * (2 * place / (count - 1) - 1)) for place in range(count)]
