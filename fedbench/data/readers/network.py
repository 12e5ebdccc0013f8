"""Network flows as one-channel images: NSL-KDD, and 5G-NIDD where a user has its csv.

A flow has numbers, words and the name of an attack. Numbers are scaled to [0, 1] by the training
part's minimum and maximum (after log(1+x) where the tail is heavy); words become one-hot, with the
training part's words; all of it, times 255, fills a square row by row, the rest is 0. A word that
only the test part has becomes all zeros.

NSL-KDD (41 features, three of them words) has a test part of its own and a pixel a feature. 5G-NIDD
has neither: a fifth of the flows is drawn for testing, and a feature is a tile of pixels.
Sources: https://www.unb.ca/cic/datasets/nsl.html and Samarakoon et al., "5G-NIDD", 2022,
https://arxiv.org/abs/2212.01298
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedbench.data.csvs import labelled_header, rows, table
from fedbench.data.readers import Decoded, Progress, split_of
from fedbench.data.subset import stratified

if TYPE_CHECKING:
    import pyarrow
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

# 5G-NIDD's nine kinds of traffic as CollabDM merges them: four kept, five in one.
_NIDD = {
    "Benign": "benign",
    "HTTPFlood": "http_flood",
    "SlowrateDoS": "slowrate_dos",
    "UDPFlood": "udp_flood",
    **dict.fromkeys(("ICMPFlood", "SYNFlood", "SYNScan", "TCPConnectScan", "UDPScan"), "other"),
}
_NIDD_WORDS = ("Proto", "sDSb", "dDSb", "Cause", "State")
# Further labels, and where in the capture a flow was found: it was recorded attack by attack, so
# the row's number (without a name in the csv), `Seq` and `Offset` all but tell the label.
_NIDD_LEFT_OUT = ("", "Unnamed: 0", "Seq", "Offset", "Label", "Attack Tool")
_NIDD_GRID = 16  # tiles a side; the csv gives about 80 features
_NIDD_TESTED = 5  # CollabDM: one flow of five

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
    flows = {}
    for part in ("train", "test"):
        progress(f"{sources.name}: reading the {part} file")
        flows[part] = _rows(sources, sources.part(part)[0])
    words = [sorted({row[index] for row in flows["train"]}) for index in _WORDS]
    numbers = {part: _numbers(sources, sources.part(part)[0], flows[part]) for part in flows}
    low = numbers["train"].min(axis=0)
    span = numbers["train"].max(axis=0) - low

    def split(part: str) -> Split:
        # A feature that is constant in training carries nothing.
        scaled = np.where(span > 0, (numbers[part] - low) / np.where(span > 0, span, 1), 0)
        features = np.hstack([scaled.clip(0, 1), _one_hot(flows[part], words)])
        labels = _labels(sources, sources.part(part)[0], flows[part])
        return split_of(_square(sources, features), labels)

    return Decoded(split("train"), split("test"), sources.spec.classes)


def _rows(sources: Sources, path: Path) -> Rows:
    found = rows(sources, path)
    for number, row in enumerate(found, start=1):
        if len(row) != _FIELDS:
            raise sources.fault(
                path, f"has {len(row)} fields in row {number}; a flow has {_FIELDS}"
            )
    return found


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


def read_nidd(sources: Sources, size: int | None, progress: Progress) -> Decoded:
    """Read 5G-NIDD's csv with a header (``Combined.csv``) and draw the test part.

    Args:
        sources: The file: part ``flows``.
        size: Height and width of the images, a multiple of 16; None takes the spec's.
        progress: Is told what is done.

    Returns:
        Four of five flows for training and one for testing, stratified by class, always the same.

    Raises:
        DataError: No label column, an unknown label, a feature that is not a number, more features
            than tiles, or another size.
    """
    paths, pixels = sources.part("flows"), size or sources.spec.size
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise sources.fault(paths[0].parent, f"has several csv files ({names}); leave one")
    if pixels % _NIDD_GRID:
        raise sources.fault(
            paths[0],
            f"cannot be drawn in {pixels}x{pixels} pixels; take a multiple of {_NIDD_GRID}",
        )
    progress(f"{sources.name}: reading {paths[0].name}")
    table = _nidd_table(sources, paths[0])
    labels, notes = _nidd_labels(sources, paths[0], table)
    test = stratified(torch.from_numpy(labels), len(labels) // _NIDD_TESTED, 0, "nidd_5g", "test")
    tested = np.zeros(len(labels), dtype=bool)
    tested[test.numpy()] = True
    features = _nidd_features(sources, paths[0], table, ~tested)

    def split(chosen: NDArray[np.bool_]) -> Split:
        return split_of(_tiles(features[chosen], pixels), labels[chosen])

    return Decoded(split(~tested), split(tested), sources.spec.classes, notes)


def _nidd_table(sources: Sources, path: Path) -> pyarrow.Table:
    """Return the csv's features and its label, words as text and all else as float64."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    names = labelled_header(sources, path)
    label = sources.layout.labels if sources.layout else ""

    def convert() -> arrow.ConvertOptions:
        kept = [name for name in names if name not in _NIDD_LEFT_OUT]
        texts = (*_NIDD_WORDS, label)
        return arrow.ConvertOptions(
            include_columns=kept,
            column_types={n: pa.string() if n in texts else pa.float64() for n in kept},
            strings_can_be_null=True,
        )

    return table(sources, path, names, convert)


