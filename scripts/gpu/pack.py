"""Files in loads: what travels to a bare machine, cut into pieces where there is a limit.

A load is a folder of pieces with the manifest of all of them. Loads may arrive one by one: each
piece is checked by its digest and kept, and a file is whole when its last piece has arrived. Only
the standard library is used, because a bare machine has nothing else yet.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

MANIFEST = "manifest.json"
_BLOCK = 1 << 20


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class DamagedLoadError(Exception):
    """A load is not what its manifest says."""


@dataclass(frozen=True)
class Piece:
    """A part of a file.

    Attributes:
        load: Number of the load that has it, from 1.
        name: Of its file in the load.
        size: In bytes.
        sha256: Of its bytes.
    """

    load: int
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Item:
    """A file that travels.

    Attributes:
        group: What it is for, such as ``wheels``, ``ray`` or ``data``.
        name: Its path below the group's folder.
        size: In bytes.
        sha256: Of its bytes.
        pieces: In order.
    """

    group: str
    name: str
    size: int
    sha256: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Manifest:
    """What all loads hold together.

    Attributes:
        facts: What else the machine has to know, such as the commit.
        items: In the order in which they were packed.
    """

    facts: Mapping[str, Any]
    items: tuple[Item, ...]

    def group(self, name: str) -> tuple[Item, ...]:
        """Return the items of one group."""
        return tuple(item for item in self.items if item.group == name)


def pack(
    files: Sequence[tuple[str, str, Path]],
    out: Path,
    *,
    limit: int,
    facts: Mapping[str, Any],
) -> Manifest:
    """Write files into loads, in order, and cut those that do not fit into one.

    Args:
        files: Group, name and place of each.
        out: The folder of the loads ``1``, ``2`` ...; emptied first.
        limit: Bytes of a load's pieces, at least 1.
        facts: Written into the manifest as they are.

    Returns:
        The manifest, which every load has.
    """
    shutil.rmtree(out, ignore_errors=True)
    items, load, room, number = [], 1, limit, 0
    for group, name, source in files:
        pieces: list[Piece] = []
        whole = hashlib.sha256()
        left = source.stat().st_size
        with source.open("rb") as stream:
            while left or not pieces:
                if not room:
                    load, room = load + 1, limit
                number += 1
                target = out / str(load) / f"{number:04d}"
                size, digest = _copy(stream, target, min(left, room), whole)
                pieces.append(Piece(load, target.name, size, digest))
                left, room = left - size, room - size
        size = source.stat().st_size
        items.append(Item(group, name, size, whole.hexdigest(), tuple(pieces)))
    manifest = Manifest(facts, tuple(items))
    text = json.dumps(asdict(manifest), indent=1) + "\n"
    for folder in range(1, load + 1):
        (out / str(folder)).mkdir(parents=True, exist_ok=True)
        (out / str(folder) / MANIFEST).write_text(text)
    return manifest


def read_manifest(path: Path) -> Manifest:
    """Return a manifest that was written before.

    Raises:
        DamagedLoadError: It cannot be read, or names a place outside the store.
    """
    try:
        content = json.loads(path.read_text())
        items = tuple(
            Item(**{**item, "pieces": tuple(Piece(**piece) for piece in item["pieces"])})
            for item in content["items"]
        )
        manifest = Manifest(content["facts"], items)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedLoadError(f"{path} is no manifest: {error!r}") from error
    for item in items:
        for part in (item.group, item.name, *(piece.name for piece in item.pieces)):
            if PurePosixPath(part).is_absolute() or ".." in PurePosixPath(part).parts:
                raise DamagedLoadError(f"{path} names {part!r}, which lies outside the store")
    return manifest


def unpack(loads: Path, store: Path) -> Manifest | None:
    """Copy the pieces of all loads that are here into a store, and join what is whole.

    Args:
        loads: The folder with the loads; it may be absent, and so may some of them.
        store: Keeps pieces in ``pieces`` and whole files in ``GROUP/NAME``. What it has from an
            earlier call stays, unless it is of another manifest.

    Returns:
        The manifest of the store; None where no load has ever arrived.

    Raises:
        DamagedLoadError: A piece or a file is not what the manifest says, or loads are of two
            different packings.
    """
    manifests = sorted(loads.glob(f"*/{MANIFEST}"))
    kept = store / MANIFEST
    if manifests:
        text = manifests[0].read_text()
        if any(other.read_text() != text for other in manifests):
            raise DamagedLoadError(f"{loads} has loads of several packings; prepare them again")
        if kept.exists() and kept.read_text() != text:
            shutil.rmtree(store)
        store.mkdir(parents=True, exist_ok=True)
        kept.write_text(text)
    if not kept.exists():
        return None
    manifest = read_manifest(kept)
    for item in manifest.items:
        _take(item, loads, store)
    return manifest


def tree_digest(folder: Path) -> str:
    """Return the SHA-256 over names and bytes of all files of a package's folder."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            name = path.relative_to(folder).as_posix()
            own = hashlib.sha256(path.read_bytes()).hexdigest()
            whole.update(f"{name} {own}\n".encode())
    return whole.hexdigest()


def place(store: Path, item: Item) -> Path:
    """Return where an item's whole file is, or will be."""
    return store / item.group / item.name


def missing(store: Path, items: Sequence[Item]) -> list[Item]:
    """Return the items that are not whole yet."""
    return [item for item in items if not place(store, item).exists()]


def _take(item: Item, loads: Path, store: Path) -> None:
    """Take over an item's pieces; join them when none is missing."""
    whole = place(store, item)
    if whole.exists():
        return
    pieces = store / "pieces"
    pieces.mkdir(exist_ok=True)
    for piece in item.pieces:
        source, target = loads / str(piece.load) / piece.name, pieces / piece.name
        if source.exists() and not target.exists():
            _check(source, piece.sha256)
            part = target.with_name(f"{target.name}.part")
            shutil.copyfile(source, part)
            part.rename(target)
    parts = [pieces / piece.name for piece in item.pieces]
    if not all(part.exists() for part in parts):
        return
    whole.parent.mkdir(parents=True, exist_ok=True)
    joined = whole.with_name(f"{whole.name}.part")
    with joined.open("wb") as stream:
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, stream, _BLOCK)
    _check(joined, item.sha256)
    joined.rename(whole)
    for part in parts:
        part.unlink()


def _check(path: Path, expected: str) -> None:
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise DamagedLoadError(f"{path} is damaged: its digest is {found}, not {expected}")


def _copy(stream: BinaryIO, target: Path, count: int, whole: _Hash) -> tuple[int, str]:
    """Copy so many bytes into a new file; return their number and their digest."""
    target.parent.mkdir(parents=True, exist_ok=True)
    own = hashlib.sha256()
    with target.open("wb") as out:
        for block in _blocks(stream, count):
            out.write(block)
            own.update(block)
            whole.update(block)
    return count, own.hexdigest()


def _blocks(stream: BinaryIO, count: int) -> Iterator[bytes]:
    while count:
        block = stream.read(min(count, _BLOCK))
        if not block:
            raise OSError("a file became shorter while it was packed")
        count -= len(block)
        yield block
