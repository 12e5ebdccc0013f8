"""What below the home may go: found with sizes and reasons, deleted only when asked.

Everything here can be computed, decoded or drawn again, or belongs to nothing any more. Records
that a plan names are never among it, nor what a process has locked; while cells of a suite are in
hand, what its sweep may read stays. A home may be shared with others: only folders with a whole
plan of ours, those that fedbench names itself, and names as we give them are looked at. Knows
nothing of torch.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fedbench.bench.cells.running import in_hand
from fedbench.bench.records.record import read_records
from fedbench.bench.suites.planfile import is_whole, plan_path, read_plan
from fedbench.errors import UnwritableError
from fedbench.files import Lock

#: What there is to delete, in the order of a listing.
KINDS = {
    "scratch": "commits and checkpoints of cells that are finished or in no plan",
    "artefacts": "client trainings that no unfinished cell of a plan can ask for",
    "cache": "decoded data sets; decoded again when needed",
    "damaged": "damaged files that were moved aside",
    "parts": "unfinished files and signs of life of processes that were killed",
    "records": "records, failures and logs of cells that the suite's last plan does not have",
    "outputs": "models and synthetic sets that no record names",
    "pictures": "pictures; `fedbench show` makes them again",
    "report": "reports; `fedbench report` makes them again",
    "logs": "logs of cells that went well",
    "locks": "lock files of cells that are finished",
    "exports": "exports; `fedbench export` makes them again",
    "wandb": "the mirror's files; the next mirrored sweep makes them again from the records",
    "reproduced": "what `fedbench run --record` computed to compare with a record",
}
#: Folders below the home that hold cells of no suite.
_PLANLESS = ("run", "reproduced")
_ALTERED = "its plan is damaged or was altered; the next sweep of it writes it anew"
#: What a cell id and a digest look like.
_ID, _DIGEST = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{64}")
#: An artefact's key, and the name of a decoded data set.
_KEY, _DECODED = re.compile(r"[0-9a-f]{32}"), re.compile(r"\w+-\d+px-[0-9a-f]+")
#: Seconds below which an unfinished file may still be being written.
_YOUNG = 3600.0


@dataclass(frozen=True)
class Item:
    """One thing that may go.

    Attributes:
        kind: One of ``KINDS``.
        path: A file or a folder.
        size: Its bytes.
        reason: Why it may go.
        lock: Held by whoever uses it; None where nobody can.
    """

    kind: str
    path: Path
    size: int
    reason: str
    lock: Path | None = None


@dataclass(frozen=True)
class Kept:
    """What was asked for, or found, and stays.

    Attributes:
        kind: One of ``KINDS``.
        path: A file or a folder.
        reason: Why it stays.
    """

    kind: str
    path: Path
    reason: str


@dataclass
class Garbage:
    """What a look through the home has found.

    Attributes:
        items: What may go, by kind and path.
        kept: What would be looked through if it were not in use.
    """

    items: list[Item] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)

    def of(self, kinds: Iterable[str]) -> Garbage:
        """Return the part of it that is of some kinds."""
        chosen = set(kinds)
        return Garbage(
            [item for item in self.items if item.kind in chosen],
            [kept for kept in self.kept if kept.kind in chosen],
        )


@dataclass(frozen=True)
class _Suite:
    """A suite's folder as it is now.

    Attributes:
        folder: Where it is.
        busy: Who computes a cell of it, in words; empty if nobody does.
        planned: For each cell of the plan that can run, its seed; None where there is no plan.
        states: By cell, the status of its record.
        outputs: The digests that records name.
    """

    folder: Path
    busy: str
    planned: dict[str, int] | None
    states: dict[str, str]
    outputs: frozenset[str]

    def lock(self, cell_id: str) -> Path:
        """Return where the lock of a cell is."""
        return self.folder / "locks" / f"{cell_id}.lock"

    def knows(self, name: str) -> bool:
        """Return whether a name is that of a cell, past or present."""
        known = name in self.states or name in (self.planned or {})
        return known or _ID.fullmatch(name) is not None

    def unfinished(self) -> set[int]:
        """Return the seeds of the plan's cells that have no good record."""
        planned = self.planned or {}
        return {seed for name, seed in planned.items() if self.states.get(name) != "ok"}

    def interrupted(self) -> str:
        """Return which cell has begun without being in any plan, in words; empty if there is none.

        What such a cell of `fedbench run` asks for is known to itself alone.
        """
        if self.planned is None:
            for path in sorted((self.folder / "scratch").glob("*")):
                if self.states.get(path.name) != "ok":
                    return f"cell {path.name} of {self.folder.name} is unfinished ({path})"
        return ""


