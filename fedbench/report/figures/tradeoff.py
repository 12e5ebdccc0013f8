"""Accuracy against the bytes that it took, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from fedbench.report.figures.layout import BAR, Grid, handles, plain, rows_that_fit
from fedbench.report.figures.render import Sketch
from fedbench.report.figures.scales import LogScale
from fedbench.report.figures.series import Cast, Page, bars, number, pages, panels
from fedbench.report.figures.style import Look
from fedbench.report.frame import Row
from fedbench.report.verdict import front

_FRONT: dict[str, Any] = {"color": "#cccccc", "linewidth": 3.0, "zorder": 1.2}
_WITH_CONTROLS: dict[str, Any] = {
    "color": "#999999",
    "linewidth": 0.9,
    "linestyle": (0, (1.2, 1.2)),
    "zorder": 1.3,
}


def sketches(rows: Sequence[Row], cast: Cast) -> Iterator[Sketch]:
    """Draw accuracy against total bytes, a panel for each setting; budgets of a method are joined.

    Args:
        rows: Of a board, sorted.
        cast: Looks of the series.
    """
    known = [row for row in rows if math.isfinite(_accuracy(row)) and math.isfinite(_bytes(row))]
    for page in pages("bytes", panels(known, budgets=False), most_rows=rows_that_fit):
        if len({_bytes(row) for row in page.rows}) > 1:
            yield _sketch(page, cast)


def _accuracy(row: Row) -> float:
    return 100 * number(row.values["accuracy_mean"])


def _bytes(row: Row) -> float:
    return number(row.values["bytes_total"])


def _sketch(page: Page, cast: Cast) -> Sketch:
    series = cast.series(page.rows)
    joined = any(len({row.budget for row in rows}) > 1 for rows in series.values())
    fronts = [Line2D([], [], label="Pareto front", **_FRONT)]
    mixed = len({look.control for look in series}) > 1
    if mixed:
        fronts.append(Line2D([], [], label="front with controls", **_WITH_CONTROLS))
    grid = Grid(page, [*handles(series, lines=False), *fronts])
    scale = LogScale.of((_bytes(row) for row in page.rows), "B")
    grid.share_heights()
    for axes, panel in zip(grid.axes, page.panels, strict=True):
        _points(axes, panel.rows, cast, scale, grid.size[0])
        _fronts(axes, panel.rows, scale)
        scale.dress(axes, "x", most=max(2, int(grid.size[0] / 0.5)))
    grid.name_axes("bytes sent in total, up and down, all clients", "accuracy (%)")
    caption = (
        f"Accuracy at the last step against all bytes of all messages. {bars(page.rows)} "
        "Hollow and grey: controls. The broad line is the Pareto front"
        + (" of the contenders, the dotted one with the controls." if mixed else ".")
        + " Points with equal bytes are moved apart a little."
        + (" Budgets of one method are joined." if joined else "")
        + (" Methods that send nothing stand left of the break." if scale.lane else "")
    )
    return Sketch(page.name, f"{page.dataset}: accuracy against bytes", caption, grid.drawing)


def _points(axes: Axes, rows: Sequence[Row], cast: Cast, scale: LogScale, wide: float) -> None:
    lines: list[tuple[Look, list[Row]]] = []
    for look, members in cast.series(rows).items():
        for scope in sorted({str(row.budget[1]) for row in members}):
            own = [row for row in members if str(row.budget[1]) == scope]
            lines.append((look, sorted(own, key=lambda row: number(row.budget[0]))))
    places = scale.place(_bytes(row) for _, own in lines for row in own)
    across = iter(scale.spread(places, wide))
    for look, own in lines:
        axes.errorbar(
            [next(across) for _ in own],
            [_accuracy(row) for row in own],
            yerr=[100 * number(row.values["accuracy_std"]) for row in own],
            **{**plain(look), "linewidth": 0.7},
            **BAR,
        )


def _fronts(axes: Axes, rows: Sequence[Row], scale: LogScale) -> None:
    everybody = front((_bytes(row), _accuracy(row)) for row in rows)
    contenders = front((_bytes(row), _accuracy(row)) for row in rows if not row.control)
    if contenders and contenders != everybody:
        _stairs(axes, everybody, scale, _WITH_CONTROLS)
    _stairs(axes, contenders or everybody, scale, _FRONT)


def _stairs(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    scale: LogScale,
    look: dict[str, Any],
) -> None:
    across = scale.place(cost for cost, _ in points)
    axes.plot(
        [*across, scale.high],
        [*(accuracy for _, accuracy in points), points[-1][1]],
        drawstyle="steps-post",
        **look,
    )
