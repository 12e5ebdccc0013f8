"""Loads a data set as a cell's settings ask for it: found, decoded once, cached, cut to size."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from fedbench.data import cache as store
from fedbench.data.apart import CrashedError, apart
from fedbench.data.dataset import ImageData, Split
from fedbench.data.download import download
from fedbench.data.normalisation import Normalisation
from fedbench.data.readers import Decoded, Progress, Reader, split_of
from fedbench.data.resize import resize
from fedbench.data.sources import Sources, locate
from fedbench.data.specs import DATASETS
from fedbench.data.subset import stratified
from fedbench.errors import DataError
from fedbench.registry import imported

if TYPE_CHECKING:
    from fedbench.data.settings import Data
    from fedbench.data.specs import DatasetSpec


def load(
    config: Data,
    *,
    root: Path,
    cache: Path,
    offline: bool = False,
    progress: Progress | None = None,
) -> ImageData:
    """Load a data set.

    The first time it is decoded into the cache; afterwards its images are memory-mapped.

    Args:
        config: Which data set, how much of it, at which size.
        root: The data root: read, and written by a download alone.
        cache: Folder for decoded images.
        offline: Download nothing.
        progress: Is told in words what takes long.

    Raises:
        DataError: A file is missing, damaged or foreign, or a subset larger than the data set
            is asked for.
        StoreError: The cache cannot be written.
    """
    say = progress or _silent
    spec = DATASETS.get(config.name)
    sources, (decoded, digest) = _decoded(spec, config, root, cache, offline, say)
    notes = decoded.notes + sources.notes
    for note in notes:
        say(f"{spec.name}: {note}")
    train = _subset(spec, decoded.train, config.train_size, config.subset_seed, "train")
    test = _subset(spec, decoded.test, config.test_size, config.subset_seed, "test")
    channels = int(train.images.shape[1])
    return ImageData(
        name=spec.name,
        train=train,
        test=test,
        classes=decoded.classes,
        constants=Normalisation(
            _per_channel(spec.mean, channels), _per_channel(spec.std, channels)
        ),
        augment=spec.augment,
        fingerprint=_fingerprint(digest, config, decoded),
        notes=notes,
    )


def left_over(split: Split, config: Data) -> Split:
    """Return the training images that a cell's ``train_size`` leaves to nobody.

    Args:
        split: All training images.
        config: Gives the size and the seed of the cell's own choice.

    Raises:
        DataError: The cell takes all of them.
    """
    size = config.train_size
    if size is None or size >= len(split):
        raise DataError(
            f"the clients share all {len(split)} training images of {config.name}, so none is left "
            "over; set data.train_size to fewer"
        )
    taken = stratified(split.labels, size, config.subset_seed, "train")
    free = torch.ones(len(split), dtype=torch.bool)
    free[taken] = False
    return split.take(free.nonzero().flatten())


def _silent(_: str) -> None:
    """Tell nobody."""


def _decoded(
    spec: DatasetSpec, config: Data, root: Path, cache: Path, offline: bool, say: Progress
) -> tuple[Sources, tuple[Decoded, str]]:
    """Return the files, the whole data set at its size, and its digest; cached where it is."""
    size = None if config.image_size == spec.size else config.image_size
    sources = locate(spec, root, config.path, cache=cache, size=size)
    sources.check()
    if sources.cached:
        try:
            stored = store.read(sources.cache_file(cache, size))
        except store.DamagedError:
            stored = None  # built again below, under the lock
        if stored is not None:
            return sources, stored
    with store.locked(cache, spec.name, say):
        sources = locate(spec, root, config.path)
        if not sources.found and not sources.files and spec.torchvision and not offline:
            download(spec, root, say)
            sources = locate(spec, root, config.path)
        if not sources.found:
            raise DataError(sources.help)
        sources.check()
        path = sources.cache_file(cache, size)
        return sources, store.open_or_build(
            path, lambda path: _build(path, sources, size, say), say
        )


def _build(path: Path, sources: Sources, size: int | None, say: Progress) -> None:
    """Decode a data set into a cache file; its files in a process of its own, which may crash."""
    if not sources.files:
        store.write(path, _read(sources, size, say))
        return
    try:
        apart(lambda tell: store.write(path, _read(sources, size, tell)), say)
    except CrashedError as error:
        raise sources.fault(error.path or sources.folder or path, str(error)) from error


def _read(sources: Sources, size: int | None, say: Progress) -> Decoded:
    """Decode the files and check what the reader gave, so that a plug-in's fault is found here."""
    assert sources.layout is not None
    reader = cast(Reader, imported(sources.layout.reader))
    say(f"{sources.name}: decoding {sources.folder or ''} (once; kept in the cache)")
    decoded = reader(sources, size, say)
    if not isinstance(decoded, Decoded):
        raise DataError(
            f"{sources.name}: the reader gave {type(decoded).__name__}; let it return "
            "Decoded(train, test, classes)"
        )
    for name, split in (("training", decoded.train), ("test", decoded.test)):
        _check(sources, name, split, len(decoded.classes))
    if size is not None and decoded.train.images.shape[2] != size:
        say(f"{sources.name}: resizing to {size}x{size}")
        decoded = Decoded(
            _resized(decoded.train, size),
            _resized(decoded.test, size),
            decoded.classes,
            decoded.notes,
        )
    return Decoded(decoded.train, decoded.test, decoded.classes, _notes(sources.spec, decoded))


