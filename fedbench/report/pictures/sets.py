"""Shared sets of images, a row for each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedbench.report.figures.render import Sketch
from fedbench.report.pictures.sheet import Row, Strip, sheet


def set_sheet(
    name: str,
    header: Sequence[str],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    *,
    count: int = 10,
    group: int = 1,
) -> Sketch:
    """Draw a set by class; of classes with many images, some from its beginning to its end.

    Args:
        name: The file's stem.
        header: The title, and lines below it.
        images: (N, C, S, S) uint8.
        labels: (N,) class ids.
        classes: The classes' names.
        count: Images of a class, at most.
        group: How many neighbours belong together, such as the tiles of one canvas: all of them
            are drawn or none; at least one group is.
    """
    most = max(1, count // group)
    rows = []
    for label, title in enumerate(classes):
        own = np.flatnonzero(labels == label).reshape(-1, group)
        some = own[np.linspace(0, len(own) - 1, min(most, len(own))).round().astype(int)]
        words = f"{own.size:,} image{'' if own.size == 1 else 's'}"
        note = words if len(some) == len(own) else f"{some.size} of {words}"
        rows.append(Row(title, (note,), (Strip(images[some.ravel()]),)))
    caption = f"Images of each of {len(classes)} classes."
    columns = max(len(row.strips[0].images) for row in rows)
    apart = group if group > 1 else 0
    return sheet(name, header, caption, ("",), rows, max(1, columns), apart)
