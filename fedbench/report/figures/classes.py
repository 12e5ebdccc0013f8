"""Per-class accuracy: methods down, classes across."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import Normalize

from fedbench.report.figures import cells, style
from fedbench.report.figures.layout import (
    Grid,
    Margins,
    beside_names,
    divide,
    hatch,
    needs_page,
    row_names,
)
from fedbench.report.figures.render import Sketch
from fedbench.report.figures.series import Cast, Page, number, pages, panels, ranked, seeds
from fedbench.report.figures.style import Look
from fedbench.report.frame import Row

_ROW = 0.155  # inches
_LONGEST = 3.1  # inches of a method's name
_MANY = 20  # classes: more are sorted, since nobody reads so many columns one by one


def sketches(rows: Sequence[Row], cast: Cast) -> Iterator[Sketch]:
    """Draw the accuracy of each class, a panel for each setting and budget.

    Args:
        rows: Of a board, sorted.
        cast: Looks of the series, and records.
    """
    drawn = {id(row): recall(row, cast) for row in rows}
    known = [row for row in rows if np.isfinite(drawn[id(row)]).any()]
    names = {id(row): tuple(cast.records(row)[0].data["classes"]) for row in known}
    height = _ROW * len(cast.series(known))
    _, left = row_names(cast.series(known), _LONGEST)
    found = pages(
        "classes",
        panels(known),
        most_rows=lambda _: max(1, int((style.TALLEST - 1.2) / (height + 0.35))),
        apart=lambda panel: "" if len(set(names.values())) == 1 else _digest(names, panel.rows),
        widest=beside_names(left, 3)
        if max((len(each) for each in names.values()), default=0) <= _MANY
        else 1,
    )
    for page in found:
        yield _sketch(page, cast, drawn, names[id(page.rows[0])])


def _digest(names: dict[int, tuple[str, ...]], rows: Sequence[Row]) -> str:
    return f"{len(names[id(rows[0])])}-classes"


def recall(row: Row, cast: Cast) -> np.ndarray:
    """Return a row's accuracy of each class.

    Args:
        row: Of the board.
        cast: Which has its records.

    Returns:
        (C,) percent, mean over the seeds that know it, NaN where none does; (0,) without classes.
    """
    found = [record.metrics.get("per_class") or [] for record in cast.records(row)]
    counts = {len(values) for values in found if values}
    if len(counts) != 1:
        return np.empty(0)
    values = np.array([[number(value) for value in each] for each in found if each])
    known = np.isfinite(values).sum(0)
    return 100 * np.where(known, np.nansum(values, 0) / np.maximum(known, 1), math.nan)


def _sketch(
    page: Page, cast: Cast, drawn: dict[int, np.ndarray], classes: tuple[str, ...]
) -> Sketch:
    order = ranked(cast.series(page.rows))
    tables = [_table(panel.rows, order, cast, drawn, len(classes)) for panel in page.panels]
    ranking = len(classes) > _MANY
    if ranking:
        places = _ranking(np.concatenate(tables))
        tables = [values[:, places] for values in tables]
        classes = tuple(classes[place] for place in places)
    names, left = row_names(order, _LONGEST)
    full = len(classes) > 12 or needs_page(left)
    wide = Grid.inner(page.columns, Margins(left, 0.66, 0, 0.1), full)
    bottom = cells.name_height(classes, wide) + 0.2
    grid = Grid(page, height=_ROW * len(order), margins=Margins(left, 0.66, bottom, 0.1), full=full)
    write = cells.whole if cells.fits(tables, grid.size, cells.whole) else None
    for axes, values in zip(grid.axes, tables, strict=True):
        hatch(axes)
        mesh = cells.heat(
            axes, values, matplotlib.colormaps["cividis"], Normalize(0, 100), grid.size, write
        )
        cells.name_classes(axes, classes, wide)
        axes.set_yticks(np.arange(len(order)) + 0.5, names)
        divide(axes, order, 0.0)
    grid.colour_bar(mesh, "accuracy on the class (%)", "%")
    grid.name_axes("class", "", slanted=not cells.level(classes, wide))
    caption = (
        f"Share of each class's test images that are recognised, mean over seeds, "
        f"{seeds(page.rows)}; best methods first, controls (†) below. Hatched: no value."
        + (" Classes from best to worst, mean over all rows; some are named." if ranking else "")
    )
    return Sketch(page.name, f"{page.dataset}: accuracy by class", caption, grid.drawing)


def _ranking(values: np.ndarray) -> np.ndarray:
    """Return the columns' places from the largest mean to the smallest, equal ones as they come."""
    known = np.isfinite(values)
    means = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
    return np.argsort(-means, kind="stable")


def _table(
    rows: Sequence[Row], order: list[Look], cast: Cast, drawn: dict[int, np.ndarray], classes: int
) -> np.ndarray:
    """Return (series, classes) percent, NaN where a panel has no value."""
    values = np.full((len(order), classes), math.nan)
    for row in rows:
        values[order.index(cast.look(row))] = drawn[id(row)]
    return values