def look(home: Path) -> Garbage:
    """Look through a home for what may go.

    Args:
        home: The folder of all results.
    """
    garbage = Garbage()
    suites = [_read(path) for path in sorted(home.glob("*")) if _is_suite(path)]
    for suite in suites:
        garbage.items += [*_scratch(suite), *_parts(suite), *_pictures(suite), *_left(suite)]
        for kind, find in (
            ("records", _records),
            ("outputs", _outputs),
            ("report", _report),
            ("wandb", _mirror),
        ):
            _unless_busy(garbage, suite.busy, kind, suite.folder, find(suite))
        if suite.folder.name == "reproduced":
            _unless_busy(garbage, suite.busy, "reproduced", suite.folder, _reproduced(suite))
    others = [path for path in sorted(home.glob("*")) if _may_be_a_suite(path)]
    garbage.kept += [Kept("records", path, _ALTERED) for path in others if _has_plan(path)]
    busy = next(filter(None, map(_busy, sorted(home.glob("*")))), "")
    unknown = next((suite.interrupted() for suite in suites if suite.interrupted()), "")
    unknown = unknown or next((f"what {path} still needs is not known" for path in others), "")
    seeds = {seed for suite in suites for seed in suite.unfinished()}
    _unless_busy(garbage, busy or unknown, "artefacts", home / "artefacts", _artefacts(home, seeds))
    _unless_busy(garbage, busy, "cache", home / "cache", _cache(home))
    ours = [*(suite.folder for suite in suites), home / "artefacts", home / "cache"]
    garbage.items += [*_damaged(ours), *_unfinished_files(ours)]
    order = list(KINDS)
    garbage.items.sort(key=lambda item: (order.index(item.kind), str(item.path)))
    return garbage


def finished_scratch(folder: Path) -> list[Item]:
    """Return what finished cells of a suite have left in scratch: they were killed at the very end.

    Args:
        folder: The suite's.
    """
    left = {path.name for path in (folder / "scratch").glob("*")}
    records = (record for _, record in read_records(folder / "records")) if left else ()
    states = {record.cell_id: str(record.status) for record in records if record.cell_id in left}
    return list(_scratch(_Suite(folder, "", None, states, frozenset())))


def delete(items: Iterable[Item]) -> tuple[list[Item], list[Kept]]:
    """Delete things, except for those that somebody has locked meanwhile.

    Returns:
        What is gone, and what stays: also what the system does not let us delete.
    """
    gone, kept = [], []
    for item in items:
        try:
            if _delete(item):
                gone.append(item)
            else:
                kept.append(Kept(item.kind, item.path, "a process has it in use"))
        except UnwritableError as error:
            kept.append(Kept(item.kind, item.path, str(error)))
        except OSError as error:
            kept.append(Kept(item.kind, item.path, f"it cannot be deleted: {error.strerror}"))
    return gone, kept


def _delete(item: Item) -> bool:
    """Delete a thing and return whether nobody has it locked."""
    if not item.path.exists() and not item.path.is_symlink():
        return True  # somebody else has deleted it
    if item.lock is None:
        _remove(item.path)
        return True
    lock = Lock(item.lock)
    if not lock.acquire(wait=False):
        return False
    try:
        _remove(item.path)
        # Whoever waits for this lock sees that its file is gone, and makes a new one.
        item.lock.unlink(missing_ok=True)
    finally:
        lock.release()
    return True


