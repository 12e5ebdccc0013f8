r"""Your own picture: dead leaves, discs of all sizes that hide one another, as natural images do.

fedbench run --plugin examples/own_picture.py --dataset digits --method single_image \
    --set method.image=leaves --set budget.pixels=100000

A picture may also be a file beside this one: ``Picture(name, title, file=Path(__file__).parent /
"mine.jpg")``. Any image file below the data root serves without a plugin: method.image=mine.jpg.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedbench.data.pictures import Picture


def draw(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Draw a thousand discs, the same for the same size."""
    rng = np.random.default_rng(0)
    picture = np.zeros((height, width, channels), np.uint8)
    rows, columns = np.indices((height, width))
    for radius in 2 + 0.2 * height * rng.random(1000) ** 3:
        centre = rng.random(2) * (height, width)
        inside = np.hypot(rows - centre[0], columns - centre[1]) < radius
        picture[inside] = rng.integers(0, 256, channels)
    return picture


LEAVES = Picture(
    name="leaves",
    title="dead leaves: a thousand discs that hide one another",
    draw=draw,
    source="A. B. Lee et al.: Occlusion Models for Natural Images, 2001",
)
