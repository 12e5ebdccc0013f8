"""Who works: client seconds against server seconds, the one figure of times."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Literal

from matplotlib.axes import Axes

from fedbench.report.figures.layout import BAR, Grid, Margins, handles, plain, rows_that_fit
from fedbench.report.figures.render import Sketch
from fedbench.report.figures.scales import LogScale
from fedbench.report.figures.series import Cast, Page, number, pages, panels, seeds
from fedbench.report.frame import Row

FLOOR = 1e-3  # seconds; what is shorter says more about the clock than about the method
_MARGINS = Margins(left=0.62)


def sketches(rows: Sequence[Row], cast: Cast) -> Iterator[Sketch]:
    """Draw client seconds against server seconds, a panel for each setting.

    Args:
        rows: Of a board, sorted.
        cast: Looks of the series, and records.
    """
    known = [row for row in rows if all(math.isfinite(second) for second in _seconds(row))]
    for page in pages("seconds", panels(known, budgets=False), most_rows=rows_that_fit):
        if len(cast.series(page.rows)) > 1:
            yield _sketch(page, cast)


def _seconds(row: Row) -> tuple[float, float]:
    return number(row.values["client_seconds"]), number(row.values["server_seconds"])


def _sketch(page: Page, cast: Cast) -> Sketch:
    series = cast.series(page.rows)
    grid = Grid(page, handles(series, lines=False), margins=_MARGINS)
    across = LogScale.of((_seconds(row)[0] for row in page.rows), "s", FLOOR)
    up = LogScale.of((_seconds(row)[1] for row in page.rows), "s", FLOOR)
    for axes, panel in zip(grid.axes, page.panels, strict=True):
        across.dress(axes, "x", most=max(2, int(grid.size[0] / 0.5)))
        up.dress(axes, "y", most=5)
        _equal(axes, across, up)
        for look, members in cast.series(panel.rows).items():
            for row in members:
                client, server = _seconds(row)
                axes.errorbar(
                    across.place([client]),
                    up.place([server]),
                    xerr=[_std(row, cast, "client_seconds") if client > FLOOR else math.nan],
                    yerr=[_std(row, cast, "server_seconds") if server > FLOOR else math.nan],
                    **plain(look, line=False),
                    **BAR,
                )
    grid.name_axes("client seconds, summed over clients", "server seconds")
    caption = (
        "Wall seconds of the clients together against the server's, shared client trainings "
        f"charged to each method. Bars: standard deviation over seeds, {seeds(page.rows)}. "
        "Dotted: both sides work as long. Hollow and grey: controls. "
        "In a shaded lane, where there is one: under a millisecond."
    )
    return Sketch(
        page.name,
        f"{page.dataset}: client and server seconds",
        caption,
        grid.drawing,
        timing=True,
    )


def _std(row: Row, cast: Cast, name: Literal["client_seconds", "server_seconds"]) -> float:
    known = (record.ledger.get(name) for record in cast.records(row))
    values = [float(value) for value in known if value is not None]
    return statistics.stdev(values) if len(values) > 1 else math.nan


def _equal(axes: Axes, across: LogScale, up: LogScale) -> None:
    low, high = max(across.low, up.low), min(across.high, up.high)
    if low < high:
        axes.plot([low, high], [low, high], color="#a0a0a0", linestyle=(0, (1.2, 2)), linewidth=0.8)