def _is_suite(path: Path) -> bool:
    return is_whole(path / "plan.json") or (path.name in _PLANLESS and path.is_dir())


def _may_be_a_suite(path: Path) -> bool:
    """Return whether a folder that is none of ours for sure looks like a suite's."""
    known = _is_suite(path) or path.name in ("artefacts", "cache", "partitions")
    names = (entry.stem for part in ("records", "scratch") for entry in (path / part).glob("*"))
    return not known and (_has_plan(path) or any(map(_ID.fullmatch, names)))


def _busy(folder: Path) -> str:
    """Return who computes a cell of a folder, in words; empty if nobody does."""
    live = [cell for cell in in_hand(folder) if cell.live]
    if not live:
        return ""
    one = live[0]
    return f"cells of {folder.name} are in hand: {len(live)} (process {one.pid} on {one.host})"


def _has_plan(folder: Path) -> bool:
    return plan_path(folder.parent, folder.name).is_file()


def _read(folder: Path) -> _Suite:
    planned = None
    if _has_plan(folder):
        cells = read_plan(folder / "plan.json").cells
        planned = {cell.cell_id: int(cell.settings["seed"]) for cell in cells if not cell.skip}
    records = [record for _, record in read_records(folder / "records")]
    states = {record.cell_id: str(record.status) for record in records}
    outputs = frozenset(digest for record in records for digest in record.outputs.values())
    return _Suite(folder, _busy(folder), planned, states, outputs)


def _unless_busy(
    garbage: Garbage, busy: str, kind: str, place: Path, found: Iterator[Item]
) -> None:
    if not busy:
        garbage.items += found
    elif place.exists():
        garbage.kept.append(Kept(kind, place, busy))


def _scratch(suite: _Suite) -> Iterator[Item]:
    for path in _own(suite, "scratch"):
        lock = suite.lock(path.name)
        if suite.states.get(path.name) == "ok":
            yield Item("scratch", path, _size(path), "its cell is finished", lock)
        elif suite.planned is not None and path.name not in suite.planned:
            yield Item("scratch", path, _size(path), "its cell is in no plan", lock)


def _parts(suite: _Suite) -> Iterator[Item]:
    for cell in in_hand(suite.folder):
        if not cell.live:
            path = suite.folder / "running" / f"{cell.cell_id}.json"
            yield Item("parts", path, _size(path), "its process is gone", suite.lock(cell.cell_id))


def _records(suite: _Suite) -> Iterator[Item]:
    """Yield what is of no cell of the plan; without a plan, nobody knows what is wanted."""
    if suite.planned is None:
        return
    named = {cell.cell_id for cell in read_plan(suite.folder / "plan.json").cells}
    for pattern in ("records/*.json", "records/*.failed", "logs/*.log"):
        for path in sorted(suite.folder.glob(pattern)):
            if path.stem not in named and suite.knows(path.stem):
                reason = "its cell is not in the suite's last plan"
                yield Item("records", path, _size(path), reason, suite.lock(path.stem))


def _outputs(suite: _Suite) -> Iterator[Item]:
    for path in sorted((suite.folder / "outputs").glob("*.safetensors")):
        if path.stem not in suite.outputs and _DIGEST.fullmatch(path.stem):
            yield Item("outputs", path, _size(path), "no record names it")


def _pictures(suite: _Suite) -> Iterator[Item]:
    for path in _own(suite, "pictures"):
        yield Item("pictures", path, _size(path), "`fedbench show` makes it again")


