"""CIFAR-10 and CIFAR-100 as torchvision keeps them: Python pickles of NumPy arrays.

Unpickling can run any code, and fedbench reads no pickle of its own. These files exist in no other
original form for Python, so they are read by an unpickler that can make dictionaries, lists,
strings, numbers and NumPy arrays of bytes, and refuses every other name.
Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedbench.data.apart import at
from fedbench.data.readers import Decoded, Progress, check_split, split_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedbench.data.dataset import Split
    from fedbench.data.sources import Sources

_BYTES = "u1"


def _dtype(code: str, *_: object) -> np.dtype[np.uint8]:
    """Stand in for ``numpy.dtype``: bytes alone, so that no array holds Python objects."""
    if code != _BYTES:
        raise pickle.UnpicklingError(f"it holds an array of {code!r}, not of bytes")
    # A copy, since the pickle then sets its state: NumPy's own must not change.
    return np.dtype(np.uint8, copy=True)


# `numpy.core` (the files) became `numpy._core` (files pickled again with NumPy 2).
_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows NumPy arrays and built-in containers, and nothing that acts."""

    def find_class(self, module: str, name: str) -> object:
        """Return an allowed thing.

        Raises:
            UnpicklingError: Any other name.
        """
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")
        return _ALLOWED[module, name]


def read(sources: Sources, size: int | None, progress: Progress) -> Decoded:
    """Read the batches.

    Args:
        sources: The files: parts ``data_batch_1`` to ``5`` and ``test_batch``, or ``train`` and
            ``test``.
        size: Ignored: images come at their own size.
        progress: Is told which file is read.

    Raises:
        DataError: A file is truncated, of another kind, or holds more than arrays.
    """
    train: list[tuple[NDArray[np.uint8], NDArray[np.int64]]] = []
    test: list[tuple[NDArray[np.uint8], NDArray[np.int64]]] = []
    for file in sources.files:
        progress(f"{sources.name}: reading {file.path.name}")
        (test if file.part.startswith("test") else train).append(_batch(sources, file.path))
    return Decoded(_join(train), _join(test), sources.spec.classes)


def _join(batches: list[tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> Split:
    return split_of(
        np.concatenate([images for images, _ in batches]),
        np.concatenate([labels for _, labels in batches]),
    )


def _batch(sources: Sources, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return one file's images (N, C, H, W) and labels (N,)."""
    content = _unpickle(sources, path)
    key = "fine_labels" if "fine_labels" in content else "labels"
    pixels, labels = content.get("data"), content.get(key)
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list):
        raise sources.fault(path, "has no array `data` with a list `labels` or `fine_labels`")
    if not all(isinstance(label, int) for label in labels):
        raise sources.fault(path, f"has labels in `{key}` that are not whole numbers")
    spec = sources.spec
    if pixels.ndim != 2 or pixels.shape[1] != 3 * spec.size**2:
        raise sources.fault(
            path, f"has `data` of shape {pixels.shape}, not (N, {3 * spec.size**2})"
        )
    images = pixels.reshape(-1, 3, spec.size, spec.size)
    values = np.asarray(labels, dtype=np.int64)
    check_split(sources, path, images, values)
    return images, values


def _unpickle(sources: Sources, path: Path) -> dict[str, object]:
    at(path)
    try:
        with path.open("rb") as stream:
            # The files come from Python 2, whose strings held the arrays' bytes.
            content = _ArraysOnly(stream, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise sources.fault(path, f"is not a CIFAR batch: {error}") from error
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
        ImportError,
        MemoryError,
    ) as error:
        raise sources.fault(path, f"is damaged or not a CIFAR batch: {error!r}") from error
    if not isinstance(content, dict):
        raise sources.fault(path, f"holds a {type(content).__name__}, not a dictionary")
    return {str(key): value for key, value in content.items()}
