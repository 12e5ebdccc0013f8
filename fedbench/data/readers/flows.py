"""Your own csv of network flows, or any table of numbers and words, as one-channel images.

The file has a header. One column is the class, found by its name; every other one is a feature.
Numbers are scaled to [0, 1] by the training part (after log(1+x) where the tail is heavy), words
become one-hot with the training part's words, and all of it fills a square row by row, as NSL-KDD's
and 5G-NIDD's readers do it. Further labels, numbers of rows and words that hardly repeat, such as
addresses, are left out: they would tell the class, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedbench.data.csvs import LABELS, flows_header, label_of, plain, table
from fedbench.data.readers import Decoded, Progress, split_of
from fedbench.data.readers.network import scaled
from fedbench.data.subset import stratified
from fedbench.errors import DataError

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

    from fedbench.data.sources import Sources

#: Other columns that are no features: they tell the class, or where in the file a row was.
_NO_FEATURES = frozenset({*LABELS, "", "unnamed0", "id", "index", "difficulty", "attacktool"})
#: Words that a column may have; more are addresses, times or numbers of packets.
_MOST_WORDS = 100
#: One row of so many is for testing where there is one file.
_TESTED = 5


class CrowdedError(DataError):
    """A table has more features than its images have pixels, or none."""


def read(sources: Sources, size: int | None, progress: Progress) -> Decoded:
    """Read two files.

    Args:
        sources: The files: parts ``train`` and ``test``.
        size: Height and width of the images; None takes the spec's.
        progress: Is told what is done.

    Raises:
        DataError: No header or label, a class that only the test part has, a value that is no
            finite number, or more features than pixels.
    """
    train, test = (sources.part(part)[0] for part in ("train", "test"))
    tables = [_table(sources, path, progress) for path in (train, test)]
    if tables[0].column_names != tables[1].column_names:
        raise sources.fault(test, f"has other columns than {train.name}")
    tested = np.repeat([False, True], [len(table) for table in tables])
    return _decoded(sources, train, tables, tested, size or sources.spec.size)


def read_one(sources: Sources, size: int | None, progress: Progress) -> Decoded:
    """Read one file and draw the test part: a fifth, stratified by class, always the same.

    See ``read``; the part is ``flows``.
    """
    paths = sources.part("flows")
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise sources.fault(
            paths[0].parent,
            f"has several csv files ({names}); give `path` one of them, or call two train.csv and "
            "test.csv",
        )
    return _decoded(
        sources, paths[0], [_table(sources, paths[0], progress)], None, size or sources.spec.size
    )


def _table(sources: Sources, path: Path, progress: Progress) -> pyarrow.Table:
    """Return a file's columns, numbers as float64 and all else as text."""
    import pyarrow
    from pyarrow import csv as arrow

    progress(f"{sources.name}: reading {path.name}")
    names = flows_header(sources, path)
    found = table(sources, path, names, lambda: arrow.ConvertOptions(strings_can_be_null=True))
    if not len(found):
        raise sources.fault(path, "has a header and no row")
    label = label_of(names)
    words = label is not None and pyarrow.types.is_string(found[label].type)
    if label is not None and words and found[label].null_count:  # a class may be called NA
        wanted = {"include_columns": [label], "column_types": {label: pyarrow.string()}}
        texts = table(sources, path, names, lambda: arrow.ConvertOptions(**wanted))
        found = found.set_column(names.index(label), label, texts[label])
    return found


def _decoded(
    sources: Sources,
    path: Path,
    tables: list[pyarrow.Table],
    tested: NDArray[np.bool_] | None,
    size: int,
) -> Decoded:
    """Return both parts.

    Args:
        sources: Gives spec and errors.
        path: The file that errors name.
        tables: Of one file, or of two with equal columns.
        tested: Which rows are for testing, all tables in one; None draws them.
        size: Height and width of the images.
    """
    names = tables[0].column_names
    label = label_of(names)
    assert label is not None  # `flows_header`
    texts = np.array([_text(value) for value in _column(tables, label)], dtype=object)
    if (empty := int((texts == "").sum())) > 0:
        raise sources.fault(path, f"has {empty:,} rows without a {label!r}; fill or delete them")
    if tested is None:
        tested = _drawn(sources, texts)
    classes = tuple(sorted(set(texts[~tested])))
    if unknown := sorted(set(texts[tested]) - {*classes}):
        raise sources.fault(
            path,
            f"has no training row of {', '.join(map(repr, unknown))}, which the test rows have",
        )
    labels = np.array([classes.index(text) for text in texts])
    features, notes = _features(sources, path, tables, names, ~tested)
    if not 0 < features.shape[1] <= size**2:
        raise CrowdedError(
            f"{path}: gives {features.shape[1]} features; {size}x{size} pixels hold 1 to "
            f"{size**2}; set data.image_size"
        )
    squares = np.zeros((len(labels), size**2), dtype=np.uint8)
    squares[:, : features.shape[1]] = features
    images = squares.reshape(-1, 1, size, size)
    if len(tables) == 1:
        notes = (f"one file, so {tested.sum():,} of {len(labels):,} rows are for testing", *notes)
    notes = (f"the class is column {label!r}, {features.shape[1]} features", *notes)
    train, test = (split_of(images[part], labels[part]) for part in (~tested, tested))
    return Decoded(train, test, classes, notes)


def _column(tables: Sequence[pyarrow.Table], name: str) -> list[object]:
    return [value for table in tables for value in table[name].to_pylist()]


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _drawn(sources: Sources, texts: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Draw a fifth of the rows; the only row of a class is for training."""
    _, places, counts = np.unique(texts.astype(str), return_inverse=True, return_counts=True)
    several = np.flatnonzero(counts[places] > 1)
    labels = torch.from_numpy(places[several].astype(np.int64))
    draws = stratified(labels, len(several) // _TESTED, 0, sources.name, "test")
    tested = np.zeros(len(texts), dtype=bool)
    tested[several[draws.numpy()]] = True
    return tested


def _features(
    sources: Sources,
    path: Path,
    tables: Sequence[pyarrow.Table],
    names: Sequence[str],
    train: NDArray[np.bool_],
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return features (N, F) as bytes, scaled by the training rows, and what is left out."""
    import pyarrow as pa

    columns: list[NDArray[np.uint8]] = []
    left_out = []
    for name in names:
        if plain(name) in _NO_FEATURES:
            left_out += [] if name == label_of(names) else [name]
            continue
        kinds = [table[name].type for table in tables]
        if all(pa.types.is_integer(k) or pa.types.is_floating(k) or _empty(k) for k in kinds):
            values = np.concatenate([table[name].cast(pa.float64()).to_numpy() for table in tables])
            if np.isinf(values).any():
                raise sources.fault(path, f"has an infinite value in column {name!r}")
            columns.append(scaled(values, train))
            continue
        words = np.array([_text(value) for value in _column(tables, name)], dtype=object)
        known = sorted(set(words[train]) - {""})
        if len(known) > _MOST_WORDS:
            left_out.append(name)
            continue
        columns += [np.where(words == word, 255, 0).astype(np.uint8) for word in known]
    note = (f"columns left out: {', '.join(left_out)}",) if left_out else ()
    empty = np.empty((len(train), 0), dtype=np.uint8)
    return np.stack(columns, axis=1) if columns else empty, note


def _empty(kind: pyarrow.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_null(kind))
