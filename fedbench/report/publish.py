"""From ``runs/SUITE`` to ``leaderboards/SUITE``: the records worth citing, and the report of them.

What is published is a plan and records like any other, so the board can be made again from them
alone. Model weights and shared sets stay behind; records name them by digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

from fedbench.bench.records.record import Record, read_records
from fedbench.bench.records.sources import PLUGINS, beside, digests_of, file_names, files_of
from fedbench.bench.suites.planfile import Entry, Plan, read_plan, write_plan
from fedbench.errors import SettingsError
from fedbench.files import write_atomic
from fedbench.report import labels
from fedbench.report.board import Board, read_board
from fedbench.report.build import WITHIN, build
from fedbench.report.columns import percent
from fedbench.report.diff import same
from fedbench.report.frame import Row, joined


@dataclass(frozen=True)
class Publication:
    """What a publication did.

    Attributes:
        folder: The published board.
        board: What it shows now.
        added: Records that were not there before.
        changed: Published accuracies that are others now, also by a cell that replaces one of other
            versions or data files: a cell's name, the old and the new one.
        removed: Published records whose row or block was computed anew with other versions of its
            parts or other data files, by name.
        left_out: What was not published, and why.
    """

    folder: Path
    board: Board
    added: int
    changed: tuple[tuple[str, float, float], ...]
    removed: tuple[str, ...]
    left_out: tuple[str, ...]


def publish(
    folder: Path,
    out: Path,
    *,
    min_seeds: int = 3,
    allow_dirty: bool = False,
    plugins: Sequence[Path] = (),
) -> Publication:
    """Copy the records that have enough seeds, and make the published board anew.

    Records published earlier stay, unless a cell has a new record, or new records that it would
    be compared with were computed by other versions of shared parts or from other data files, or
    those of its row by another version of its method.

    Args:
        folder: With ``plan.json`` and ``records/``, such as ``runs/digits``.
        out: The published board, such as ``leaderboards/digits``.
        min_seeds: Seeds that a row needs.
        allow_dirty: Take records of changed checkouts and of unknown commits too.
        plugins: Files of plugins that records were computed with. Those of the plan, and those that
            the board has already, are known.

    Raises:
        SettingsError: No row has that many seeds, a record's code is not known exactly or its
            plugin's file is not here, or records that are compared are of several data files or
            versions.
        StoreError: There is no plan, or a file cannot be written.
    """
    board = read_board(folder)
    _refuse_mixed(board.views)
    rows = [row for row in board.views if _seeds(row) >= min_seeds]
    if not rows:
        most = max(map(_seeds, board.views), default=0)
        raise SettingsError(
            f"{folder} has no row with {min_seeds} seeds (the most is {most}); run "
            f"`fedbench sweep` with --seeds {min_seeds}, or lower --min-seeds"
        )
    if not allow_dirty:
        _refuse_dirty([record for row in rows for record in row.records])
    earlier = _published(out)
    fresh = {record.cell_id: record for row in rows for record in row.records}
    stale = _outdated(earlier, fresh)
    kept = {name: record for name, record in earlier.items() if name not in stale}
    sources = _sources({**kept, **fresh}, out, [*plugins, *map(Path, board.plan.plugins)])
    for name in fresh:
        write_atomic(out / "records" / f"{name}.json", _bytes_of(folder, name))
    write_plan(out / "plan.json", _plan(board.plan, {**kept, **fresh}))
    for name in stale:
        (out / "records" / f"{name}.json").unlink(missing_ok=True)
    for name, content in sources.items():
        write_atomic(out / PLUGINS / name, content)
    for path in beside(out):
        if path.name not in sources:
            path.unlink()
    return Publication(
        folder=out,
        board=build(out, out, records=WITHIN).board,
        added=len(fresh.keys() - earlier.keys()),
        changed=_changed(earlier, fresh),
        removed=tuple(labels.cell_label(earlier[name].settings) for name in sorted(stale)),
        left_out=tuple(_left_out(board, min_seeds)),
    )


def _published(out: Path) -> dict[str, Record]:
    """Return the records of a published board by cell id; none where there is no board yet."""
    if not (out / "plan.json").exists():
        return {}
    planned = {entry.cell_id for entry in read_plan(out / "plan.json").cells}
    return {
        record.cell_id: record
        for _, record in read_records(out / "records")
        if record.cell_id in planned
    }


def _sources(records: Mapping[str, Record], out: Path, known: Sequence[Path]) -> dict[str, bytes]:
    """Return the plugin files that records were computed with, by the names that they get.

    Raises:
        SettingsError: One is nowhere, or has been edited since.
    """
    wanted: dict[str, tuple[str, Record]] = {}
    for record in records.values():
        for what, digest in digests_of(record.versions).items():
            wanted.setdefault(digest, (what, record))
    found = files_of(wanted, [*beside(out), *known])
    for digest in sorted(wanted.keys() - found.keys()):
        what, record = wanted[digest]
        raise SettingsError(
            f"{labels.cell_label(record.settings)} (cell {record.cell_id}) was computed with a "
            f"plugin ({what}) whose file is not here as it was then (SHA-256 {digest[:12]}); who "
            "cites the record needs it: give the file with --plugin FILE, or compute the cells "
            "again with the file as it is now"
        )
    names = file_names(found)
    return {names[digest]: path.read_bytes() for digest, path in found.items()}


def _bytes_of(folder: Path, name: str) -> bytes:
    return (folder / "records" / f"{name}.json").read_bytes()


def _refuse_dirty(records: Sequence[Record]) -> None:
    """Refuse records that name no commit, or whose checkout had changes.

    Raises:
        SettingsError: With the first of them and how many there are.
    """
    bad = [
        record
        for record in records
        if not record.environment.get("commit") or record.environment.get("dirty") is not False
    ]
    if bad:
        commit = bad[0].environment.get("commit")
        why = f"commit {commit[:12]} with changes" if commit else "an unknown commit"
        raise SettingsError(
            f"{len(bad)} of {len(records)} records cannot be traced to a commit, such as "
            f"{labels.cell_label(bad[0].settings)} (cell {bad[0].cell_id}), made by {why}; commit, "
            "compute them again (`fedbench sweep --force`), or publish with --allow-dirty"
        )


def _refuse_mixed(rows: Iterable[Row]) -> None:
    """Refuse rows or blocks that a difference in data files or versions alone has parted.

    Raises:
        SettingsError: With what differs.
    """
    for row in rows:
        names = labels.origin(row.records[0].versions, row.records[0].data)
        parted = labels.written(row.settings, [name for name in names if name in row.settings])
        if parted:
            raise SettingsError(
                f"{_title(row)}, is of {', '.join(parted)}, and records of the same setting are of "
                "other data files or versions; compute them again (`fedbench sweep --force`)"
            )


def _outdated(earlier: Mapping[str, Record], fresh: Mapping[str, Record]) -> set[str]:
    """Return published cells that may not stand in one block or row with the new ones."""
    blocks = {_block_key(record): _shared(record) for record in fresh.values()}
    rows = {_row_key(record): _own(record) for record in fresh.values()}
    places = {_place(record) for record in fresh.values()}
    return {
        name
        for name, record in earlier.items()
        if blocks.get(_block_key(record), _shared(record)) != _shared(record)
        or rows.get(_row_key(record), _own(record)) != _own(record)
        or (name not in fresh and _place(record) in places)
    }


def _block_key(record: Record) -> str:
    return json.dumps(labels.of_block(labels.flatten(record.settings)), sort_keys=True)


def _row_key(record: Record) -> str:
    return json.dumps(labels.flatten(record.settings), sort_keys=True)


def _place(record: Record) -> tuple[str, int]:
    return _row_key(record), record.settings["seed"]


def _shared(record: Record) -> labels.Flat:
    """Return what has to be equal within a block besides its settings."""
    return labels.of_block(labels.origin(record.versions, record.data))


def _own(record: Record) -> labels.Flat:
    """Return what has to be equal within a row besides that: the method's version."""
    return labels.of_row(labels.origin(record.versions, record.data))


