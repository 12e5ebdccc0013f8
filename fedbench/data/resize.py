"""Resizing of whole arrays of uint8 images, by Pillow.

Pillow and not torch: its fixed-point arithmetic gives the same bytes on every machine, so a
resized data set has one fingerprint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray


def resize(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return images at another size: bilinear, antialiased where they shrink.

    Args:
        images: (N, C, H, W) uint8 with 1 or 3 channels.
        size: New height and width in pixels.

    Returns:
        (N, C, size, size) uint8.
    """
    count, channels = images.shape[:2]
    result = np.empty((count, channels, size, size), dtype=np.uint8)
    for index, image in enumerate(images):
        picture = Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0))
        pixels = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
        result[index] = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    return result
