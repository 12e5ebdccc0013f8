"""Accuracy against a setting of the suite: β, the number of clients, the budget.

``settings`` draws it against settings of methods.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes

from fedbench.report.figures import pairs
from fedbench.report.figures.layout import BAR, Grid, handles, plain, rows_that_fit
from fedbench.report.figures.render import Sketch
from fedbench.report.figures.scales import dodge, plain_number, settings_axis
from fedbench.report.figures.series import Cast, Page, Panel, bars, number, pages, panels
from fedbench.report.frame import Row


@dataclass(frozen=True)
class Axis:
    """A setting that figures are drawn against.

    Attributes:
        stem: What the file's name begins with.
        column: The column of a row that holds it.
        setting: Its dotted name, or None for the budget.
        label: Of the axis.
        words: In titles.
        symbol: In legends.
    """

    stem: str
    column: str
    setting: str | None
    label: str
    words: str
    symbol: str


AXES = (
    Axis("beta", "beta", "partition.beta", "Dirichlet concentration β (small: skewed)", "β", "β"),
    Axis("clients", "clients", "partition.clients", "clients K", "the number of clients", "K"),
    Axis("budget", "budget_pixels", None, "budget (pixels)", "the budget", "pixels"),
)


def sketches(rows: Sequence[Row], cast: Cast) -> Iterator[Sketch]:
    """Draw a figure for each setting that varies within a panel.

    Args:
        rows: Of a board, sorted.
        cast: Looks of the series.
    """
    known = [row for row in rows if math.isfinite(number(row.values["accuracy_mean"]))]
    for axis in AXES:
        if axis.setting:
            found = panels(known, free=[axis.setting])
        else:
            found = [part for panel in panels(known, budgets=False) for part in _scopes(panel)]
        varied = [panel for panel in found if len(_values(panel.rows, axis)) > 1]
        everything = [row for panel in varied for row in panel.rows]
        paired = _is_paired(everything, axis, cast)
        widest = pairs.widest(cast, everything) if paired else 4
        for page in pages(axis.stem, varied, most_rows=rows_that_fit, widest=widest):
            yield _sketch(page, axis, cast)


def _scopes(panel: Panel) -> Iterator[Panel]:
    """Split a panel by what budgets are counted over; rows without a budget stand in each part."""
    for scope in sorted({str(row.budget[1]) for row in panel.rows if row.budget[1] is not None}):
        own = [row for row in panel.rows if row.budget[1] in (scope, None)]
        yield replace(panel, rows=own, facts={**panel.facts, "budget": f"budget {scope}"})


def _is_paired(rows: Sequence[Row], axis: Axis, cast: Cast) -> bool:
    """Say whether the axis has two values only, and too many series for lines between them."""
    return len(_values(rows, axis)) == 2 and len(cast.series(rows)) >= pairs.MANY


def _values(rows: Sequence[Row], axis: Axis) -> list[float]:
    """Return the values that the axis takes, sorted."""
    found = {number(row.values[axis.column]) for row in rows}
    return sorted(value for value in found if math.isfinite(value))


def _sketch(page: Page, axis: Axis, cast: Cast) -> Sketch:
    series = cast.series(page.rows)
    values = _values(page.rows, axis)
    if _is_paired(page.rows, axis, cast):
        return _pairs(page, axis, cast, values)
    grid = Grid(page, handles(series))
    gaps = level = False
    grid.share_heights()
    for axes, panel in zip(grid.axes, page.panels, strict=True):
        settings_axis(axes, values, grid.size[0])
        inside = _values(panel.rows, axis)
        shifts = dodge(len(series), inside)
        for (look, _), shift in zip(series.items(), shifts, strict=True):
            own = cast.series(panel.rows).get(look, [])
            placed = [row for row in own if row.values[axis.column] is not None]
            for row in (row for row in own if row.values[axis.column] is None):
                level = True
                level_line(axes, row, plain(look))
            if placed:
                gaps |= len(placed) < len(inside)
                at = {number(row.values[axis.column]): row for row in placed}
                line(axes, at, inside, shift, plain(look))
    grid.name_axes(axis.label, "accuracy (%)")
    caption = (
        f"Accuracy at the last step against {axis.words}. {bars(page.rows)} "
        "Hollow and grey: controls."
        + (" Points are shifted sideways a little to keep bars apart." if len(series) > 1 else "")
        + (" Level lines: methods without a budget." if level else "")
        + (" Gaps: cells that failed or are not part of the suite." if gaps else "")
    )
    return Sketch(
        page.name, f"{page.dataset}: accuracy against {axis.words}", caption, grid.drawing
    )


def _pairs(page: Page, axis: Axis, cast: Cast, values: Sequence[float]) -> Sketch:
    grid, level = pairs.draw(page, cast, values, axis.column, axis.symbol)
    low, high = map(plain_number, values)
    caption = (
        f"Accuracy at the last step at {axis.symbol} = {low} (open circles) and {high} (diamonds). "
        f"{bars(page.rows)} Best methods first, controls (†) below."
        + (" Upright lines: methods without a budget." if level else "")
    )
    return Sketch(
        page.name, f"{page.dataset}: accuracy against {axis.words}", caption, grid.drawing
    )


def line(
    axes: Axes,
    at: Mapping[float, Row],
    values: Sequence[float],
    shift: float,
    look: dict[str, Any],
) -> None:
    """Draw one series with a gap where it has no row.

    Args:
        axes: The panel.
        at: The series' rows by their place on the axis.
        values: The places that it could have, sorted.
        shift: Factor by which all are moved sideways.
        look: How it is drawn.
    """
    means = [_percent(at, value, "accuracy_mean") for value in values]
    axes.errorbar(
        [value * shift for value in values],
        means,
        yerr=[_percent(at, value, "accuracy_std") for value in values],
        **look,
        **BAR,
    )


def _percent(at: Mapping[float, Row], value: float, column: str) -> float:
    return 100 * number(at[value].values[column]) if value in at else math.nan


def level_line(axes: Axes, row: Row, look: dict[str, Any]) -> None:
    """Draw a row without a place on the axis as a line across, its marker at the right end."""
    mean = 100 * number(row.values["accuracy_mean"])
    axes.plot(
        [0, 1],
        [mean, mean],
        transform=axes.get_yaxis_transform(),
        markevery=[1],
        clip_on=False,
        **{**look, "linewidth": 0.8},
    )