def _seeds(row: Row) -> int:
    return int(row.values["n"] or 0)


def _plan(plan: Plan, records: Mapping[str, Record]) -> Plan:
    """Return the plan of what is published, in order of cell ids."""
    cells = tuple(Entry(name, None, records[name].settings) for name in sorted(records))
    profiles = joined(record.profile for record in records.values())
    return Plan(suite=plan.suite, title=plan.title, profile=profiles or plan.profile, cells=cells)


def _changed(
    earlier: Mapping[str, Record], fresh: Mapping[str, Record]
) -> tuple[tuple[str, float, float], ...]:
    before = {_place(record): _accuracy(record) for record in earlier.values()}
    found = []
    for name in sorted(fresh):
        new = _accuracy(fresh[name])
        old = before.get(_place(fresh[name]), new)
        if not same(old, new):
            found.append((labels.cell_label(fresh[name].settings), old, new))
    return tuple(found)


def _accuracy(record: Record) -> float:
    known = record.metrics.get("accuracy")
    return nan if known is None else float(known)


def _left_out(board: Board, min_seeds: int) -> Iterable[str]:
    for row in board.views:
        if _seeds(row) < min_seeds:
            yield f"{_title(row)}: n={_seeds(row)}, {min_seeds} needed"
    done = {record.cell_id for record in board.good}
    failed = {record.cell_id for record in board.failed}
    for entry in board.plan.cells:
        if entry.cell_id not in done:
            why = entry.skip or ("failed" if entry.cell_id in failed else "has not run")
            yield f"cell {entry.cell_id} ({entry.settings['method']['name']}): {why}"


def _title(row: Row) -> str:
    accuracy = percent(row.values["accuracy_mean"])
    return f"{row.values['label']}, {row.values['partition']}, accuracy {accuracy} %"
