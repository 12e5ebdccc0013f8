"""Accuracy at two values of a setting: a line for each method, a dot for each value.

Two points make no curve, and sixteen lines between the same two places hide one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from fedbench.report.figures import style
from fedbench.report.figures.layout import (
    BAR,
    Grid,
    Margins,
    beside_names,
    divide,
    needs_page,
    row_names,
)
from fedbench.report.figures.scales import plain_number
from fedbench.report.figures.series import Cast, Page, number, ranked
from fedbench.report.figures.style import Look
from fedbench.report.frame import Row

#: From so many series on, two values of a setting are drawn like this.
MANY = 5
_ROW = 0.17  # inches
_LONGEST = 3.1  # inches of a method's name
_SIDES = (0.16, -0.16)  # of a row: above and below its middle
_MARKS = ("o", "D")


def draw(
    page: Page, cast: Cast, values: Sequence[float], column: str, symbol: str
) -> tuple[Grid, bool]:
    """Draw a page's panels.

    Args:
        page: With rows that have one of two values, and rows that have none.
        cast: Looks of the series.
        values: The two.
        column: Where rows have them.
        symbol: The setting in a word, for the legend.

    Returns:
        The grid, and whether a row without a value is drawn.
    """
    order = ranked(cast.series(page.rows))
    names, left = row_names(order, _LONGEST)
    legend = [
        Line2D(
            [], [], label=f"{symbol} = {plain_number(value)}", **_look(style.INK, place, solid=True)
        )
        for place, value in enumerate(values)
    ]
    level = any(row.values[column] is None for row in page.rows)
    if level:
        legend.append(Line2D([], [], label="no budget", **_look(style.INK, None, solid=True)))
    margins = Margins(left, down=0.16)
    grid = Grid(page, legend, _ROW * len(order), margins, full=needs_page(left))
    for axes, panel in zip(grid.axes, page.panels, strict=True):
        series = cast.series(panel.rows)
        for place, look in enumerate(order):
            found = {_place(row, values, column): row for row in series.get(look, [])}
            _line(axes, place, look, found)
        axes.set_yticks(np.arange(len(order)), names)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.grid(visible=True, axis="x")
        axes.tick_params(axis="y", length=0)
        divide(axes, order, -0.5)
    for axes in grid.axes[1:]:
        axes.sharex(grid.axes[0])
    grid.axes[0].autoscale(axis="x")
    grid.name_axes("accuracy (%)", "")
    return grid, level


def widest(cast: Cast, rows: Sequence[Row]) -> int:
    """Return how many panels of these rows fit side by side."""
    return beside_names(row_names(cast.series(rows), _LONGEST)[1], 3)


def _place(row: Row, values: Sequence[float], column: str) -> int | None:
    value = row.values[column]
    return None if value is None else values.index(number(value))


def _line(axes: Axes, place: int, look: Look, found: Mapping[int | None, Row]) -> None:
    points = {side: 100 * number(row.values["accuracy_mean"]) for side, row in found.items()}
    ends = [points[side] for side in (0, 1) if side in points]
    heights = [place - _SIDES[side] for side in (0, 1) if side in points]
    axes.plot(ends, heights, color=look.colour, linewidth=0.7, alpha=0.5, zorder=1.5)
    for side, row in found.items():
        axes.errorbar(
            points[side],
            place if side is None else place - _SIDES[side],
            xerr=100 * number(row.values["accuracy_std"]),
            **_look(look.colour, side, solid=not look.control),
            **BAR,
        )


def _look(colour: str, side: int | None, *, solid: bool) -> dict[str, Any]:
    return {
        "color": colour,
        "marker": "|" if side is None else _MARKS[side],
        "markerfacecolor": colour if solid and side == 1 else "white",
        "markeredgecolor": colour,
        "markeredgewidth": 0.9,
        "markersize": 6.5 if side is None else (4.0, 3.6)[side],
        "linestyle": "none",
    }
