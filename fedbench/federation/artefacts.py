"""The artefact store: what a stage produced, by content address, shared by every method.

An artefact's key hashes its name, its settings (which name all data by digest) and the numerical
context (device type and GPU, precision, threads, torch version), so that equal keys mean equal
bits. One process builds, the others wait for its lock. What is read is checked against the checksum
written with it; a damaged file is moved aside and built again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fedbench.errors import StoreError
from fedbench.files import Lock, move_aside, sweep_parts, write_atomic

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Artefact:
    """What the store returns.

    Attributes:
        tensors: By name, memory-mapped where they were read: do not write into them.
        seconds: Wall seconds of the run that built it.
        shared: Whether it was there already.
        key: The content address, 32 hexadecimal digits.
    """

    tensors: Mapping[str, Tensor]
    seconds: float
    shared: bool
    key: str


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, shapes, element types and values, in order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class ArtefactStore:
    """A folder of artefacts.

    Args:
        root: The folder; each name has a subfolder.
        context: What else changes bits: device type, GPU, precision, threads, torch's version.
        refresh: Build everything anew, once a key and process, as ``--force`` asks.

    Attributes:
        waited: Seconds that passed while other processes built what this one needed.
    """

    def __init__(self, root: Path, context: Mapping[str, Any], *, refresh: bool = False) -> None:
        self.root, self.context = root, dict(context)
        self._refresh, self.waited = refresh, 0.0
        self._trusted: dict[Path, tuple[int, int]] = {}

    def key(self, kind: str, settings: Mapping[str, Any]) -> str:
        """Return the content address of an artefact, 32 hexadecimal digits."""
        return _address(kind, settings, self.context)

    def get(
        self,
        kind: str,
        settings: Mapping[str, Any],
        build: Callable[[], Mapping[str, Tensor]],
        seconds: Callable[[], float] | None = None,
    ) -> Artefact:
        """Return an artefact, building it if no whole one is there.

        Args:
            kind: What it is, such as ``classifier``; a folder name.
            settings: Everything that its values depend on, as JSON values.
            build: Computes the tensors.
            seconds: Asked afterwards how long that took, for work of several attempts; None for
                the wall time of this one.

        Raises:
            UnwritableError: The store cannot be written.
        """
        key = self.key(kind, settings)
        path = self.root / kind / f"{key}.safetensors"
        if (found := self._read(path, key, locked=False)) is not None:
            return found
        asked = time.perf_counter()
        with Lock(path.with_suffix(".lock")).held():
            self.waited += time.perf_counter() - asked
            if (found := self._read(path, key, locked=True)) is not None:
                return found
            sweep_parts(path.parent)
            start = time.perf_counter()
            tensors = {name: value.detach().cpu().contiguous() for name, value in build().items()}
            took = time.perf_counter() - start if seconds is None else seconds()
            self._write(path, kind, settings, tensors, took)
        return Artefact(tensors, took, shared=False, key=key)

    def _write(
        self,
        path: Path,
        kind: str,
        settings: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        seconds: float,
    ) -> None:
        note = {
            "kind": kind,
            "settings": settings,
            "context": self.context,
            "seconds": seconds,
            "checksum": tensors_digest(tensors),
        }
        metadata = {"fedbench": json.dumps(note, sort_keys=True)}
        write_atomic(path, safetensors.torch.save(dict(tensors), metadata), durable=True)
        self._trust(path)

    def _trust(self, path: Path) -> None:
        stat = path.stat()
        self._trusted[path] = (stat.st_mtime_ns, stat.st_size)

    def _read(self, path: Path, key: str, *, locked: bool) -> Artefact | None:
        """Return a whole artefact, or None; a damaged one is moved aside by who has its lock.

        Without the lock, another process may have moved it and built it again meanwhile.
        """
        if not path.exists() or (self._refresh and path not in self._trusted):
            return None
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                note = json.loads(file.metadata()["fedbench"])
            named = {name: note[name] for name in ("kind", "settings", "context")}
            if _address(**named) != key:
                raise StoreError("it is another artefact than its name says")
            tensors = safetensors.torch.load_file(path)
            stat = path.stat()
            if self._trusted.get(path) != (stat.st_mtime_ns, stat.st_size):
                if tensors_digest(tensors) != note["checksum"]:
                    raise StoreError("its values do not match its checksum")
                self._trust(path)
            return Artefact(tensors, float(note["seconds"]), shared=True, key=key)
        except FileNotFoundError:
            return None
        except (
            safetensors.SafetensorError,
            StoreError,
            KeyError,
            TypeError,
            ValueError,
            OSError,
        ) as error:
            if not locked:
                return None
            aside = move_aside(path)
            log.warning(
                "artefact %s is damaged (%s); moved to %s and built again",
                path.name,
                error,
                aside.name,
            )
            return None


def _address(kind: str, settings: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    # Through JSON and back, so that it is the same when it is read from the artefact's note.
    plain = json.loads(json.dumps([kind, settings, context]))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
