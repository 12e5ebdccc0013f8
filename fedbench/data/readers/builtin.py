"""scikit-learn's digits: 1,797 grey images of 8x8 pixels that come with the package.

They have no test set of their own: a fixed one is drawn here, part of the reader's version.
Source: https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fedbench.data.readers import Decoded, Progress, split_of
from fedbench.data.resize import resize
from fedbench.data.subset import stratified

if TYPE_CHECKING:
    from fedbench.data.sources import Sources

_BRIGHTEST = 16  # load_digits: pixels are counts from 0 to 16


def read(sources: Sources, size: int | None, progress: Progress) -> Decoded:
    """Read the digits.

    Args:
        sources: Gives the spec; there are no files.
        size: Ignored: images have the spec's size.
        progress: Not told: it takes milliseconds.

    Returns:
        1,437 training and 360 test images, stratified by class, pixels x255/16 and enlarged with
        bilinear interpolation.
    """
    from sklearn.datasets import load_digits

    spec = sources.spec
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / _BRIGHTEST)).astype(np.uint8)[:, None]
    everything = split_of(resize(pixels, spec.size), digits.target)
    assert spec.test_size is not None
    test = stratified(everything.labels, spec.test_size, 0, "digits", "test")
    keep = torch.ones(len(everything), dtype=torch.bool)
    keep[test] = False
    return Decoded(everything.take(keep.nonzero()[:, 0]), everything.take(test), spec.classes)
