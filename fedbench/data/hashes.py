"""SHA-256 of data files: worked out once, then known by what the system says of the file.

A file that nobody has touched since (same device, inode, size and time of change) is not read
again. What is known lies below the cache and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fedbench.errors import DataError, UnwritableError
from fedbench.files import write_atomic

#: Seconds for which a file may change again without another time of change, on coarse file systems.
_COARSE = 2.0

#: What this process knows: the stamp of a file and its hash.
_known: dict[str, str] = {}


def file_hashes(paths: Sequence[Path], store: Path) -> list[str]:
    """Return the hexadecimal SHA-256 of files.

    Args:
        paths: The files.
        store: Where hashes are kept from one process to the next. Nothing is kept where the folder
            two above it is absent: looking at what there is makes no folders.

    Raises:
        DataError: A file cannot be read.
    """
    stamps = [_stamp(path) for path in paths]
    if not _known.keys() >= set(stamps):
        _known.update(_recall(store))
    fresh = [
        (stamp, path) for stamp, path in zip(stamps, paths, strict=True) if stamp not in _known
    ]
    found = {stamp: _hash(path) for stamp, path in fresh}
    _known.update({stamp: found[stamp] for stamp, path in fresh if _settled(path)})
    if found.keys() & _known.keys():
        _keep(store, {stamp: _known[stamp] for stamp in stamps if stamp in _known})
    return [found.get(stamp) or _known[stamp] for stamp in stamps]


def _stamp(path: Path) -> str:
    try:
        about = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return f"{about.st_dev}:{about.st_ino}:{about.st_size}:{about.st_mtime_ns}:{about.st_ctime_ns}"


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _settled(path: Path) -> bool:
    """Return whether a further change of the file would show in its time."""
    return time.time() - path.stat().st_mtime > _COARSE


def _recall(store: Path) -> dict[str, str]:
    """Return what other processes have kept; a damaged or foreign file knows nothing."""
    try:
        digest, _, text = store.read_text(encoding="utf-8").partition("\n")
        if digest != hashlib.sha256(text.encode()).hexdigest():
            return {}
        kept: dict[str, str] = json.loads(text)
    except (OSError, ValueError):
        return {}
    return kept


def _keep(store: Path, hashes: dict[str, str]) -> None:
    """Keep hashes; those of files that are gone go. A disk that takes no more is no fault."""
    if not store.parent.parent.is_dir():
        return
    text = json.dumps(hashes)
    digest = hashlib.sha256(text.encode()).hexdigest()
    with suppress(UnwritableError):
        write_atomic(store, f"{digest}\n{text}")
