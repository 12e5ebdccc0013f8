"""Files of a cell at work: each is written once, and read back only if it is what was written.

A file is known by a ``Ref``, its name and its checksum, which the journal keeps. What nobody refers
to any more is deleted after the next commit, so that the commit before it stays whole until then.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from fedbench.errors import FedbenchError
from fedbench.files import move_aside, writing

log = logging.getLogger(__name__)


class DamagedError(FedbenchError):
    """A file is missing or not what was written; it has been moved aside."""


@dataclass(frozen=True)
class Ref:
    """A file on a shelf.

    Attributes:
        name: Its name there.
        digest: SHA-256 of its content, hexadecimal.
    """

    name: str
    digest: str


class Shelf:
    """A folder of numbered files.

    Args:
        folder: Made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._stale = folder, list[str]()
        self._next = 0

    def put(self, content: bytes | Callable[[Path], None]) -> Ref:
        """Write a file and return how to find it again.

        Args:
            content: Its bytes, or a function that writes the file whose path it is given.
        """
        path = self._folder / f"{self._next:06d}"
        self._next += 1
        with writing(path):
            # Not by a rename: a file counts from the commit on that names it with its checksum.
            self._folder.mkdir(parents=True, exist_ok=True)
            if not isinstance(content, bytes):
                content(path)
                return Ref(path.name, _digest(path))
            path.write_bytes(content)
        return Ref(path.name, hashlib.sha256(content).hexdigest())

    def put_tensors(self, tensors: Mapping[str, Tensor]) -> Ref:
        """Write named tensors, which are contiguous and share no memory."""
        return self.put(safetensors.torch.save(dict(tensors)))

    def path(self, ref: Ref) -> Path:
        """Return where a file is that this process has written or verified."""
        return self._folder / ref.name

    def verified(self, ref: Ref) -> Path:
        """Return where a file is, its content checked.

        Raises:
            DamagedError: It is missing, or not what was written.
        """
        path = self.path(ref)
        try:
            problem = None if _digest(path) == ref.digest else "does not match its checksum"
        except FileNotFoundError:
            raise DamagedError(f"{path} is missing") from None
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
        if problem is not None:
            raise DamagedError(f"{path} {problem}; kept as {move_aside(path).name}")
        return path

    def tensors(self, ref: Ref) -> dict[str, Tensor]:
        """Return named tensors in memory of their own.

        Raises:
            DamagedError: See ``verified``.
        """
        return safetensors.torch.load(self.verified(ref).read_bytes())

    def discard(self, refs: Iterable[Ref]) -> None:
        """Delete files once the commit that no longer names them is written."""
        self._stale.extend(ref.name for ref in refs)

    def sweep(self, named: Iterable[Ref] = ()) -> None:
        """Delete what was discarded; called when a commit has been written.

        Args:
            named: What that commit names. It stays: a series is committed with files that its step
                in hand, or a later series, has discarded since.
        """
        names = {ref.name for ref in named}
        for name in self._stale:
            if name not in names:
                (self._folder / name).unlink(missing_ok=True)
        self._stale = [name for name in self._stale if name in names]

    def open(self, known: Iterable[Ref]) -> None:
        """Begin where another process ended: delete what its last commit does not name.

        Files that were moved aside stay.
        """
        names = {ref.name for ref in known}
        if not self._folder.is_dir():
            if self._folder.is_symlink() or self._folder.exists():
                move_aside(self._folder)
            return
        for path in self._folder.iterdir():
            if path.name not in names and ".damaged-" not in path.name:
                move_aside(path) if path.is_dir() else path.unlink()
        self._next = 1 + max((int(name) for name in names), default=-1)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
