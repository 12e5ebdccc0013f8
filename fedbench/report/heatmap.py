"""The heat map of a partition: how many images of which class each client holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedbench.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ANNOTATED = 250  # cells up to which counts are written into them
VECTOR = 5000  # cells up to which they are drawn as vectors, which browsers show at once
TICKS = 25  # names that fit along an axis


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
    import matplotlib

    counts = np.asarray(histogram, dtype=np.int64)
    if counts.ndim != 2 or not counts.size or counts.shape[1] != len(classes):
        raise ValueError(f"a histogram of shape {counts.shape} does not fit {len(classes)} classes")
    # A salt of our own and no date: otherwise ids and metadata differ from run to run.
    with matplotlib.rc_context({"svg.hashsalt": "fedbench", "font.size": 9}):
        figure = _draw(counts, classes, title)
        write_atomic(
            path,
            lambda part: figure.savefig(
                part, format="svg", dpi=150, bbox_inches="tight", metadata={"Date": None}
            ),
        )


def _draw(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    import matplotlib
    from matplotlib.colors import ListedColormap, PowerNorm
    from matplotlib.figure import Figure

    clients, columns = counts.shape
    size = (np.clip(0.62 * columns + 2.2, 5, 13), np.clip(0.32 * clients + 1.4, 2.6, 9))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    mesh = axes.pcolormesh(
        np.ma.masked_equal(counts, 0),
        # One hue is safe for every kind of colour vision. Its palest tones would look like white.
        cmap=ListedColormap(matplotlib.colormaps["Blues"](np.linspace(0.12, 1, 256))),
        norm=PowerNorm(0.5, vmin=0, vmax=max(1, counts.max())),
        edgecolors="white" if counts.size <= ANNOTATED else "none",
        linewidth=0.5,
        rasterized=counts.size > VECTOR,
    )
    axes.invert_yaxis()
    axes.set_title(title, wrap=True)
    figure.colorbar(mesh, ax=axes, label="images (white: none)", pad=0.02)
    _label(axes, counts, classes)
    if counts.size <= ANNOTATED:
        _annotate(axes, counts)
    return figure


def _label(axes: Axes, counts: np.ndarray, classes: Sequence[str]) -> None:
    clients, columns = counts.shape
    across = np.arange(0, columns, -(-columns // TICKS))
    names = [classes[c] for c in across]
    slanted = max(map(len, names)) > (8 if columns <= 10 else 3)
    axes.set_xticks(
        across + 0.5,
        names,
        rotation=40 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor",
    )
    axes.set_xlabel("class")
    if clients <= TICKS:
        sizes = counts.sum(1)
        axes.set_yticks(
            np.arange(clients) + 0.5, [f"{k} ({size:,})" for k, size in enumerate(sizes)]
        )
        axes.set_ylabel("client (images)")
    else:
        step = next(s for s in (5, 10, 50, 100, 500, clients) if clients / s <= TICKS)
        down = np.arange(0, clients, step)
        axes.set_yticks(down + 0.5, [str(k) for k in down])
        axes.set_ylabel("client")
    axes.tick_params(length=0)
    axes.spines[:].set_color("0.7")


def _annotate(axes: Axes, counts: np.ndarray) -> None:
    dark = counts.max() * 0.6**2  # where the square-root scale passes 60 % of its colours
    for client, row in enumerate(counts):
        for c, count in enumerate(row):
            if count:
                color = "white" if count > dark else "black"
                axes.text(
                    c + 0.5,
                    client + 0.5,
                    str(count),
                    ha="center",
                    va="center",
                    color=color,
                    fontsize=7.5,
                )
