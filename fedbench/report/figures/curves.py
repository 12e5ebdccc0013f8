"""Accuracy while a method ran: against bytes sent so far, and against steps where those vary."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedbench.bench.records.record import Record
from fedbench.report.figures.layout import BAR, Grid, handles, plain, rows_that_fit
from fedbench.report.figures.render import Sketch
from fedbench.report.figures.scales import LogScale
from fedbench.report.figures.series import Cast, Page, number, pages, panels, seeds
from fedbench.report.frame import Row

Against = Literal["bytes", "step"]


@dataclass(frozen=True)
class Point:
    """A curve's point: means over the seeds that have it.

    Attributes:
        at: Bytes or step.
        mean: Accuracy in percent.
        std: Standard deviation in percent, NaN for one seed.
    """

    at: float
    mean: float
    std: float


def sketches(rows: Sequence[Row], cast: Cast) -> Iterator[Sketch]:
    """Draw accuracy against bytes sent so far, and against steps for curves within a round.

    Args:
        rows: Of a board, sorted.
        cast: Looks of the series, and records.
    """
    for against in ("bytes", "step"):
        drawn = {id(row): points for row in rows if (points := curve(cast.records(row), against))}
        with_curve = [row for row in rows if id(row) in drawn]
        # Curves of methods without a budget are the same at each: they have one panel.
        budgets = any(row.budget[0] for row in with_curve if len(drawn[id(row)]) > 1)
        found = panels(with_curve, budgets=budgets)
        for page in pages(f"curves-{against}", found, most_rows=rows_that_fit):
            if any(len(drawn[id(row)]) > 1 for row in page.rows):
                yield _sketch(page, against, drawn, cast)


def curve(records: Sequence[Record], against: Against) -> list[Point]:
    """Return a row's curve.

    Against bytes, the last observation at each number of bytes counts; seeds are put together by
    the round. Against steps, only rounds with several observations count.

    Args:
        records: One for each seed.
        against: What the curve is drawn against.
    """
    found: dict[tuple[float, float], list[tuple[float, float]]] = {}
    for record in records:
        observed = _observed(record)
        several = {r for r, _ in observed if sum(r == other for other, _ in observed) > 1}
        for (round_, step), (sent, accuracy) in observed.items():
            if against == "step":
                if round_ in several:
                    found.setdefault((round_, step), []).append((step, accuracy))
            elif (round_, step) == max(place for place in observed if place[0] == round_):
                found.setdefault((round_, 0), []).append((sent, accuracy))
    return sorted((_point(values) for values in found.values()), key=lambda point: point.at)


def _observed(record: Record) -> dict[tuple[float, float], tuple[float, float]]:
    """Return (bytes, accuracy) by (round, step): of the global model, else the mean of all."""
    names = {point["name"] for point in record.curves}
    kept: dict[tuple[float, float], list[tuple[float, float]]] = {}
    for point in record.curves:
        accuracy = number(point["accuracy"])
        if ("global" not in names or point["name"] == "global") and math.isfinite(accuracy):
            place = (point["round"], point["step"])
            kept.setdefault(place, []).append((point["bytes"], accuracy))
    return {
        place: (values[-1][0], statistics.fmean(accuracy for _, accuracy in values))
        for place, values in sorted(kept.items())
    }


def _point(values: list[tuple[float, float]]) -> Point:
    accuracies = [100 * accuracy for _, accuracy in values]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else math.nan
    return Point(statistics.fmean(at for at, _ in values), statistics.fmean(accuracies), spread)


def _sketch(page: Page, against: Against, drawn: dict[int, list[Point]], cast: Cast) -> Sketch:
    series = cast.series(page.rows)
    grid = Grid(page, handles(series))
    every = [point.at for row in page.rows for point in drawn[id(row)]]
    scale = LogScale.of(every, "B")
    grid.share_heights()
    for axes, panel in zip(grid.axes, page.panels, strict=True):
        for look, own in cast.series(panel.rows).items():
            for row in own:
                _draw(axes, drawn[id(row)], scale if against == "bytes" else None, plain(look))
        if against == "bytes":
            scale.dress(axes, "x", most=max(2, int(grid.size[0] / 0.5)))
        else:
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    words = "bytes sent so far" if against == "bytes" else "server steps"
    whole = all(_whole(record) for row in page.rows for record in cast.records(row))
    grid.name_axes(
        f"{words}, up and down, all clients" if against == "bytes" else words,
        "accuracy (%)" if whole else "accuracy on a test subset (%)",
    )
    spread = any(math.isfinite(p.std) for row in page.rows for p in drawn[id(row)])
    caption = (
        f"Accuracy on {'all' if whole else 'a fixed share'} of the test set against {words}; "
        + ("" if against == "bytes" else "each method counts steps of its own; ")
        + "mean over seeds, "
        + ("shaded: standard deviation, " if spread else "")
        + f"{seeds(page.rows)}. Hollow and grey: controls. Methods that were observed nowhere on "
        "the way are not drawn."
    )
    return Sketch(page.name, f"{page.dataset}: accuracy against {words}", caption, grid.drawing)


def _whole(record: Record) -> bool:
    """Return whether a record's curve is of all test images."""
    return bool(record.settings["evaluation"]["curve_size"] >= record.data["test"])


def _draw(
    axes: Axes, points: Sequence[Point], scale: LogScale | None, look: dict[str, Any]
) -> None:
    across = [point.at for point in points]
    if scale:
        across = scale.place(across)
    means = [point.mean for point in points]
    axes.plot(across, means, markevery=max(1, len(points) // 6), **look)
    known = [place for place, point in enumerate(points) if math.isfinite(point.std)]
    if len(known) > 1:
        axes.fill_between(
            [across[place] for place in known],
            [points[place].mean - points[place].std for place in known],
            [points[place].mean + points[place].std for place in known],
            color=look["color"],
            alpha=0.12,
            linewidth=0,
        )
    elif known:
        axes.errorbar(across, means, [point.std for point in points], color=look["color"], **BAR)
