"""Crops of a shared picture: where they come from, and a map of what a network says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from fedbench.errors import SettingsError
from fedbench.report.figures import style
from fedbench.report.figures.layout import Grid, Margins
from fedbench.report.figures.render import Sketch
from fedbench.report.pictures.look import ClassLook
from fedbench.report.pictures.sheet import Row, Strip, sheet
from fedbench.seeding import numpy_generator

Map = Literal["tsne", "pca"]
#: Points up to which t-SNE takes seconds.
MANY = 2000
_FEW = 10  # points below which neighbours say nothing
_COLUMNS = 10  # crops in a line of each side of a sheet
_HOW = (
    "A random draw from each predicted class, surest first; below each its confidence in %. "
    "Framed at the left: selected."
)
_BARE = Margins(left=0.08, right=0.08, bottom=0.05)


def selection_sheet(
    name: str,
    header: Sequence[str],
    bank: NDArray[np.uint8],
    predicted: NDArray[np.int64],
    confidence: NDArray[np.floating],
    chosen: NDArray[np.int64],
    looks: Sequence[ClassLook],
    *,
    count: int = 100,
    seed: int = 0,
) -> Sketch:
    """Draw crops before and after a selection side by side, a row for each predicted class.

    Args:
        name: The file's stem.
        header: The title, and lines below it.
        bank: (N, C, S, S) uint8.
        predicted: (N,) classes.
        confidence: (N,) of these predictions, in [0, 1].
        chosen: (n,) positions of selected crops.
        looks: Of all classes.
        count: Crops on each side, about; of more classes than it has rows for, the rarest are
            left out.
        seed: Of the crops that are drawn from each class at random.
    """
    lines = max(1, count // _COLUMNS)
    counts = np.bincount(predicted, minlength=len(looks))
    found = int((counts > 0).sum())
    shown = np.sort(np.argsort(-counts, kind="stable")[: min(lines, found)])
    most = _COLUMNS * max(1, lines // len(shown))
    selected = np.zeros(len(bank), dtype=bool)
    selected[chosen] = True

    def strip(label: int, side: str, crops: NDArray[np.int64]) -> Strip:
        source = numpy_generator(seed, "show", side, label)
        some = source.permutation(crops)[:most]
        some = some[np.argsort(-confidence[some], kind="stable")]
        marks = [f"{100 * value:.0f}" for value in confidence[some]]
        return Strip(bank[some], marks, selected[some].tolist() if side == "bank" else ())

    rows = []
    for label in shown.tolist():
        own = np.flatnonzero(predicted == label)
        kept = own[selected[own]]
        notes = f"{len(own):,} crops", f"{len(kept):,} selected"
        strips = strip(label, "bank", own), strip(label, "selected", kept)
        rows.append(Row(looks[label].name, notes, strips, looks[label].colour))
    words = f"{found} of {len(looks)} classes are predicted"
    words += f", and the {len(shown)} most frequent shown." if len(shown) < found else "."
    caption = f"{_HOW} {words}"
    blocks = f"Bank: {len(bank):,} crops", f"Selected: {len(chosen):,} crops"
    return sheet(name, [*header, _HOW, words], caption, blocks, rows, _COLUMNS)


def on_picture(
    name: str,
    header: str,
    picture: NDArray[np.uint8],
    outlines: NDArray[np.float32],
    labels: NDArray[np.int64],
    looks: Sequence[ClassLook],
) -> Sketch:
    """Draw outlines of crops on their picture.

    Args:
        name: The file's stem.
        header: Facts, joined by `` · ``.
        picture: (C, H, W) uint8 with 1 or 3 channels.
        outlines: (n, 4, 2) corners, x and y in pixels of the picture (see ``crop_outlines``).
        labels: (n,) the predicted class of each.
        looks: Of all classes.
    """
    height, width = picture.shape[1:]
    found = _kinds(labels, looks)
    legend = [
        Line2D([], [], color=look.colour, linewidth=1.6, label=f"{look.name} ({len(rows)})")
        for look, rows in found
    ]
    tall = Grid.inner(1, _BARE, full=True) * height / width
    with style.context():
        grid = _grid(header, legend, tall)
        axes = grid.axes[0]
        pixels = np.broadcast_to(picture, (3, height, width)).transpose(1, 2, 0)
        axes.imshow(pixels, extent=(0, width, height, 0), aspect="auto")
        for colour, wide, order in (("white", 2.4, 2), ("", 1.3, 3)):  # a light rim below each
            for look, rows in found:
                lines = PolyCollection(
                    list(outlines[rows]),
                    facecolors="none",
                    edgecolors=colour or look.colour,
                    linewidths=wide,
                    joinstyle="round",
                    zorder=order,
                )
                axes.add_collection(lines, autolim=False)
        axes.set(xlim=(0, width), ylim=(height, 0))
    caption = "Outlines of crops on the picture that they were cut from, by predicted class."
    return Sketch(name, header, caption, grid.drawing)


def place(
    features: NDArray[np.floating], how: Map | None = None
) -> tuple[NDArray[np.float64], Map]:
    """Lay features out in the plane.

    Args:
        features: (n, d).
        how: ``tsne`` keeps neighbours together, ``pca`` keeps the directions of most variance;
            None takes t-SNE where it takes seconds and has neighbours to keep.

    Returns:
        (n, 2) places, the same for the same features, and how they were found.

    Raises:
        SettingsError: t-SNE of a handful of points, or features that are not finite.
    """
    count = len(features)
    if not np.isfinite(features).all():
        raise SettingsError(
            "features of the crops are not finite, or beyond 65,504, where half precision ends, so "
            "no map can be drawn of them; the training has probably diverged: lower its rate"
        )
    chosen: Map = how or ("tsne" if _FEW <= count <= MANY else "pca")
    values = features.astype(np.float64)
    if chosen == "pca":
        return _pca(values), chosen
    if count < _FEW:
        raise SettingsError(f"t-SNE of {count} points says nothing; use --map pca")
    from sklearn.manifold import TSNE

    found = TSNE(init="pca", perplexity=min(30.0, (count - 1) / 3), random_state=0)
    return np.asarray(found.fit_transform(values), dtype=np.float64), chosen


def feature_map(
    name: str,
    header: str,
    places: NDArray[np.float64],
    how: Map,
    labels: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    looks: Sequence[ClassLook],
) -> Sketch:
    """Draw a map of crops, those that were selected filled, the others hollow.

    Args:
        name: The file's stem.
        header: Facts, joined by `` · ``.
        places: (n, 2), from ``place``.
        how: Likewise.
        labels: (n,) predicted classes.
        chosen: (n,) whether each was selected.
        looks: Of all classes.
    """
    found = _kinds(labels, looks)
    legend = [
        _marker(look, f"{look.name} ({int(chosen[rows].sum())} of {len(rows)})")
        for look, rows in found
    ]
    legend.append(Line2D([], [], linestyle="none", label="filled: selected, hollow: not"))
    method = "t-SNE" if how == "tsne" else "first two principal components"
    with style.context():
        grid = _grid(f"{header} · {method} of their features", legend, 4.6)
        axes = grid.axes[0]
        for look, rows in found:
            _scatter(axes, places[rows[~chosen[rows]]], look, filled=False)
        for look, rows in found:
            _scatter(axes, places[rows[chosen[rows]]], look, filled=True)
        axes.margins(0.03)
    caption = (
        f"{method[0].upper()}{method[1:]} of features of crops, by predicted class; selected crops "
        "are filled. Axes have no unit."
    )
    return Sketch(name, header, caption, grid.drawing)


def _grid(header: str, legend: Sequence[Line2D], height: float) -> Grid:
    """Return one panel without axes as wide as a page."""
    grid = Grid.single(header, legend, height, _BARE, full=True)
    axes = grid.axes[0]
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    return grid


def _kinds(
    labels: NDArray[np.int64], looks: Sequence[ClassLook]
) -> list[tuple[ClassLook, NDArray[np.int64]]]:
    """Return which points have which look; classes that share one come last, together."""
    found = []
    for label, look in enumerate(looks):
        rows = np.flatnonzero(labels == label)
        if look.own and len(rows):
            found.append((look, rows))
    shared = [label for label, look in enumerate(looks) if not look.own]
    rows = np.flatnonzero(np.isin(labels, shared))
    if len(rows):
        rest = looks[shared[0]]
        name = f"{len(np.unique(labels[rows]))} other classes"
        found.append((ClassLook(name, rest.colour, rest.marker, False), rows))
    return found


def _marker(look: ClassLook, label: str) -> Line2D:
    size = 4.5 * style.WEIGHT.get(look.marker, 1)
    shape: dict[str, Any] = {"marker": look.marker, "markersize": size, "markeredgewidth": 0}
    return Line2D([], [], color=look.colour, linestyle="none", label=label, **shape)


def _scatter(axes: Axes, places: NDArray[np.float64], look: ClassLook, *, filled: bool) -> None:
    axes.plot(
        places[:, 0],
        places[:, 1],
        linestyle="none",
        marker=look.marker,
        markersize=(4.2 if filled else 3.4) * style.WEIGHT.get(look.marker, 1),
        markerfacecolor=look.colour if filled else "none",
        markeredgecolor="white" if filled else look.colour,
        markeredgewidth=0.3 if filled else 0.6,
        alpha=1.0 if filled else 0.5,
        zorder=3 if filled else 2,
    )


def _pca(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, 2): the first two principal components, each with its largest entry positive."""
    centred = values - values.mean(axis=0)
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    found = (left * spread)[:, :2]
    signs = np.sign(found[np.abs(found).argmax(axis=0), range(found.shape[1])])
    padded: NDArray[np.float64] = np.pad(found * signs, ((0, 0), (0, 2 - found.shape[1])))
    return padded
