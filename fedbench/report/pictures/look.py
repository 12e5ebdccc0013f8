"""How classes look in pictures, and PNG files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedbench.report.figures import style
from fedbench.report.figures.render import Sketch

DPI = 300
#: Ten classes are what most data sets have: two colours more than the figures.
_COLOURS = (*style.COLOURS, "#8A8A00", "#6B3E26")


@dataclass(frozen=True)
class ClassLook:
    """How a class is drawn.

    Attributes:
        name: The class's.
        colour: Of lines, frames and markers.
        marker: A marker of matplotlib.
        own: Whether no other class looks like this one.
    """

    name: str
    colour: str
    marker: str
    own: bool


def class_looks(names: Sequence[str], counts: NDArray[np.int64]) -> list[ClassLook]:
    """Give each class its look: up to ten have their own, rarer ones share grey.

    Args:
        names: Of the C classes.
        counts: (C,) of how much there is to draw of each.
    """
    room = len(_COLOURS)
    ranked = np.argsort(-np.asarray(counts), kind="stable")
    chosen = sorted(ranked[:room].tolist())  # ten classes or fewer keep the order of their labels
    places = {label: place for place, label in enumerate(chosen)}
    return [
        ClassLook(style.known(name), _COLOURS[places[label]], style.MARKERS[places[label]], True)
        if label in places
        else ClassLook(style.known(name), style.GREY, ".", False)
        for label, name in enumerate(names)
    ]


def to_png(sketch: Sketch) -> bytes:
    """Return a picture as PNG without a date, its title and caption inside."""
    buffer = io.BytesIO()
    with style.context():
        words = {"Software": None, "Title": sketch.title, "Description": sketch.caption}
        sketch.drawing.savefig(buffer, format="png", dpi=DPI, metadata=words)
    return buffer.getvalue()
