"""Partitions: how many images of which class each client holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, PowerNorm

from fedbench.bench.records.record import Record
from fedbench.files import write_atomic
from fedbench.report.figures import cells, style
from fedbench.report.figures.layout import Grid, Margins
from fedbench.report.figures.render import Sketch, to_svg
from fedbench.report.figures.series import Cast, Page, Panel, pages, panels
from fedbench.report.frame import Row

_NAMED = 0.125  # inches between names of clients
_TALL = (5.5, 3.4, 2.1)  # inches of panels at most: of one, of several in a row, of several rows


def partition_heatmap(
    histogram: Sequence[Sequence[int]], classes: Sequence[str], title: str, path: Path
) -> None:
    """Write a partition as an SVG file: clients down, classes across, images as colour.

    The file is the same, byte for byte, for the same arguments and matplotlib version. Colours go
    from pale to dark blue by the square root, so that small shares stay visible beside large ones;
    cells without images are white.

    Args:
        histogram: (K, C) images of each class at each client.
        classes: The C classes' names.
        title: Such as ``"cifar10, dirichlet_capped, beta=0.1, seed 0"``.
        path: Where the file goes; parent folders are made.

    Raises:
        ValueError: The histogram is not K x C with K >= 1.
        StoreError: The file cannot be written.
    """
    counts = _checked(histogram, classes)
    with style.context():
        page = Page("partition", "", title, [Panel({}, [])], 1)
        caption = "Images of each class (across) at each client (down)."
        sketch = Sketch("partition", title, caption, _draw(page, [counts], classes).drawing)
        write_atomic(path, to_svg(sketch))


def sketches(rows: Sequence[Row], cast: Cast) -> Iterator[Sketch]:
    """Draw the partitions, those of one data set and number of clients side by side.

    Of each split the lowest seed is drawn.

    Args:
        rows: Of a board, sorted.
        cast: Which has the records.
    """
    drawn = [
        Panel(
            panel.facts, sorted(panel.rows, key=lambda row: cast.records(row)[0].settings["seed"])
        )
        for panel in panels(rows, budgets=False, split_only=True)
    ]
    found = pages(
        "partition",
        [panel for panel in drawn if _record(panel, cast).partition.get("histogram")],
        most_rows=lambda _: 3,
        apart=lambda panel: panel.facts["partition.clients"],
        widest=3,
    )
    for page in found:
        yield _sketch(page, cast)


def _record(panel: Panel, cast: Cast) -> Record:
    return cast.records(panel.rows[0])[0]


def _sketch(page: Page, cast: Cast) -> Sketch:
    records = [_record(panel, cast) for panel in page.panels]
    classes = max((record.data["classes"] for record in records), key=len)
    counts = [_checked(record.partition["histogram"], record.data["classes"]) for record in records]
    seeds = sorted({record.settings["seed"] for record in records})
    shown = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    caption = (
        f"Training images of each class at each client, {shown} (other seeds draw other splits); "
        "colour by the square root of the count, white: none."
    )
    grid = _draw(page, counts, classes)
    clients = page.panels[0].facts["partition.clients"]
    return Sketch(page.name, f"{page.dataset}: partitions, {clients}", caption, grid.drawing)


def _checked(histogram: Sequence[Sequence[int]], classes: Sequence[str]) -> np.ndarray:
    counts = np.asarray(histogram, dtype=np.int64)
    if counts.ndim != 2 or not counts.size or counts.shape[1] != len(classes):
        raise ValueError(f"a histogram of shape {counts.shape} does not fit {len(classes)} classes")
    return counts


def _draw(page: Page, counts: Sequence[np.ndarray], classes: Sequence[str]) -> Grid:
    clients = len(counts[0])
    alone = len(counts) == 1
    most = max(int(each.max()) for each in counts)
    full = not alone or len(classes) > 12 or most >= 1000
    tall = _TALL[(not alone) + (len(counts) > page.columns)]
    height = float(np.clip(0.16 * clients, 0.5, tall))
    names = _clients(counts[0], alone, height)
    left = max(style.width(name) for name in names.values()) + 0.3
    margins = Margins(left=left, right=0.66, across=0.12)
    wide = Grid.inner(page.columns, margins, full)
    grid = Grid(
        page,
        height=height,
        margins=Margins(left, 0.66, cells.name_height(classes, wide) + 0.2, 0.12),
        full=full,
    )
    # One hue is safe for every kind of colour vision. Its palest tones would look like white.
    blues = ListedColormap(matplotlib.colormaps["Blues"](np.linspace(0.12, 1, 256)))
    norm = PowerNorm(0.5, vmin=0, vmax=max(1, most))
    tables = [np.where(each > 0, each, np.nan) for each in counts]
    write = cells.whole if cells.fits(tables, grid.size, cells.whole) else None
    for axes, values in zip(grid.axes, tables, strict=True):
        mesh = cells.heat(axes, values, blues, norm, grid.size, write)
        cells.name_classes(axes, classes, wide)
        _name_clients(axes, names)
    grid.colour_bar(mesh, "images", "images")
    down = "client (images)" if alone and len(names) == clients else "client"
    if style.width(down, style.NORMAL) > grid.size[1] + 0.2:
        down = "client"
    grid.name_axes("class", down, slanted=not cells.level(classes, wide))
    return grid


def _clients(counts: np.ndarray, alone: bool, height: float) -> dict[int, str]:
    """Return the names of clients that have room, by row, with sizes where one panel names all."""
    clients = len(counts)
    step = next(
        s for s in (1, 2, 5, 10, 20, 50, 100, 500, clients) if s * height / clients > _NAMED
    )
    sizes = [f" ({size:,})" if alone and step == 1 else "" for size in counts.sum(1)]
    return {client: f"{client}{sizes[client]}" for client in range(0, clients, step)}


def _name_clients(axes: Axes, names: dict[int, str]) -> None:
    axes.set_yticks([client + 0.5 for client in names], list(names.values()))
