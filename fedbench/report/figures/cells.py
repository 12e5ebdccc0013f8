"""Heat maps as they stand in panels: cells, numbers in them where they fit, names of classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize

from fedbench.report.figures import style

VECTOR = 100  # cells up to which they are vectors; more become one image
TINY = 6.0  # points: numbers in cells
_SLANT = 40  # degrees
_NAME = 0.95  # inches: longest name of a class
_APART = 0.125  # inches between slanted names


def heat(
    axes: Axes,
    values: np.ndarray,
    colours: Colormap,
    norm: Normalize,
    size: tuple[float, float],
    write: Callable[[float], str] | None,
) -> ScalarMappable:
    """Draw values as coloured cells, the first row on top; NaN shows what is behind.

    Args:
        axes: The panel.
        values: (R, C) numbers.
        colours: From small to large.
        norm: Which value gets which colour.
        size: Width and height of the panel in inches.
        write: Returns the number in a cell as text; None for cells without numbers.
    """
    rows, columns = values.shape
    edges = min(size[0] / columns, size[1] / rows) > 0.05
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values),
        cmap=colours,
        norm=norm,
        edgecolors="white" if edges else "none",
        linewidth=0.4,
        rasterized=values.size > VECTOR,
    )
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set(visible=True, color="#bbbbbb")
    if write is not None:
        _annotate(axes, values, mesh, write)
    return mesh


def fits(
    panels: Sequence[np.ndarray], size: tuple[float, float], write: Callable[[float], str]
) -> bool:
    """Say whether all numbers of several panels of one size fit into their cells."""
    rows = max(values.shape[0] for values in panels)
    columns = max(values.shape[1] for values in panels)
    texts = {write(value) for values in panels for value in values[np.isfinite(values)]}
    longest = max(map(len, texts), default=1)
    return bool(
        size[1] / rows >= 0.11 and style.width("0" * longest, TINY) + 0.025 <= size[0] / columns
    )


def _annotate(
    axes: Axes,
    values: np.ndarray,
    mesh: ScalarMappable,
    write: Callable[[float], str],
) -> None:
    for (row, column), value in np.ndenumerate(values):
        if not math.isfinite(value):
            continue
        red, green, blue, _ = mesh.to_rgba(value)
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        axes.text(
            column + 0.5,
            row + 0.52,
            write(value),
            ha="center",
            va="center",
            fontsize=TINY,
            color="white" if dark else style.INK,
        )


def whole(value: float) -> str:
    """Write a number without decimals."""
    return f"{value:.0f}"


def level(classes: Sequence[str], wide: float) -> bool:
    """Say whether names of classes fit side by side under a panel of that width in inches."""
    shown = _shown(classes, wide)
    longest = max(style.width(name) for name in shown.values())
    return longest + 0.05 <= wide / len(shown)


def name_height(classes: Sequence[str], wide: float) -> float:
    """Return how much room the names of classes take below a panel, in inches."""
    if level(classes, wide):
        return 0.16
    longest = max(min(style.width(name), _NAME) for name in _shown(classes, wide).values())
    return math.sin(math.radians(_SLANT)) * longest + 0.12


def name_classes(axes: Axes, classes: Sequence[str], wide: float) -> None:
    """Write the names of classes under a panel, slanted where they are long, some where many."""
    shown = _shown(classes, wide)
    straight = level(classes, wide)
    axes.set_xticks(
        [place + 0.5 for place in shown],
        [style.fit(name, _NAME) for name in shown.values()],
        rotation=0 if straight else _SLANT,
        ha="center" if straight else "right",
        rotation_mode="anchor",
    )


def _shown(classes: Sequence[str], wide: float) -> dict[int, str]:
    """Return the names that have room, by place, as our font can write them."""
    step = max(1, math.ceil(_APART * len(classes) / wide))
    step = next((nice for nice in (1, 2, 5, 10, 20, 50, 100) if nice >= step), step)
    return {place: style.known(classes[place]) for place in range(0, len(classes), step)}
