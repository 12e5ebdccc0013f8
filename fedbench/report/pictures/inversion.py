"""What inversion left: images over time, accuracies on fresh batches, and what is confused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from fedbench.report.figures import style
from fedbench.report.figures.layout import Grid, Margins
from fedbench.report.figures.render import Sketch
from fedbench.report.pictures.sheet import Row, Strip, sheet

#: Of classes that clients hold, and of those that the server owns: S3's figure 6.
THEIRS, OWNED = style.INK, style.COLOURS[1]
_NAME = 0.55  # inches of a class's name at an axis
_FAINT = 0.02  # share below which a cell of the matrix has no number
_BARE = Margins(left=0.9, bottom=0.9)


@dataclass(frozen=True)
class Made:
    """Images that were made, in the order of their batches.

    Attributes:
        images: (n, C, S, S) uint8.
        labels: (n,) classes they were made for.
        batches: (n,) numbers of their batches, from 0.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    batches: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> Made:
        """Return some of them, (n,) chosen."""
        return Made(self.images[chosen], self.labels[chosen], self.batches[chosen])


def over_time(
    name: str,
    header: Sequence[str],
    blocks: Sequence[tuple[str, Made]],
    classes: Sequence[str],
    *,
    count: int = 10,
) -> Sketch:
    """Draw images by class from the first batches to the last ones, several sets side by side.

    Args:
        name: The file's stem.
        header: The title, and lines below it.
        blocks: Each set with its title.
        classes: The classes' names; those without an image in any set have no row.
        count: Images of a class in a block, at most.
    """
    rows = []
    for label, title in enumerate(classes):
        strips = [_strip(made, label, count) for _, made in blocks]
        if any(len(strip.images) for strip in strips):
            totals = [f"{int((made.labels == label).sum()):,}" for _, made in blocks]
            rows.append(Row(title, (f"of {' and '.join(totals)} kept",), strips))
    caption = "Inverted images by class, from first to last; below each the number of its batch."
    titles = [title for title, _ in blocks]
    columns = max(len(strip.images) for row in rows for strip in row.strips)
    return sheet(name, [*header, caption], caption, titles, rows, columns)


def _strip(made: Made, label: int, count: int) -> Strip:
    own = np.flatnonzero(made.labels == label)
    own = own[np.argsort(made.batches[own], kind="stable")]
    some = own[np.linspace(0, len(own) - 1, min(count, len(own))).round().astype(int)]
    return Strip(made.images[some], [str(number) for number in made.batches[some]])


def fresh_batches(
    name: str, header: str, numbers: NDArray[np.int64], scores: NDArray[np.floating], first: int
) -> Sketch:
    """Draw the accuracies of teachers and student on each batch when it was made.

    Args:
        name: The file's stem.
        header: Facts, joined by `` · ``.
        numbers: (n,) of the batches.
        scores: (n, 2) accuracies in [0, 1] of teachers and student.
        first: Number of the first batch that was made while the student learnt.
    """
    looks = (
        ("teachers", style.COLOURS[0], style.DASHES[0]),
        ("student, before it learnt from the batch", style.COLOURS[1], style.DASHES[1]),
    )
    legend = [
        Line2D([], [], color=colour, linestyle=dash, label=label) for label, colour, dash in looks
    ]
    with style.context():
        grid = Grid.single(header, legend)
        axes = grid.axes[0]
        for column, (_, colour, dash) in enumerate(looks):
            axes.plot(numbers, 100 * scores[:, column], color=colour, linestyle=dash)
        if numbers[0] < first <= numbers[-1]:
            axes.axvline(first - 0.5, color=style.GREY, linewidth=0.6)
        axes.set_ylim(-2, 102)
        grid.name_axes("batch", "accuracy on the fresh batch (%)")
    caption = (
        "Share of a batch's images that teachers and student give the label they were made for. "
        "Right of the grey line the student learns."
    )
    return Sketch(name, header, caption, grid.drawing)


def confusion(
    name: str,
    header: str,
    matrix: NDArray[np.int64],
    classes: Sequence[str],
    owned: NDArray[np.bool_],
) -> Sketch:
    """Draw which classes a model takes for which, rows in per cent.

    Args:
        name: The file's stem.
        header: Facts, joined by `` · ``.
        matrix: (C, C) counts, true classes down and predicted ones across.
        classes: The classes' names.
        owned: (C,) whether the server owns images of the class, and no client does.
    """
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    legend = [
        Line2D([], [], linestyle="none", marker="s", color=colour, label=label)
        for label, colour, some in (
            ("classes of clients", THEIRS, ~owned),
            ("classes of the server's own images", OWNED, owned),
        )
        if some.any()
    ]
    names = [style.fit(style.known(title), _NAME) for title in classes]
    with style.context():
        grid = Grid.single(header, legend, Grid.inner(1, _BARE), _BARE)
        axes = grid.axes[0]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        axes.grid(visible=False)
        places = range(len(names))
        axes.set_xticks(places, names, rotation=90)
        axes.set_yticks(places, names)
        for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
            for tick, own in zip(ticks, owned, strict=True):
                tick.set_color(OWNED if own else THEIRS)
        if len(names) <= 20:
            for row, column in np.argwhere(shares >= _FAINT):
                value = shares[row, column]
                ink = "white" if value > 0.5 else style.INK
                size = 5.0
                text = f"{100 * value:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=size)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
    caption = "Share of the test images of a class (rows) that are taken for each class, in %."
    return Sketch(name, header, caption, grid.drawing)
