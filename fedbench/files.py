"""Places, safe writing and locks: everything that fedbench keeps goes through this file.

A file is written beside its place and renamed into it, so a reader sees all of it or nothing. A
damaged file is moved aside, never deleted, so nothing is lost while it is computed again.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.errors import SettingsError, StoreError, UnwritableError

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: Seconds after which a lease that nobody refreshes is taken over.
LEASE = 120.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
_NO_FLOCK = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})


def home() -> Path:
    """Return the folder for everything that fedbench writes: ``$FEDBENCH_HOME``, or ``runs``.

    Raises:
        SettingsError: It is a file.
    """
    return _folder("FEDBENCH_HOME", "runs")


def data_root() -> Path:
    """Return the folder that holds data sets: ``$FEDBENCH_DATA``, or ``data``.

    It is only ever read, except by a download.

    Raises:
        SettingsError: It is a file.
    """
    return _folder("FEDBENCH_DATA", "data")


def published_boards() -> Path | None:
    """Return the folder of published boards: below the working folder, or of the checkout."""
    for place in (Path(), Path(__file__).parents[1]):
        folder = place / "leaderboards"
        if any(folder.glob("*/plan.json")):
            return folder
    return None


def _folder(variable: str, default: str) -> Path:
    path = Path(os.environ.get(variable) or default).absolute()
    if path.is_file():
        raise SettingsError(
            f"{variable} is {str(path)!r}, which is a file; set it to a folder, there or not"
            if variable in os.environ
            else f"{str(path)!r} is a file, and a folder is needed there; set {variable} to one"
        )
    return path


def is_full(error: BaseException) -> bool:
    """Return whether the system says that a disk is full, over quota or read-only."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make one clear error of whatever the system has against writing a file.

    Raises:
        UnwritableError: In place of any ``OSError`` of the block.
    """
    try:
        yield
    except OSError as error:
        raise UnwritableError(
            f"cannot write {path}: {error.strerror or error}; free the disk or set FEDBENCH_HOME "
            "to a folder that you may write; what is finished is safe, and the same command goes on"
        ) from error


def write_atomic(
    path: Path, content: bytes | str | Callable[[Path], None], *, durable: bool = False
) -> None:
    """Write a file so that at every moment it is whole or absent.

    Args:
        path: The file's place; parent folders are made.
        content: Bytes, text (UTF-8), or a function that writes the file whose path it is given.
        durable: Wait until the disk has it. Without that a rename may outlive a power cut and the
            content not, which leaves an empty file; a killed process loses nothing either way.

    Raises:
        UnwritableError: The folder cannot be written or the disk is full; what was there stays.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        part = Path(name)
        try:
            if callable(content):
                content(part)
            else:
                part.write_bytes(content.encode() if isinstance(content, str) else content)
            part.chmod(0o644)
            if durable:
                _sync(part)
            part.replace(path)
            if durable:
                _sync(path.parent)
        finally:
            part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or a folder's list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def move_aside(path: Path) -> Path:
    """Rename a damaged file to ``NAME.damaged-N`` beside its place and return the new path.

    One that somebody else has moved meanwhile is gone, which is what was wanted.
    """
    for number in range(10_000):
        target = path.with_name(f"{path.name}.damaged-{number}")
        if not target.exists():
            with writing(target), suppress(FileNotFoundError):
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
        with suppress(FileNotFoundError):  # its owner has renamed it at this moment
            if now - part.stat().st_mtime > older_than:
                part.unlink()


class Lock:
    """A lock that all processes of one file system respect, and that a dead one does not keep.

    The kernel holds it (``flock``, which NFS passes on to its server) and frees it when its process
    ends. A file system without ``flock`` gets a lease instead: a file that names its owner and that
    the owner refreshes. It is taken over at once if its process on this machine is gone, and after
    ``LEASE`` seconds without a refresh if it is of another machine; the waiting side's own clock
    counts these, so the machines' clocks need not agree.

    Args:
        path: The lock's file; parent folders are made. It stays when the lock is free.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: BaseFileLock | None = None
        self._lease = False

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock and return whether that was possible.

        Args:
            wait: Until it is free.

        Raises:
            UnwritableError: The folder cannot be written.
        """
        from filelock import Timeout

        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._backend().acquire(blocking=wait)
            except Timeout:
                return False
            except OSError as error:
                if self._lease or error.errno not in _NO_FLOCK:
                    raise
                self._lease, self._lock = True, None
                return self.acquire(wait=wait)
        return True

    def release(self) -> None:
        """Let it go."""
        if self._lock is not None:
            self._lock.release()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock and hold it for the length of the block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _backend(self) -> BaseFileLock:
        """Return the library's lock; one object for all tries, since it watches others' leases."""
        from filelock import FileLock, SoftFileLease

        if self._lock is None:
            if self._lease:
                # A place of its own: to a lease, the empty file of a kernel lock has an owner.
                place = self.path.with_name(f"{self.path.name}.lease")
                self._lock = SoftFileLease(place, lease_duration=LEASE)
            else:
                self._lock = FileLock(self.path, fallback_to_soft=False)
        return self._lock
