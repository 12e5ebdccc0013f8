"""Who works: seconds of the clients and of the server, the one figure of times."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

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
from fedbench.report.figures.render import Sketch
from fedbench.report.figures.scales import LogScale
from fedbench.report.figures.series import Cast, Page, Panel, number, pages, panels, seeds
from fedbench.report.figures.style import Look
from fedbench.report.frame import Row

Side = Literal["client_seconds", "server_seconds"]

FLOOR = 1e-3  # seconds; what is shorter says more about the clock than about the method
_SIDES: dict[Side, tuple[str, str]] = {
    "client_seconds": ("clients, summed", "o"),
    "server_seconds": ("server", "D"),
}
_LINE, _GAP = 0.11, 0.05  # inches that each budget of a row takes, and between rows
_LONGEST = 3.1  # inches of a method's name


def sketches(rows: Sequence[Row], cast: Cast) -> Iterator[Sketch]:
    """Draw client and server seconds: methods down, a panel for each setting.

    What is drawn, and how large, depends on no second.

    Args:
        rows: Of a board, sorted.
        cast: Looks of the series, and records.
    """
    known = [row for row in rows if all(math.isfinite(number(row.values[side])) for side in _SIDES)]
    series, found = cast.series(known), panels(known, budgets=False)
    if len(series) < 2:
        return
    _, left = row_names(series, _LONGEST)
    tall = sum(_heights(found, cast).values())
    for page in pages(
        "seconds",
        found,
        most_rows=lambda _: max(1, int((style.TALLEST - 1.0) / (tall + 0.4))),
        widest=beside_names(left, 3),
    ):
        yield _sketch(page, cast)


def _heights(found: Sequence[Panel], cast: Cast) -> dict[Look, float]:
    """Return the inches of each series in a panel: a line for each budget that it has in one."""
    lines: dict[Look, int] = {}
    for panel in found:
        for look, members in cast.series(panel.rows).items():
            lines[look] = max(lines.get(look, 0), len(members))
    return {look: _LINE * count + _GAP for look, count in lines.items()}


def _budget(row: Row) -> tuple[float, str]:
    return number(row.budget[0] or 0), str(row.budget[1])


def _order(series: Mapping[Look, Sequence[Row]]) -> list[Look]:
    """Return series from short to long, contenders first."""

    def place(look: Look) -> tuple[bool, float, str]:
        totals = [sum(number(row.values[side]) for side in _SIDES) for row in series[look]]
        return look.control, statistics.fmean(totals), look.label

    return sorted(series, key=place)


def _sketch(page: Page, cast: Cast) -> Sketch:
    series = cast.series(page.rows)
    order = _order(series)
    names, left = row_names(order, _LONGEST)
    heights = _heights(page.panels, cast)
    tall = [heights[look] for look in order]
    tops = [sum(tall[:place]) for place in range(len(order) + 1)]
    legend = [
        Line2D([], [], label=label, **_look(style.INK, side, control=False))
        for side, (label, _) in _SIDES.items()
    ]
    grid = Grid(page, legend, tops[-1], Margins(left, down=0.16), full=needs_page(left))
    scale = LogScale.of(
        (number(row.values[side]) for row in page.rows for side in _SIDES), "s", FLOOR
    )
    for axes, panel in zip(grid.axes, page.panels, strict=True):
        scale.dress(axes, "x", most=max(2, int(grid.size[0] / 0.5)))
        for look, members in cast.series(panel.rows).items():
            place = order.index(look)
            step = (tall[place] - _GAP) / len(members)
            for line, row in enumerate(sorted(members, key=_budget)):
                at = tops[place] + _GAP / 2 + (line + 0.5) * step
                _row(axes, at, row, look, scale, cast)
        axes.set_ylim(tops[-1], 0)
        axes.set_yticks([(low + high) / 2 for low, high in pairwise(tops)], names)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        contenders = sum(not look.control for look in order)
        divide(axes, order, tops[contenders] - contenders)
    grid.name_axes("seconds", "")
    several = max(tall) > _LINE + _GAP
    caption = (
        "Wall seconds of the clients together (circles) and of the server (diamonds), shared "
        "client trainings charged to each method; the shortest in total first, controls (†) below. "
        f"Bars: standard deviation over seeds, {seeds(page.rows)}."
        + (" Lines of one method: its budgets, the smallest on top." if several else "")
        + " In a shaded lane, where there is one: under a millisecond."
    )
    return Sketch(
        page.name, f"{page.dataset}: client and server seconds", caption, grid.drawing, timing=True
    )


def _row(axes: Axes, at: float, row: Row, look: Look, scale: LogScale, cast: Cast) -> None:
    known = {side: number(row.values[side]) for side in _SIDES}
    across = scale.place(known.values())
    axes.plot(across, [at, at], color=look.colour, linewidth=0.7, alpha=0.5, zorder=1.5)
    for (side, second), place in zip(known.items(), across, strict=True):
        axes.errorbar(
            [place],
            [at],
            xerr=[_std(row, cast, side) if second > FLOOR else math.nan],
            **_look(look.colour, side, control=look.control),
            **BAR,
        )


def _look(colour: str, side: Side, *, control: bool) -> dict[str, Any]:
    hollow = control or side == "client_seconds"
    return {
        "color": colour,
        "marker": _SIDES[side][1],
        "markerfacecolor": "white" if hollow else colour,
        "markeredgecolor": colour,
        "markeredgewidth": 0.9,
        "markersize": 3.6,
        "linestyle": "none",
    }


def _std(row: Row, cast: Cast, name: Side) -> float:
    known = (record.ledger.get(name) for record in cast.records(row))
    values = [float(value) for value in known if value is not None]
    return statistics.stdev(values) if len(values) > 1 else math.nan
