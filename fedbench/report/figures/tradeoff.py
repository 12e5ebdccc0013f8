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

#: Up to this ratio, bytes are as good as equal: labels beside the same weights, say.
_ALIKE = 1.1
_FRONT: dict[str, Any] = {"color": "#cccccc", "linewidth": 3.0, "zorder": 1.2}
_WITH_CONTROLS: dict[str, Any] = {
    "color": "#999999",
    "linewidth": 0.9,
    "linestyle": (0, (1.2, 1.2)),
    "zorder": 1.3,
}

#: (bytes, accuracy) each.
Points = Sequence[tuple[float, float]]


def sketches(rows: Sequence[Row], cast: Cast) -> Iterator[Sketch]:
    """Draw accuracy against total bytes, a panel for each setting; budgets of a method are joined.

    Args:
        rows: Of a board, sorted.
        cast: Looks of the series.
    """
    known = [row for row in rows if math.isfinite(_accuracy(row)) and math.isfinite(_bytes(row))]
    found = panels(known, budgets=False)
    if any(_tells(panel.rows) for panel in found):
        for page in pages("bytes", found, most_rows=rows_that_fit):
            yield _sketch(page, cast)


def _tells(rows: Sequence[Row]) -> bool:
    """Say whether rows that send anything can be told apart by their bytes."""
    sent = [_bytes(row) for row in rows if _bytes(row) > 0]
    return bool(sent) and max(sent) > _ALIKE * min(sent)


def _accuracy(row: Row) -> float:
    return 100 * number(row.values["accuracy_mean"])


def _bytes(row: Row) -> float:
    return number(row.values["bytes_total"])


def _sketch(page: Page, cast: Cast) -> Sketch:
    series = cast.series(page.rows)
    joined = any(len({row.budget for row in rows}) > 1 for rows in series.values())
    fronts = [_fronts(panel.rows) for panel in page.panels]
    own, mixed = (any(each[kind] for each in fronts) for kind in (0, 1))
    legend = handles(series, lines=False)
    if own:
        legend.append(Line2D([], [], label="Pareto front", **_FRONT))
    if mixed:
        legend.append(Line2D([], [], label="front with controls", **_WITH_CONTROLS))
    grid = Grid(page, legend)
    scale = LogScale.of((_bytes(row) for row in page.rows), "B")
    grid.share_heights()
    for axes, panel, (contenders, everybody) in zip(grid.axes, page.panels, fronts, strict=True):
        _points(axes, panel.rows, cast, scale, grid.size[0])
        _stairs(axes, everybody, scale, _WITH_CONTROLS)
        _stairs(axes, contenders, scale, _FRONT)
        scale.dress(axes, "x", most=max(2, int(grid.size[0] / 0.5)))
    grid.name_axes("bytes sent in total, up and down, all clients", "accuracy (%)")
    caption = (
        f"Accuracy at the last step against all bytes of all messages. {bars(page.rows)} "
        "Hollow and grey: controls."
        + (" The broad line is the Pareto front of the contenders." if own else "")
        + (" The dotted line is the front with the controls." if mixed else "")
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


def _fronts(rows: Sequence[Row]) -> tuple[Points, Points]:
    """Return the fronts of the contenders, and with the controls where that is another.

    A front whose points have bytes that are as good as equal is none: it is empty.
    """
    found = []
    contenders = [row for row in rows if row.ranked]
    controls = [row for row in rows if row.control and not row.lacks_seeds]
    for members in (contenders, [*contenders, *controls]):
        points = front((_bytes(row), _accuracy(row)) for row in members)
        found.append(points if points and points[-1][0] > _ALIKE * points[0][0] else [])
    narrow, wide = found
    return narrow, [] if wide == narrow else wide


def _stairs(axes: Axes, points: Points, scale: LogScale, look: dict[str, Any]) -> None:
    if points:
        across = scale.place(cost for cost, _ in points)
        axes.plot(
            [*across, scale.high],
            [*(accuracy for _, accuracy in points), points[-1][1]],
            drawstyle="steps-post",
            **look,
        )
