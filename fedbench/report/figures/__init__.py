"""The figures of a report: which there are, and what a reader of the package gets.

matplotlib is imported when something is drawn. ``docs/figures.md`` says how to read each figure.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedbench.report.board import Board
    from fedbench.report.figures.render import Sketch


@dataclass(frozen=True)
class Figure:
    """One figure of a report.

    Attributes:
        name: The file's stem: lower-case letters, digits and hyphens.
        title: One line.
        caption: What is drawn, what the error bars are, and n; plain text, not escaped.
        svg: SVG text that begins with ``<svg`` and may stand inside an HTML page as it is.
        timing: Whether it shows seconds, so that its bytes differ from run to run.
    """

    name: str
    title: str
    caption: str
    svg: str
    timing: bool
    _sketch: Sketch = field(repr=False, compare=False)

    def to_pdf(self) -> bytes:
        """Return the same figure as PDF with TrueType fonts, without a date."""
        from fedbench.report.figures.render import to_pdf

        return to_pdf(self._sketch)


def draw(board: Board) -> list[Figure]:
    """Draw all figures that a board has something to show in.

    A figure is drawn where its axis varies. The same board gives the same bytes, whatever the
    order of its records.

    Args:
        board: A suite's plan, records and rows.

    Returns:
        Figures in the order of a report, names unique.
    """
    from fedbench.report.figures import (
        classes,
        curves,
        partition,
        render,
        seconds,
        series,
        settings,
        style,
        sweeps,
        tradeoff,
    )

    with style.context():
        cast = series.Cast(board)
        families = (tradeoff, sweeps, settings, curves, classes, partition, seconds)
        found = [sketch for family in families for sketch in family.sketches(board.views, cast)]
        taken: set[str] = set()  # a method's setting may be called as a figure is
        found = [replace(one, name=series.free_name(one.name, taken)) for one in found]
        return [
            Figure(
                sketch.name,
                sketch.title,
                sketch.caption,
                render.to_svg(sketch),
                sketch.timing,
                sketch,
            )
            for sketch in found
        ]
