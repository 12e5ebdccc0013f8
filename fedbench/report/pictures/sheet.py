"""Contact sheets: small images in a row for each class, every pixel an exact square.

The images and their frames are put together as one raster at the size of the PNG file, so nothing
is resampled; text is laid over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Drawing
from numpy.typing import NDArray

from fedbench.report.figures import style
from fedbench.report.figures.render import Sketch
from fedbench.report.pictures.look import DPI

_TILE = 96  # pixels of the file that a small image is enlarged to, about: a third of an inch
_GAP, _FRAME = 10, 4  # pixels between images, and of a frame in that gap
_MARK = 5.5  # points: the text below an image
_RIM = 225  # grey level of the line around images, which may be white
_EDGE = 30  # pixels around all
_APART = 16  # more pixels between groups of images
_BETWEEN = 70  # pixels between blocks
_TALL = 25  # rows after which a further band of rows begins at the right


@dataclass(frozen=True)
class Strip:
    """Images of one class in one block.

    Attributes:
        images: (n, C, S, S) uint8 with 1 or 3 channels.
        marks: A few letters below each image; none at all leaves no room for them.
        framed: Whether each image has a frame in the row's colour; none frames nothing.
    """

    images: NDArray[np.uint8]
    marks: Sequence[str] = ()
    framed: Sequence[bool] = ()


@dataclass(frozen=True)
class Row:
    """One class of a sheet.

    Attributes:
        name: The class's.
        notes: Lines below the name.
        strips: One for each block.
        colour: Of the name and of frames.
    """

    name: str
    notes: Sequence[str]
    strips: Sequence[Strip]
    colour: str = style.INK


def sheet(
    name: str,
    header: Sequence[str],
    caption: str,
    blocks: Sequence[str],
    rows: Sequence[Row],
    columns: int,
    group: int = 0,
) -> Sketch:
    """Draw a contact sheet.

    Args:
        name: The file's stem.
        header: The title, and lines below it.
        caption: For screen readers.
        blocks: Titles of what stands side by side in every row.
        rows: One for each class; all images are of one size.
        columns: Images in a line; a strip of more takes further lines.
        group: Images that stand closer together; 0 for none.
    """
    plan = _Plan(header, rows, blocks, columns, group or columns)
    raster = np.full((plan.height, plan.width, 3), 255, dtype=np.uint8)
    with style.context():
        drawing = Drawing(figsize=(plan.width / DPI, plan.height / DPI), dpi=DPI)
        axes = drawing.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        texts = _head(plan, header, blocks)
        for number, row in enumerate(rows):
            left, top = plan.place(number)
            texts += _label(row, left, top)
            for block, strip in enumerate(row.strips):
                texts += _put(raster, plan, strip, plan.block(left, block), top, row.colour)
        axes.imshow(raster, interpolation="nearest", aspect="auto")
        for x, y, text, how in texts:
            # matplotlib counts from the middle of the first pixel.
            axes.text(
                x - 0.5, y - 0.5, style.known(text), **{"va": "top", "fontsize": style.SMALL, **how}
            )
    return Sketch(name, header[0], caption, drawing)


_Text = tuple[float, float, str, dict[str, Any]]


class _Plan:
    """Where everything stands, in pixels from the upper left corner.

    Attributes:
        scale: How many pixels of the file a pixel of an image takes along each axis.
        step: From one image to the next.
        line: From one line of images to the next.
        width: Of the sheet.
        height: Of the sheet.
    """

    def __init__(
        self,
        header: Sequence[str],
        rows: Sequence[Row],
        blocks: Sequence[str],
        columns: int,
        group: int,
    ) -> None:
        strips = [strip for row in rows for strip in row.strips]
        self.columns, self._group = columns, group
        size = int(strips[0].images.shape[-1])
        self.scale = max(1, round(_TILE / size))
        self.step = size * self.scale + _GAP
        self.line = self.step + (_points(_MARK) + 6 if any(s.marks for s in strips) else 0)
        self._label = 24 + max(
            _wide(text, points)
            for row in rows
            for text, points in [(row.name, style.NORMAL), *((n, style.SMALL) for n in row.notes)]
        )
        self._block = self.across(columns - 1) + self.step - _GAP
        self._band = self._label + len(blocks) * (self._block + _BETWEEN)
        head = _points(style.NORMAL) + _points(style.SMALL) * (len(header) - 1)
        self._top = _EDGE + head + 24 + (_points(style.NORMAL) + 16 if any(blocks) else 0)
        self._bands = -(-len(rows) // _TALL)
        self._rows = -(-len(rows) // self._bands)  # in each band, as evenly as can be
        self._tops = [
            top
            for start in range(0, len(rows), self._rows)
            for top in accumulate(
                map(self._tall, rows[start : start + self._rows]), initial=self._top
            )
        ]
        inner = self._bands * self._band - _BETWEEN
        words = max(_wide(header[0], style.NORMAL), *(_wide(t, style.SMALL) for t in header))
        self.width = 2 * _EDGE + max(inner, words)
        self.height = max(self._tops) + _EDGE - _GAP

    def _tall(self, row: Row) -> int:
        lines = max(-(-len(strip.images) // self.columns) for strip in row.strips)
        text = _points(style.NORMAL) + len(row.notes) * _points(style.SMALL) + _GAP
        return max(lines * self.line, text) + _GAP

    def across(self, column: int) -> int:
        """Return how far from its block's left edge an image stands."""
        return column * self.step + column // self._group * _APART

    @property
    def titles(self) -> int:
        """Where the blocks' titles end."""
        return self._top - 10

    @property
    def bands(self) -> list[int]:
        """Left edges of the bands."""
        return [_EDGE + band * self._band for band in range(self._bands)]

    def place(self, number: int) -> tuple[int, int]:
        """Return the left and upper edge of a row, its label included."""
        band, row = divmod(number, self._rows)
        return self.bands[band], self._tops[band * (self._rows + 1) + row]

    def block(self, left: int, block: int) -> int:
        """Return the left edge of a block's images in a row that begins at ``left``."""
        return left + self._label + block * (self._block + _BETWEEN)