def _left(suite: _Suite) -> Iterator[Item]:
    """Yield what cells leave beside their records."""
    for path in _own(suite, "exports"):
        yield Item("exports", path, _size(path), "`fedbench export` makes it again")
    for kind, pattern in (("logs", "logs/*.log"), ("locks", "locks/*.lock")):
        for path in sorted(suite.folder.glob(pattern)):
            unplanned = suite.planned is not None and path.stem not in suite.planned
            if suite.states.get(path.stem) == "ok" and not unplanned:
                yield Item(kind, path, _size(path), "its cell is finished", suite.lock(path.stem))


def _own(suite: _Suite, folder: str) -> list[Path]:
    """Return what a folder of a suite holds under the names of cells."""
    return [p for p in sorted((suite.folder / folder).glob("*")) if suite.knows(p.name)]


def _mirror(suite: _Suite) -> Iterator[Item]:
    path = suite.folder / "wandb"
    if path.is_dir() and suite.planned is not None:
        yield Item("wandb", path, _size(path), "made again from the records")


def _reproduced(suite: _Suite) -> Iterator[Item]:
    """Yield the records of comparisons; models and images go with `outputs` afterwards."""
    for path in sorted((suite.folder / "records").glob("*.json")):
        if suite.states.get(path.stem):
            reason = "it was computed to be compared with a record elsewhere"
            yield Item("reproduced", path, _size(path), reason, suite.lock(path.stem))


def _report(suite: _Suite) -> Iterator[Item]:
    path = suite.folder / "report"
    if path.is_dir() and suite.planned is not None:
        yield Item("report", path, _size(path), "`fedbench report` makes it again")


def _artefacts(home: Path, seeds: set[int]) -> Iterator[Item]:
    for path in sorted((home / "artefacts").glob("*/*.safetensors")):
        if not _KEY.fullmatch(path.stem):
            continue
        seed = _seed_of(path)
        if not seeds:
            reason = "no plan has an unfinished cell"
        elif seed is not None and seed not in seeds:
            reason = f"no plan has an unfinished cell of seed {seed}"
        else:
            continue
        yield Item("artefacts", path, _size(path), reason, path.with_suffix(".lock"))


def _seed_of(path: Path) -> int | None:
    """Return the seed of the cells that an artefact is for; None for all, or if it is damaged."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            note = json.loads(json.loads(file.read(min(length, 10**7)))["__metadata__"]["fedbench"])
        return int(note["settings"]["origin"]["seed"])
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None


def _cache(home: Path) -> Iterator[Item]:
    for path in sorted((home / "cache" / "data").glob("*.safetensors")):
        if not _DECODED.fullmatch(path.stem):
            continue
        name = path.name.rsplit("-", 2)[0]
        yield Item("cache", path, _size(path), KINDS["cache"], path.with_name(f"{name}.lock"))
    for path in sorted((home / "cache" / "data").glob("*.hashes")):
        yield Item("cache", path, _size(path), "hashes of data files; worked out again when needed")
    for path in sorted((home / "cache" / "answers").glob("*")):
        if _ID.fullmatch(path.name):
            yield Item("cache", path, _size(path), "answers of the command line; worked out again")


def _damaged(ours: Iterable[Path]) -> Iterator[Item]:
    for path in sorted(path for folder in ours for path in folder.rglob("*.damaged-*")):
        yield Item("damaged", path, _size(path), "it was damaged, and has been made again")


def _unfinished_files(ours: Iterable[Path]) -> Iterator[Item]:
    now = time.time()
    for path in sorted(path for folder in ours for path in folder.rglob(".*.part")):
        with suppress(FileNotFoundError):  # it has been finished meanwhile
            if now - path.lstat().st_mtime <= _YOUNG:
                continue
            yield Item("parts", path, _size(path), "its process was killed while it wrote")


def _size(path: Path) -> int:
    """Return the bytes of a file or of all below a folder; what vanishes meanwhile has none."""
    if path.is_dir() and not path.is_symlink():
        return sum(_size(inner) for inner in _listed(path))
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        with suppress(FileNotFoundError):  # its owner deletes it too
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
