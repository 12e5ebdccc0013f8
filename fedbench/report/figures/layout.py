"""Small multiples of a fixed width in inches, with a header, shared axes, and one legend below.

Places are computed, not solved for: matplotlib's constrained layout doubles a figure's time, puts a
shared label below the legend, and shifts axes with every label.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from fedbench.report.figures import style
from fedbench.report.figures.series import Page, Panel
from fedbench.report.figures.style import COLUMN, PAGE, TALLEST, Look

LINE = 0.135  # inches: one line of small text
HEIGHTS = {1: 2.2, 2: 2.1, 3: 1.6, 4: 1.3}  # of panels, by how many stand side by side
_TOWER = {COLUMN: 8, PAGE: 12}  # lines of a legend, by width; of more, names are rather cut
_NARROWEST = 1.2  # inches of a panel beside names
BAR: dict[str, Any] = {"elinewidth": 0.8, "elinestyle": "solid"}  # of error bars


@dataclass(frozen=True)
class Margins:
    """Inches around and between panels.

    Attributes:
        left: Room for tick labels and the label of the y axis.
        right: Room for a colour bar.
        bottom: Room for tick labels and the label of the x axis.
        across: Between panels side by side.
        down: Between rows of panels, titles apart.
    """

    left: float = 0.46
    right: float = 0.14
    bottom: float = 0.37
    across: float = 0.16
    down: float = 0.1


MARGINS = Margins()


def row_names(looks: Iterable[Look], longest: float) -> tuple[list[str], float]:
    """Return what stands at the left of rows, and the inches that it takes.

    Args:
        looks: One for each row.
        longest: Inches that a name gets where that tells it from the others.
    """
    names = [look.label + (" †" if look.control else "") for look in looks]
    names = style.fit_all(names, longest)
    return names, max((style.width(name) for name in names), default=0.0) + 0.12


def divide(axes: Axes, order: Sequence[Look], shift: float) -> None:
    """Draw a line between the rows of contenders and of controls.

    Args:
        axes: The panel, rows at whole numbers.
        order: One look for each row, contenders first.
        shift: Where a row's upper edge is.
    """
    contenders = sum(not look.control for look in order)
    if 0 < contenders < len(order):
        axes.axhline(contenders + shift, color="white", linewidth=2.4)
        axes.axhline(contenders + shift, color=style.INK, linewidth=0.6)


def beside_names(left: float, most: int) -> int:
    """Return how many panels fit side by side where names at the left take so many inches."""
    return max(1, min(most, int((PAGE - 0.66 - left) / _NARROWEST)))


def needs_page(left: float) -> bool:
    """Say whether names at the left leave a single column of a paper too little for a panel."""
    return COLUMN - 0.66 - left < _NARROWEST


def rows_that_fit(columns: int) -> int:
    """Return how many rows of panels a page has room for, with a legend of some lines."""
    one = HEIGHTS[columns] + MARGINS.down + 0.2
    return max(1, int((TALLEST - MARGINS.bottom - 1.0) / one))


class Grid:
    """A figure's panels.

    Args:
        page: What stands in them.
        legend: What the legend explains, in order.
        height: Of a panel, in inches; by default by the number of columns.
        margins: Around and between panels.
        full: Whether a single column is as wide as the page. It is where a name in the legend is
            wider than a column, or would be cut there.

    Attributes:
        drawing: The figure.
        axes: One for each panel of the page.
        size: Width and height of a panel in inches.
    """

    def __init__(
        self,
        page: Page,
        legend: Sequence[Line2D] = (),
        height: float | None = None,
        margins: Margins = MARGINS,
        full: bool = False,
    ) -> None:
        self.page, self.margins = page, margins
        columns, count = page.columns, len(page.panels)
        self.rows = -(-count // columns)
        full = full or not _legend_fits(legend, COLUMN)
        width = PAGE if full or columns > 1 else COLUMN
        wide = self.inner(columns, margins, full)
        self.size = (wide, HEIGHTS[columns] if height is None else height)
        header = style.wrap(style.known(page.header), width - 0.1)
        titles = [
            style.wrap(style.known(panel.title), self.size[0], style.SMALL) for panel in page.panels
        ]
        title = LINE * max(map(len, titles)) + 0.04 if any(map(any, titles)) else 0.04
        below = _legend_height(legend, width)
        top = 0.07 + LINE * len(header)
        self._step = self.size[1] + title + margins.down
        total = top + self.rows * self._step - margins.down + margins.bottom + below
        self.drawing = Drawing(figsize=(width, total))
        self._width, self._total = width, total
        self._base = below + margins.bottom
        self.axes = [self._axes(place) for place in range(count)]
        for axes, lines in zip(self.axes, titles, strict=True):
            axes.set_title("\n".join(lines), fontsize=style.SMALL, loc="left", linespacing=1.15)
        self.drawing.text(
            0.05 / width,
            1 - 0.05 / total,
            "\n".join(header),
            va="top",
            color=style.FAINT,
            fontsize=style.SMALL,
            linespacing=1.15,
        )
        if legend:
            self._legend(legend)

    @classmethod
    def single(
        cls,
        header: str,
        legend: Sequence[Line2D] = (),
        height: float | None = None,
        margins: Margins = MARGINS,
        full: bool = False,
    ) -> Grid:
        """Return a figure of one panel under a header."""
        return cls(Page("", "", header, [Panel({}, [])], 1), legend, height, margins, full)

    @staticmethod
    def inner(columns: int, margins: Margins, full: bool = False) -> float:
        """Return how wide a panel is, in inches."""
        width = PAGE if full or columns > 1 else COLUMN
        return (width - margins.left - margins.right - (columns - 1) * margins.across) / columns

    def _axes(self, place: int) -> Axes:
        row, column = divmod(place, self.page.columns)
        left = self.margins.left + column * (self.size[0] + self.margins.across)
        low = self._base + (self.rows - 1 - row) * self._step
        return self.drawing.add_axes(self._box(left, low, *self.size))

    def _box(
        self, left: float, low: float, wide: float, high: float
    ) -> tuple[float, float, float, float]:
        """Turn inches into shares of the figure."""
        return left / self._width, low / self._total, wide / self._width, high / self._total

    def share_heights(self) -> None:
        """Give all panels the same y axis."""
        for axes in self.axes:
            axes.margins(y=0.08)
            if axes is not self.axes[0]:
                axes.sharey(self.axes[0])

    def name_axes(self, across: str, down: str, slanted: bool = False) -> None:
        """Write the axes' labels once, and take tick labels from panels inside the grid.

        Args:
            across: Of the x axis.
            down: Of the y axis.
            slanted: Whether tick labels below reach to the left, where another panel may stand.
        """
        columns = self.page.columns
        for place, axes in enumerate(self.axes):
            lowest = place + columns >= len(self.axes)  # no panel stands below it
            last = place // columns == self.rows - 1
            shown = last if slanted else lowest
            axes.tick_params(labelbottom=shown, labelleft=place % columns == 0)
        inner = self._width - self.margins.left - self.margins.right
        low = self._base - self.margins.bottom
        self.drawing.text(
            (self.margins.left + inner / 2) / self._width,
            (low + 0.03) / self._total,
            across,
            ha="center",
            va="bottom",
            fontsize=style.NORMAL,
        )
        high = self.rows * self._step - self.margins.down
        self.drawing.text(
            0.05 / self._width,
            (self._base + high / 2) / self._total,
            down,
            ha="left",
            va="center",
            rotation=90,
            fontsize=style.NORMAL,
        )

    def colour_bar(self, shown: ScalarMappable, label: str, short: str) -> None:
        """Explain colours at the right of the first row of panels, in short where it is low."""
        left = self._width - self.margins.right + 0.08
        low = self._base + (self.rows - 1) * self._step
        high = min(self.size[1], 2.1)
        beside = self.drawing.add_axes(self._box(left, low + self.size[1] - high, 0.09, high))
        bar = self.drawing.colorbar(shown, cax=beside)
        bar.outline.set_visible(False)
        beside.grid(visible=False)
        beside.tick_params(length=2)
        fits = style.width(label) <= 1.25 * high
        beside.set_ylabel(label if fits else short, fontsize=style.SMALL)

    def _legend(self, handles: Sequence[Line2D]) -> None:
        columns, texts = _legend_columns(handles, self._width)
        # matplotlib leaves out labels that begin with an underscore.
        texts = [f" {text}" if text.startswith("_") else text for text in texts]
        self.drawing.legend(
            handles,
            texts,
            loc="lower left",
            bbox_to_anchor=(0, 0, 1, 1),
            ncols=columns,
            fontsize=style.SMALL,
            borderaxespad=0.3,
            borderpad=0.2,
            handlelength=2.4,
            handletextpad=0.5,
            columnspacing=1.2,
            labelspacing=0.25,
        )


def _legend_columns(handles: Sequence[Line2D], width: float) -> tuple[int, list[str]]:
    """Return in how many columns a legend fits, and its texts."""
    names = [str(handle.get_label()) for handle in handles]
    columns = _columns_that_fit(names, width)
    if columns == 1 and len(names) > _TOWER[width]:
        names = style.fit_all(names, width / 2 - 0.55)
        columns = _columns_that_fit(names, width)
    return columns, style.fit_all(names, width - 0.5)


def _columns_that_fit(names: Sequence[str], width: float) -> int:
    """Return the fewest columns among those that give the lowest legend of that width."""
    wide = np.array([style.width(name) for name in names]) + 0.4
    best = 1
    for columns in range(2, len(names) + 1):
        needed = sum(part.max() for part in np.array_split(wide, columns)) + 0.1 * columns
        lower = math.ceil(len(names) / columns) < math.ceil(len(names) / best)
        if lower and needed <= width - 0.1:
            best = columns
    return best


def _legend_fits(handles: Sequence[Line2D], width: float) -> bool:
    """Return whether a legend needs no more width, with all names whole."""
    _, texts = _legend_columns(handles, width)
    whole = texts == [str(handle.get_label()) for handle in handles]
    return whole and all(style.width(text) <= width - 0.5 for text in texts)


def _legend_height(handles: Sequence[Line2D], width: float) -> float:
    if not handles:
        return 0.02
    columns, texts = _legend_columns(handles, width)
    return 0.124 * math.ceil(len(texts) / columns) + 0.1


def handles(looks: Iterable[Look], lines: bool = True) -> list[Line2D]:
    """Return what stands in a legend for series: their markers, and their lines if any is drawn."""
    return [Line2D([], [], label=look.label, **plain(look, lines)) for look in looks]


def plain(look: Look, line: bool = True) -> dict[str, Any]:
    """Return a series' look in matplotlib's words.

    A contender stands before a control, whose marker is a little larger, so that both can be seen
    where they agree.
    """
    return {
        "color": look.colour,
        "marker": look.marker,
        "markerfacecolor": look.face,
        "markeredgecolor": look.colour if look.control else "white",
        "markeredgewidth": 0.8 if look.control else 0.3,
        "markersize": (4.8 if look.control else 4.5) * style.WEIGHT.get(look.marker, 1),
        "linestyle": look.dash if line else "none",
        "linewidth": 0.9 if look.control else 1.2,
        "zorder": 2 if look.control else 3,
    }


def hatch(axes: Axes) -> None:
    """Show that a cell without colour is a value that is missing, not a zero."""
    axes.patch.set(hatch="/////", facecolor="white", edgecolor=matplotlib.rcParams["hatch.color"])