def _nidd_labels(
    sources: Sources, path: Path, table: pyarrow.Table
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the merged labels (N,), and a note of classes that no flow has."""
    assert sources.layout is not None
    names = np.array(table[sources.layout.labels].to_pylist(), dtype=object)
    unknown = sorted({str(name) for name in names} - set(_NIDD))
    if unknown or not len(names):
        found = ", ".join(map(repr, unknown)) or "none at all"
        raise sources.fault(
            path, f"has labels that are not of 5G-NIDD: {found}; known: {', '.join(_NIDD)}"
        )
    classes = sources.spec.classes
    labels = np.array([classes.index(_NIDD[name]) for name in names])
    absent = [name for number, name in enumerate(classes) if number not in labels]
    return labels, (f"no flow of {', '.join(absent)}",) if absent else ()


def _nidd_features(
    sources: Sources, path: Path, table: pyarrow.Table, train: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return features (N, F) as bytes, scaled by the flows that ``train`` marks."""
    assert sources.layout is not None
    columns = []
    for name in table.column_names:
        if name in _NIDD_WORDS:
            words = np.array(table[name].to_pylist(), dtype=object)
            known = sorted({str(word) for word in words[train] if word is not None})
            columns += [np.where(words == word, 255, 0).astype(np.uint8) for word in known]
        elif name != sources.layout.labels:
            values = table[name].to_numpy()
            if np.isinf(values).any():
                raise sources.fault(path, f"has an infinite value in column {name!r}")
            columns.append(scaled(values, train))
    if not 0 < len(columns) <= _NIDD_GRID**2:
        raise sources.fault(
            path, f"gives {len(columns)} features; there must be 1 to {_NIDD_GRID**2}"
        )
    return np.stack(columns, axis=1)


def scaled(values: NDArray[np.float64], train: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a column of numbers as bytes; what is missing, or constant in training, is 0."""
    known = values[train & ~np.isnan(values)]
    if not len(known) or known.min() == known.max():
        return np.zeros(len(values), dtype=np.uint8)
    shifted, span = values - known.min(), known.max() - known.min()
    # The rule behind `_HEAVY_TAILS`: a linear scale would be all zeros.
    if span > 30 * np.percentile(known - known.min(), 99) or span >= 1e8:
        shifted, span = np.log1p(shifted.clip(min=0)), np.log1p(span)
    unit: NDArray[np.float64] = np.nan_to_num(shifted / span).clip(0, 1)
    return np.rint(unit * 255).astype(np.uint8)


def _tiles(features: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Return features (N, F) as images (N, 1, pixels, pixels), each a square tile of the grid."""
    tile = pixels // _NIDD_GRID
    grid = np.zeros((len(features), _NIDD_GRID**2), dtype=np.uint8)
    grid[:, : features.shape[1]] = features
    images = np.empty((len(features), _NIDD_GRID, tile, _NIDD_GRID, tile), dtype=np.uint8)
    images[:] = grid.reshape(-1, _NIDD_GRID, 1, _NIDD_GRID, 1)
    return images.reshape(-1, 1, pixels, pixels)
