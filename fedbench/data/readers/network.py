"""NSL-KDD: network flows as small one-channel images, a stand-in for image-like tabular data.

A flow has 41 features and the name of an attack. Numbers are scaled to [0, 1] by the training
part's minimum and maximum (after log(1+x) where the tail is heavy); the three words (protocol,
service, flag) become one-hot, with the training part's words; all of it, times 255, fills a square
row by row, the rest is 0. A word that only the test part has becomes all zeros.
Source: https://www.unb.ca/cic/datasets/nsl.html
"""

from __future__ import annotations

import csv
import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedbench.data.readers import Decoded, Progress, split_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedbench.data.dataset import Split
    from fedbench.data.sources import Sources

# KDD Cup 1999's scoring: the grouping behind the test set's usual 7458/2421/2754/200. Some papers
# count httptunnel as r2l and worm as dos (7460/2421/2885/67).
_GROUPS = {
    "normal": "normal",
    "dos": "apache2 back land mailbomb neptune pod processtable smurf teardrop udpstorm",
    "probe": "ipsweep mscan nmap portsweep saint satan",
    "r2l": "ftp_write guess_passwd imap multihop named phf sendmail snmpgetattack snmpguess spy "
    "warezclient warezmaster worm xlock xsnoop",
    "u2r": "buffer_overflow httptunnel loadmodule perl ps rootkit sqlattack xterm",
}
_GROUP_OF = {attack: group for group, names in _GROUPS.items() for attack in names.split()}

_FEATURES = 41
_FIELDS = _FEATURES + 2  # attack name, difficulty
_WORDS = (1, 2, 3)  # protocol, service, flag
_NUMBERS = tuple(index for index in range(_FEATURES) if index not in _WORDS)
# duration, src_bytes, dst_bytes, hot, num_compromised, num_root, num_file_creations: the maximum
# is more than 30 times the 99th percentile, or reaches 10^8, so a linear scale would be all zeros.
_HEAVY_TAILS = (0, 4, 5, 9, 12, 15, 16)

Rows = list[list[str]]


def read(sources: Sources, size: int | None, progress: Progress) -> Decoded:
    """Read the two csv files.

    Args:
        sources: The files: parts ``train`` and ``test``.
        size: Ignored: images have the spec's size.
        progress: Is told which part is read.

    Raises:
        DataError: A row of another form, an unknown attack, or more features than pixels.
    """
    rows = {}
    for part in ("train", "test"):
        progress(f"{sources.name}: reading the {part} file")
        rows[part] = _rows(sources, sources.part(part)[0])
    words = [sorted({row[index] for row in rows["train"]}) for index in _WORDS]
    numbers = {part: _numbers(sources, sources.part(part)[0], rows[part]) for part in rows}
    low = numbers["train"].min(axis=0)
    span = numbers["train"].max(axis=0) - low

    def split(part: str) -> Split:
        # A feature that is constant in training carries nothing.
        scaled = np.where(span > 0, (numbers[part] - low) / np.where(span > 0, span, 1), 0)
        features = np.hstack([scaled.clip(0, 1), _one_hot(rows[part], words)])
        labels = _labels(sources, sources.part(part)[0], rows[part])
        return split_of(_square(sources, features), labels)

    return Decoded(split("train"), split("test"), sources.spec.classes)


def _rows(sources: Sources, path: Path) -> Rows:
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise sources.fault(path, f"cannot be read: {error}") from error
    if not rows:
        raise sources.fault(path, "is empty")
    for number, row in enumerate(rows, start=1):
        if len(row) != _FIELDS:
            raise sources.fault(
                path, f"has {len(row)} fields in row {number}; a flow has {_FIELDS}"
            )
    return rows


def _numbers(sources: Sources, path: Path, rows: Rows) -> NDArray[np.float64]:
    """Return the numeric features (N, 38), log(1+x) taken where the tail is heavy."""
    try:
        values = np.array([[float(row[index]) for index in _NUMBERS] for row in rows])
    except ValueError as error:
        raise sources.fault(path, f"has a feature that is not a number: {error}") from error
    if not np.isfinite(values).all() or values.min() < 0:
        raise sources.fault(path, "has a feature that is negative or not finite")
    heavy = [_NUMBERS.index(index) for index in _HEAVY_TAILS]
    values[:, heavy] = np.log1p(values[:, heavy])
    return values


def _one_hot(rows: Rows, words: list[list[str]]) -> NDArray[np.float64]:
    blocks = []
    for index, known in zip(_WORDS, words, strict=True):
        column = np.array([row[index] for row in rows])
        blocks.append(column[:, None] == np.array(known)[None])
    return np.hstack(blocks).astype(np.float64)


def _labels(sources: Sources, path: Path, rows: Rows) -> NDArray[np.int64]:
    unknown = sorted({row[_FEATURES] for row in rows} - set(_GROUP_OF))
    if unknown:
        raise sources.fault(
            path,
            f"has the unknown attack {', '.join(map(repr, unknown))}; "
            f"known: {', '.join(sorted(_GROUP_OF))}",
        )
    classes = sources.spec.classes
    return np.array([classes.index(_GROUP_OF[row[_FEATURES]]) for row in rows])


def _square(sources: Sources, features: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return features (N, F) in [0, 1] as images (N, 1, side, side), filled up with zeros."""
    side = sources.spec.size
    if features.shape[1] > side**2:
        raise sources.fault(
            sources.part("train")[0],
            f"gives {features.shape[1]} features; at most {side**2} fit in {side}x{side} pixels",
        )
    images = np.zeros((len(features), side**2), dtype=np.uint8)
    images[:, : features.shape[1]] = np.rint(features * 255)
    return images.reshape(-1, 1, side, side)