def _check(sources: Sources, name: str, split: Split, classes: int) -> None:
    images, labels = split.images, split.labels
    square = images.ndim == 4 and images.shape[2] == images.shape[3] and images.shape[1] in (1, 3)
    if images.dtype != torch.uint8 or not square or len(images) == 0:
        raise DataError(
            f"{sources.name}: the reader gave {name} images as {images.dtype} of shape "
            f"{tuple(images.shape)}; it must give (N, 1 or 3, size, size) uint8"
        )
    bad_labels = labels.dtype != torch.int64 or labels.shape != (len(images),)
    if bad_labels or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise DataError(
            f"{sources.name}: the reader gave {name} labels as {labels.dtype} of shape "
            f"{tuple(labels.shape)}; it must give ({len(images)},) int64 in [0, {classes - 1}]"
        )


def _resized(split: Split, size: int) -> Split:
    return split_of(resize(split.images.numpy(), size), split.labels.numpy())


def _notes(spec: DatasetSpec, decoded: Decoded) -> tuple[str, ...]:
    """Return the reader's notes, and one where the files hold another number than published."""
    published = (
        ("training", spec.train_size, len(decoded.train)),
        ("test", spec.test_size, len(decoded.test)),
    )
    return decoded.notes + tuple(
        f"{count:,} {name} images in the files, {expected:,} published"
        for name, expected, count in published
        if expected not in (None, count)
    )


def _subset(spec: DatasetSpec, split: Split, size: int | None, seed: int, name: str) -> Split:
    if size is None or size == len(split):
        return split
    if size > len(split):
        raise DataError(
            f"data.{name}_size is {size}, but {spec.name} has {len(split)} {name} images here; "
            f"set it to {len(split)} at most, or leave it out"
        )
    return split.take(stratified(split.labels, size, seed, name))


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values


def _fingerprint(digest: str, config: Data, decoded: Decoded) -> str:
    """Return the digest of the whole, or one derived from it and the choice of the subsets.

    The choice is a function of the labels, the sizes and the seed, so pixels are not read again.
    """
    sizes = [
        None if asked == len(split) else asked
        for asked, split in ((config.train_size, decoded.train), (config.test_size, decoded.test))
    ]
    if sizes == [None, None]:
        return digest
    text = json.dumps(["stratified", digest, *sizes, config.subset_seed])
    return hashlib.sha256(text.encode()).hexdigest()
