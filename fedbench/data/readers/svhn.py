"""SVHN's MATLAB files (format 2, cropped digits); label 10 is the digit 0.

Source: http://ufldl.stanford.edu/housenumbers/
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedbench.data.apart import at
from fedbench.data.readers import Decoded, Progress, check_split, split_of

if TYPE_CHECKING:
    from fedbench.data.dataset import Split
    from fedbench.data.sources import Sources


def read(sources: Sources, size: int | None, progress: Progress) -> Decoded:
    """Read the two files.

    Args:
        sources: The files.
        size: Ignored: images come at their own size.
        progress: Is told which part is read.

    Raises:
        DataError: A file is truncated or not of SVHN's form.
    """

    def split(name: str) -> Split:
        progress(f"{sources.name}: reading the {name} file")
        return _read_mat(sources, sources.part(name)[0])

    return Decoded(split("train"), split("test"), sources.spec.classes)


def _read_mat(sources: Sources, path: Path) -> Split:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    at(path)
    try:
        content = loadmat(path, variable_names=("X", "y"))
        images, labels = content["X"], content["y"].ravel()
    except KeyError as error:
        raise sources.fault(path, f"has no variable {error}") from error
    except (OSError, ValueError, TypeError, NotImplementedError, zlib.error, MatReadError) as error:
        raise sources.fault(path, f"is not a readable MATLAB file: {error}") from error
    if images.ndim != 4 or not np.issubdtype(labels.dtype, np.integer):
        raise sources.fault(path, f"holds X of shape {images.shape} and y of {labels.dtype}")
    if len(labels) and labels.min() < 1:
        raise sources.fault(path, f"has the label {labels.min()}; SVHN's labels are 1 to 10")
    # The file stores (H, W, C, N).
    images, digits = images.transpose(3, 2, 0, 1), np.where(labels == 10, 0, labels.astype(int))
    check_split(sources, path, images, digits)
    return split_of(images, digits)