def _head(plan: _Plan, header: Sequence[str], blocks: Sequence[str]) -> list[_Text]:
    found: list[_Text] = [(_EDGE, _EDGE - 6, header[0], {"fontsize": style.NORMAL})]
    for number, text in enumerate(header[1:]):
        y = _EDGE + _points(style.NORMAL) + number * _points(style.SMALL)
        found.append((_EDGE, y, text, {"color": style.FAINT}))
    return found + [
        (plan.block(left, block), plan.titles, text, {"va": "bottom"})
        for left in plan.bands
        for block, text in enumerate(blocks)
    ]


def _label(row: Row, left: int, top: int) -> list[_Text]:
    bold: dict[str, Any] = {"fontsize": style.NORMAL, "color": row.colour, "fontweight": "bold"}
    found: list[_Text] = [(left, top, row.name, bold)]
    for number, note in enumerate(row.notes):
        y = top + _points(style.NORMAL) + number * _points(style.SMALL)
        found.append((left, y, note, {"color": style.FAINT}))
    return found


def _put(
    raster: NDArray[np.uint8], plan: _Plan, strip: Strip, left: int, top: int, colour: str
) -> list[_Text]:
    """Paint a strip, and return the texts below its images."""
    texts: list[_Text] = []
    side, ink = plan.step - _GAP, np.rint(np.multiply(to_rgb(colour), 255)).astype(np.uint8)
    for number, image in enumerate(strip.images):
        line, column = divmod(number, plan.columns)
        x, y = left + plan.across(column), top + line * plan.line
        framed = bool(strip.framed) and strip.framed[number]
        rim = _FRAME if framed else 1
        raster[y - rim : y + side + rim, x - rim : x + side + rim] = ink if framed else _RIM
        large = image.repeat(plan.scale, axis=1).repeat(plan.scale, axis=2)
        raster[y : y + side, x : x + side] = large.transpose(1, 2, 0)
        if strip.marks:
            how: dict[str, Any] = {"ha": "center", "fontsize": _MARK, "color": style.FAINT}
            texts.append((x + side / 2, y + side + _FRAME + 2, strip.marks[number], how))
    return texts


def _points(size: float) -> int:
    """Return the height of a line of text, in pixels."""
    return round(size * 1.3 * DPI / 72)


def _wide(text: str, size: float) -> int:
    """Return the width of a text, in pixels; a little more, for bold names."""
    return round(1.12 * style.width(text, size) * DPI)
