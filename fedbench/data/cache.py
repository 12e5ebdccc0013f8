"""Decoded data sets as safetensors files: written once, memory-mapped afterwards.

A cache file is whole or absent (temporary file and rename), one process builds it while others
wait, and one that does not match its digest is moved aside and built again. All of it may be
deleted at any time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fedbench import files
from fedbench.data.dataset import Split
from fedbench.data.readers import Decoded, Progress
from fedbench.errors import StoreError, UnwritableError

_PARTS = ("train.images", "train.labels", "test.images", "test.labels")


class DamagedError(StoreError):
    """A cache file is not what it says it is."""


def read(path: Path) -> tuple[Decoded, str] | None:
    """Return a cached data set, memory-mapped, and its digest; None where there is no file.

    Raises:
        DamagedError: The file is not whole, or its content does not match its digest.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    _verify(path, status.st_size, status.st_mtime_ns)
    return _open(path)


@functools.lru_cache(maxsize=8)  # once in a process, not for every cell
def _verify(path: Path, size: int, mtime_ns: int) -> None:
    """Compare content and digest; the arguments tell the versions of a file apart."""
    decoded, expected = _open(path)
    if digest(decoded) != expected:
        raise DamagedError(f"{path} is damaged: its content does not match its digest")


def _open(path: Path) -> tuple[Decoded, str]:
    try:
        with safe_open(path, "pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in _PARTS}
        stated = metadata["digest"]
        if metadata["about"] != _about(stated, metadata["classes"], metadata["notes"]):
            raise ValueError("its classes or notes do not match their digest")
        classes, notes = json.loads(metadata["classes"]), json.loads(metadata["notes"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: {error!r}") from error
    decoded = Decoded(
        Split(tensors["train.images"], tensors["train.labels"]),
        Split(tensors["test.images"], tensors["test.labels"]),
        tuple(classes),
        tuple(notes),
    )
    return decoded, stated


def open_or_build(
    path: Path, build: Callable[[Path], object], progress: Progress
) -> tuple[Decoded, str]:
    """Return a cached data set and its digest; build it first where it is absent or damaged.

    The caller holds the data set's lock (see ``locked``).

    Args:
        path: The cache file.
        build: Decodes the data set and has it written there (see ``write``).
        progress: Is told when a damaged file is moved aside.

    Raises:
        UnwritableError: The cache cannot be written.
    """
    files.sweep_parts(path.parent)
    try:
        stored = read(path)
    except DamagedError as error:
        aside = files.move_aside(path)
        progress(f"{error}; moved to {aside.name}, decoding again")
        stored = None
    if stored is None:
        build(path)
        stored = read(path)
    if stored is None:
        raise StoreError(f"{path} vanished while it was read; leave the cache alone during a run")
    return stored


def write(path: Path, decoded: Decoded) -> None:
    """Write a cache file.

    Raises:
        UnwritableError: The folder cannot be written or the disk is full.
    """
    tensors = dict(zip(_PARTS, _tensors(decoded), strict=True))
    stated = digest(decoded)
    classes, notes = json.dumps(decoded.classes), json.dumps(decoded.notes)
    metadata = {
        "digest": stated,
        "classes": classes,
        "notes": notes,
        "about": _about(stated, classes, notes),
    }

    def save(part: Path) -> None:
        try:
            save_file(tensors, part, metadata)
        except SafetensorError as error:
            raise UnwritableError(
                f"cannot write {path}: {error}; free the disk or set FEDBENCH_HOME to a folder "
                "that you may write"
            ) from error

    files.write_atomic(path, save)


@contextlib.contextmanager
def locked(cache: Path, name: str, progress: Progress) -> Iterator[None]:
    """Hold the lock of one data set's cache: one process downloads and decodes, others wait.

    Args:
        cache: The cache's folder.
        name: The data set's name.
        progress: Is told when another process holds the lock.

    Raises:
        UnwritableError: The folder cannot be written.
    """
    lock = files.Lock(cache / "data" / f"{name}.lock")
    if not lock.acquire(wait=False):
        progress(f"{name}: waiting for another process that prepares it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def digest(decoded: Decoded) -> str:
    """Return the hexadecimal SHA-256 over shapes, pixels and labels of both splits."""
    total = hashlib.sha256()
    for tensor in _tensors(decoded):
        total.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(tensor.numpy().data)
    return total.hexdigest()


def _about(digest: str, classes: str, notes: str) -> str:
    """Return a digest of what a file says beside its tensors."""
    return hashlib.sha256(json.dumps([digest, classes, notes]).encode()).hexdigest()


def _tensors(decoded: Decoded) -> tuple[torch.Tensor, ...]:
    train, test = decoded.train, decoded.test
    return train.images, train.labels, test.images, test.labels
