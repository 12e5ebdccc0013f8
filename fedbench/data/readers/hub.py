"""The hub's parquet layout: rows with an encoded image and a label, in one or more shards a split.

Read in small batches of rows into one array, so memory stays near the size of the pixels.
Source: https://huggingface.co/docs/hub/datasets-image
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedbench.data.apart import at
from fedbench.data.modes import read_rgb
from fedbench.data.readers import Counter, Decoded, Progress, check_split, split_of
from fedbench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyarrow.parquet import ParquetFile

    from fedbench.data.dataset import Split
    from fedbench.data.sources import Sources

_IMAGES = ("img", "image")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")
_ROWS = 256  # rows in memory as Python objects at a time


def read(sources: Sources, size: int | None, progress: Progress) -> Decoded:
    """Read all shards of both splits.

    Args:
        sources: The files: parts ``train`` and ``test``.
        size: Ignored: images come at their own size.
        progress: Is told how many images are decoded.

    Raises:
        DataError: A shard is missing, truncated, or has other columns, images or labels.
    """
    for part in ("train", "test"):
        _check_shards(sources, sources.part(part))
    rows = {file.path: _open(sources, file.path).metadata.num_rows for file in sources.files}
    counter = Counter(sources.name, sum(rows.values()), progress)

    def split(part: str) -> Split:
        paths = sources.part(part)
        count = sum(rows[path] for path in paths)
        shape = (count, sources.spec.channels or 3, sources.spec.size, sources.spec.size)
        images, labels = np.empty(shape, np.uint8), np.empty(count, np.int64)
        start = 0
        for path in paths:
            stop = start + rows[path]
            _fill(sources, path, images[start:stop], labels[start:stop], counter)
            start = stop
        return split_of(images, labels)

    return Decoded(split("train"), split("test"), sources.spec.classes)


def _check_shards(sources: Sources, paths: list[Path]) -> None:
    """Refuse a split with a shard missing, or with shards of two splittings."""
    shards = [match for path in paths if (match := _SHARD.search(path.name))]
    if not shards:
        return
    numbers, totals = [int(m[1]) for m in shards], {int(m[2]) for m in shards}
    total = max(totals)
    if len(totals) > 1 or sorted(numbers) != list(range(total)) or len(shards) != len(paths):
        raise sources.fault(
            paths[0], f"is one of {total} shards, but the folder holds {[p.name for p in paths]}"
        )


def _open(sources: Sources, path: Path) -> ParquetFile:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    at(path)
    try:
        return ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise sources.fault(path, f"is not a whole parquet file: {error}") from error


def _fill(
    sources: Sources,
    path: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    counter: Counter,
) -> None:
    """Decode one shard into (N, C, H, W) images and (N,) labels."""
    row = 0
    for blobs, values in _batches(sources, path):
        for blob in blobs:
            images[row] = _decode(sources, path, blob, row)
            row += 1
        labels[row - len(blobs) : row] = values
        counter.add(len(blobs))
    check_split(sources, path, images, labels)


def _batches(sources: Sources, path: Path) -> Iterator[tuple[list[bytes | None], list[int]]]:
    import pyarrow as pa

    shard = _open(sources, path)
    label = sources.layout.labels if sources.layout else ""
    fields = {field.name: field.type for field in shard.schema_arrow}
    image = next((name for name in _IMAGES if name in fields), None)
    if image is None or label not in fields or not pa.types.is_struct(fields[image]):
        raise sources.fault(
            path,
            f"has the columns {list(fields)}; it needs {' or '.join(_IMAGES)} as {{bytes, path}} "
            f"and {label}",
        )
    try:
        for batch in shard.iter_batches(_ROWS, columns=[image, label]):
            blobs = batch.column(batch.schema.get_field_index(image)).field("bytes").to_pylist()
            values = batch.column(batch.schema.get_field_index(label)).to_pylist()
            if not all(isinstance(value, int) for value in values):
                raise sources.fault(path, f"has labels in {label!r} that are not whole numbers")
            yield blobs, values
    except (OSError, KeyError, pa.ArrowException) as error:
        raise sources.fault(path, f"is damaged: {error}") from error


def _decode(sources: Sources, path: Path, blob: bytes | None, row: int) -> NDArray[np.uint8]:
    """Return one image (C, H, W)."""
    spec = sources.spec
    if blob is None:
        raise sources.fault(path, f"has no image bytes in row {row}")
    try:
        image = read_rgb(io.BytesIO(blob))
    except DataError as error:
        raise sources.fault(path, f"row {row} {error}") from error
    pixels = np.asarray(image.convert("L") if spec.channels == 1 else image)
    if pixels.shape[:2] != (spec.size, spec.size):
        raise sources.fault(
            path,
            f"has an image of {pixels.shape[1]}x{pixels.shape[0]} pixels in row {row}; "
            f"{spec.name} has {spec.size}x{spec.size}",
        )
    return pixels[None] if spec.channels == 1 else pixels.transpose(2, 0, 1)
