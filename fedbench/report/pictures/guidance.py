"""What guidance does: images by client and class, the same noise in several ways, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from fedbench.report.figures import style
from fedbench.report.figures.layout import Grid
from fedbench.report.figures.render import Sketch
from fedbench.report.pictures.sheet import Row, Strip, sheet


@dataclass(frozen=True)
class Images:
    """Images with their classes.

    Attributes:
        images: (n, C, S, S) uint8.
        labels: (n,) class ids.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def side_by_side(
    name: str,
    header: Sequence[str],
    blocks: Mapping[str, Images],
    classes: Sequence[str],
    *,
    count: int = 10,
) -> Sketch:
    """Draw sets by class, one beside the other.

    Args:
        name: The file's stem.
        header: The title, and lines below it.
        blocks: Each set by its title.
        classes: The classes' names; those without an image in any set have no row.
        count: Images of a class in a block, at most.
    """
    rows = []
    for label, title in enumerate(classes):
        strips = [
            Strip(each.images[np.flatnonzero(each.labels == label)[:count]])
            for each in blocks.values()
        ]
        if any(len(strip.images) for strip in strips):
            rows.append(Row(title, (), strips))
    columns = max(len(strip.images) for row in rows for strip in row.strips)
    caption = f"Images by class: {', '.join(blocks)}."
    return sheet(name, header, caption, list(blocks), rows, columns)


def over_steps(
    name: str,
    header: str,
    timesteps: Sequence[int],
    courses: Mapping[str, NDArray[np.floating]],
    what: str,
) -> Sketch:
    """Draw what a classifier says of the predicted images at each denoising step.

    Args:
        name: The file's stem.
        header: Facts, joined by `` · ``.
        timesteps: From the noisiest on.
        courses: By how the samples were guided, (n,) values; NaN draws nothing.
        what: Names the values at the axis.
    """
    looks = [
        (title, style.COLOURS[k % len(style.COLOURS)], style.DASHES[k % len(style.DASHES)])
        for k, title in enumerate(courses)
    ]
    legend = [
        Line2D([], [], color=colour, linestyle=dash, label=title) for title, colour, dash in looks
    ]
    with style.context():
        grid = Grid.single(header, legend)
        axes = grid.axes[0]
        for title, colour, dash in looks:
            axes.plot(timesteps, courses[title], color=colour, linestyle=dash)
        axes.set_xlim(max(timesteps), min(timesteps))
        grid.name_axes("timestep", what)
    caption = f"{what} over the denoising steps: {', '.join(courses)}."
    return Sketch(name, header, caption, grid.drawing)
