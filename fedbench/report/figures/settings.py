"""Accuracy against a numeric setting of a method, such as the number of its iterations.

Settings of the suite, which all methods share, have ``sweeps``. Here most rows have no place on
the axis: those whose methods lack the setting, or have one value of it, are level lines to compare
with.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from matplotlib.axes import Axes

from fedbench.report.board import Board
from fedbench.report.figures.layout import Grid, handles, plain, rows_that_fit
from fedbench.report.figures.render import Sketch
from fedbench.report.figures.scales import dodge, settings_axis
from fedbench.report.figures.series import Cast, Key, Page, bars, key, number, pages, panels
from fedbench.report.figures.style import Look
from fedbench.report.figures.sweeps import level_line, line
from fedbench.report.frame import Row, Value

#: Settings whose names begin so belong to methods.
_OF_METHODS = "method."
#: A curve has at least that many points.
_FEWEST = 3
#: So many other variants of a swept method are drawn beside its curve.
_VARIANTS = 2


class Along(Cast):
    """The series of a board when one setting varies along them.

    Rows that are equal but for the setting, and that have several values of it in one block and
    budget, are points of one series, whose label does not name it. Other rows keep their series
    and labels.

    Args:
        board: Whose rows are drawn.
        setting: Its dotted name.
    """

    def __init__(self, board: Board, setting: str) -> None:
        self._setting = setting
        self._joined: frozenset[Key] = frozenset()
        self._joined = frozenset(own for own, at in self._lines(board.views) if len(at) > 1)
        super().__init__(board)

    def key(self, row: Row) -> Key:
        """Return what a row shares with those that are points of the same series."""
        return key(row) if math.isnan(self.value(row)) else self._rest(row)

    def value(self, row: Row) -> float:
        """Return a row's place on the axis, NaN for a row that is no point of such a series."""
        joined = self._rest(row) in self._joined
        return number(row.settings.get(self._setting)) if joined else math.nan

    def longest(self, rows: Iterable[Row]) -> int:
        """Return how many places on the axis the longest line through a panel's rows has."""
        return max((len(at) for _, at in self._lines(rows)), default=0)

    def _rest(self, row: Row) -> Key:
        return tuple(item for item in key(row) if item[0] != self._setting)

    def _lines(self, rows: Iterable[Row]) -> Iterator[tuple[Key, set[float]]]:
        """Yield the places on the axis of the rows that one panel could join."""
        found: dict[tuple[Key, tuple[tuple[str, Value], ...], tuple[Value, ...]], set[float]] = {}
        for row in rows:
            value = number(row.settings.get(self._setting))
            if math.isfinite(value):
                found.setdefault((self._rest(row), row.block, row.budget), set()).add(value)
        yield from ((own, at) for (own, _, _), at in found.items())


def sketches(rows: Sequence[Row], cast: Cast) -> Iterator[Sketch]:
    """Draw a figure for each setting of which some series of a panel has three values or more.

    Args:
        rows: Of a board, sorted.
        cast: Series of the same board.
    """
    known = [row for row in rows if math.isfinite(number(row.values["accuracy_mean"]))]
    values: dict[str, set[float]] = {}
    for row in known:
        for name, value in row.settings.items():
            if name.startswith(_OF_METHODS) and math.isfinite(number(value)):
                values.setdefault(name, set()).add(number(value))
    for name in sorted(name for name, several in values.items() if len(several) >= _FEWEST):
        along = Along(cast.board, name)
        if along.longest(known) >= _FEWEST:
            shown, left = _without_variants(known, along)
            drawn = [panel for panel in panels(shown) if along.longest(panel.rows) >= _FEWEST]
            short = name.removeprefix(_OF_METHODS)
            for page in pages(short, drawn, most_rows=rows_that_fit):
                yield _sketch(page, short, along, left)


def _without_variants(rows: Sequence[Row], along: Along) -> tuple[list[Row], int]:
    """Leave out a swept method's other variants where they are many, and say how many these are.

    A study that moves one setting at a time has a figure for each; the others' rows would be level
    lines in it, too many to tell apart.
    """
    swept = {row.values["method"] for row in rows if not math.isnan(along.value(row))}
    variants = [
        row for row in rows if row.values["method"] in swept and math.isnan(along.value(row))
    ]
    count = len({along.key(row) for row in variants})
    if count <= _VARIANTS:
        return list(rows), 0
    out = {id(row) for row in variants}
    return [row for row in rows if id(row) not in out], count


def _sketch(page: Page, short: str, along: Along, left: int) -> Sketch:
    series = along.series(page.rows)
    grid = Grid(page, handles(series))
    places = {look: _places(members, along) for look, members in series.items()}
    ticks = sorted(set().union(*places.values()))
    curves = [look for look in series if places[look]]
    shifts = dict(zip(curves, dodge(len(curves), ticks), strict=True))
    gaps = level = False
    grid.share_heights()
    for axes, panel in zip(grid.axes, page.panels, strict=True):
        settings_axis(axes, ticks, grid.size[0])
        for look, own in along.series(panel.rows).items():
            points = [row for row in own if not math.isnan(along.value(row))]
            for row in (row for row in own if math.isnan(along.value(row))):
                level = True
                level_line(axes, row, plain(look))
            if points:
                gaps |= _curve(axes, points, places[look], shifts[look], along, look)
    grid.name_axes(short, "accuracy (%)")
    methods = sorted({str(row.values["method"]) for look in curves for row in series[look]})
    caption = (
        f"Accuracy at the last step against {short}, a setting of {', '.join(methods)}; all other "
        f"settings of a curve are equal. {bars(page.rows)} Hollow and grey: controls."
        + (" Points are shifted sideways a little to keep bars apart." if len(curves) > 1 else "")
        + (" Level lines: rows without this setting, or with one value of it." if level else "")
        + (f" Not drawn: {left} other variants of the method." if left else "")
        + (" Gaps: cells that failed or are not part of the suite." if gaps else "")
    )
    return Sketch(page.name, f"{page.dataset}: accuracy against {short}", caption, grid.drawing)


def _places(rows: Iterable[Row], along: Along) -> list[float]:
    """Return where a series has points in any panel of a page, sorted."""
    found = {along.value(row) for row in rows}
    return sorted(place for place in found if not math.isnan(place))


def _curve(
    axes: Axes,
    rows: Sequence[Row],
    places: Sequence[float],
    shift: float,
    along: Along,
    look: Look,
) -> bool:
    """Draw a series of one panel, a line for each budget, and return whether it has gaps."""
    lines: dict[tuple[Value, ...], dict[float, Row]] = {}
    for row in rows:
        lines.setdefault(row.budget, {})[along.value(row)] = row
    for at in lines.values():
        line(axes, at, places, shift, plain(look))
    return any(len(at) < len(places) for at in lines.values())
