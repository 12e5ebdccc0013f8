"""Places and safe writing: everything that fedbench keeps goes through this file.

A file is written beside its place and renamed into it, so a reader sees all of it or nothing. A
damaged file is moved aside, never deleted, so nothing is lost while it is computed again.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fedbench.errors import StoreError


def home() -> Path:
    """Return the folder for everything that fedbench writes: ``$FEDBENCH_HOME``, or ``runs``."""
    return Path(os.environ.get("FEDBENCH_HOME", "runs"))


def data_root() -> Path:
    """Return the folder that holds data sets: ``$FEDBENCH_DATA``, or ``data``.

    It is only ever read, except by a download.
    """
    return Path(os.environ.get("FEDBENCH_DATA", "data"))


def write_atomic(path: Path, content: bytes | str | Callable[[Path], None]) -> None:
    """Write a file so that at every moment it is whole or absent.

    Args:
        path: The file's place; parent folders are made.
        content: Bytes, text (UTF-8), or a function that writes the file whose path it is given.

    Raises:
        StoreError: The folder cannot be written or the disk is full; what was there stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise StoreError(
            f"cannot write in {path.parent}: {error.strerror}; free the disk or set "
            "FEDBENCH_HOME to a folder that you may write"
        ) from error
    part = Path(name)
    try:
        if callable(content):
            content(part)
        else:
            part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}; free the disk or set "
            "FEDBENCH_HOME to a folder that you may write"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def move_aside(path: Path) -> Path:
    """Rename a damaged file to ``NAME.damaged-N`` beside its place and return the new path."""
    for number in range(10_000):
        target = path.with_name(f"{path.name}.damaged-{number}")
        if not target.exists():
            path.replace(target)
            return target
    raise StoreError(f"{path.parent} holds 10000 damaged copies of {path.name}; delete them")


def sweep_parts(folder: Path, older_than: float = 3600.0) -> None:
    """Delete the unfinished files of killed processes in a folder.

    Args:
        folder: Where to look, without subfolders.
        older_than: Age in seconds below which a part may still be being written.
    """
    now = time.time()
    for part in folder.glob(".*.part"):
        if now - part.stat().st_mtime > older_than:
            part.unlink(missing_ok=True)
