"""What a generator made over the epochs, and how an ensemble's weights moved meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from fedbench.report.figures import style
from fedbench.report.figures.layout import Grid
from fedbench.report.figures.render import Sketch
from fedbench.report.pictures.look import class_looks
from fedbench.report.pictures.sheet import Row, Strip, sheet


def generated_sheet(
    name: str,
    header: Sequence[str],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    epochs: NDArray[np.int64],
    classes: Sequence[str],
) -> Sketch:
    """Draw made images, a row for each class, a block for each epoch.

    Args:
        name: The file's stem.
        header: The title, and lines below it.
        images: (N, C, S, S) uint8.
        labels: (N,) the classes that they were made for.
        epochs: (N,) the epochs that made them, from 1.
        classes: The classes' names.
    """
    shown = np.unique(epochs).tolist()
    rows = [
        Row(
            title,
            (),
            tuple(Strip(images[(labels == label) & (epochs == epoch)]) for epoch in shown),
        )
        for label, title in enumerate(classes)
    ]
    blocks = [f"epoch {epoch}" for epoch in shown]
    columns = max(len(strip.images) for row in rows for strip in row.strips)
    caption = f"Made images of each of {len(classes)} classes, from {len(shown)} epochs."
    return sheet(name, header, caption, blocks, rows, max(1, columns))


def share_lines(name: str, header: str, shares: NDArray[np.floating]) -> Sketch:
    """Draw each client's share of an ensemble after each epoch.

    Args:
        name: The file's stem.
        header: Facts, joined by `` · ``.
        shares: (epochs, K), at least 0; scaled here to sum to 1 in each epoch.
    """
    scaled = 100 * shares / shares.sum(axis=1, keepdims=True)
    epochs, clients = scaled.shape
    # Those whose share ends largest have looks of their own, where there are many.
    names = [f"client {client}" for client in range(clients)]
    looks = class_looks(names, (1e6 * scaled[-1]).astype(np.int64))
    lines = [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=3.4, label=look.name)
        for look in looks
        if look.own
    ]
    if len(lines) < clients:
        lines.append(Line2D([], [], color=style.GREY, label=f"{clients - len(lines)} others"))
    with style.context():
        grid = Grid.single(header, lines)
        axes = grid.axes[0]
        for client, look in enumerate(looks):
            axes.plot(
                range(1, epochs + 1),
                scaled[:, client],
                color=look.colour,
                marker=look.marker if look.own else "",
                markersize=3.4,
                markevery=max(1, epochs // 6),
                zorder=3 if look.own else 2,
            )
        axes.set_ylim(bottom=0)
        grid.name_axes("epoch", "share of the ensemble (%)")
    caption = f"How much each of {clients} clients counts in the ensemble after each epoch."
    return Sketch(name, header, caption, grid.drawing)
