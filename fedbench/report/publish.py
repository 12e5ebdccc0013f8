"""From ``runs/SUITE`` to ``leaderboards/SUITE``: the records worth citing, and the report of them.

What is published is a plan and records like any other, so the board can be made again from them
alone. Model weights and shared sets stay behind; records name them by digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedbench.bench.planfile import Entry, Plan, read_plan, write_plan
from fedbench.bench.records import Record, read_records
from fedbench.errors import SettingsError
from fedbench.files import write_atomic
from fedbench.report import labels
from fedbench.report.board import Board, read_board
from fedbench.report.build import build
from fedbench.report.frame import Row, joined
from fedbench.report.tables import percent

#: Where a published board finds its records.
WITHIN = "records/"


@dataclass(frozen=True)
class Publication:
    """What a publication did.

    Attributes:
        folder: The published board.
        board: What it shows now.
        added: Records that were not there before.
        changed: Published accuracies that are others now: a cell's name, the old and the new one.
        removed: Published records whose row was computed anew with other versions of its parts or
            other data files, by name.
        left_out: What was not published, and why.
    """

    folder: Path
    board: Board
    added: int
    changed: tuple[tuple[str, float, float], ...]
    removed: tuple[str, ...]
    left_out: tuple[str, ...]


def publish(
    folder: Path, out: Path, *, min_seeds: int = 3, allow_dirty: bool = False
) -> Publication:
    """Copy the records that have enough seeds, and make the published board anew.

    Records published earlier stay, unless a cell has a new record, or the row of a cell was
    computed by other versions of its parts or from other data files.

    Args:
        folder: With ``plan.json`` and ``records/``, such as ``runs/digits``.
        out: The published board, such as ``leaderboards/digits``.
        min_seeds: Seeds that a row needs.
        allow_dirty: Take records of changed checkouts and of unknown commits too.

    Raises:
        SettingsError: No row has that many seeds, or a record's code is not known exactly.
        StoreError: There is no plan, or a file cannot be written.
    """
    board = read_board(folder)
    rows = [row for row in board.rows if len(row.records) >= min_seeds]
    if not rows:
        most = max((len(row.records) for row in board.rows), default=0)
        raise SettingsError(
            f"{folder} has no row with {min_seeds} seeds (the most is {most}); run "
            f"`fedbench sweep` with --seeds {min_seeds}, or lower --min-seeds"
        )
    if not allow_dirty:
        _refuse_dirty([record for row in rows for record in row.records])
    earlier = _published(out)
    stale = _outdated(earlier.values(), rows)
    fresh = {record.cell_id: record for row in rows for record in row.records}
    kept = {name: record for name, record in earlier.items() if name not in stale}
    for name in fresh:
        write_atomic(out / "records" / f"{name}.json", _bytes_of(folder, name))
    write_plan(out / "plan.json", _plan(board.plan, {**kept, **fresh}))
    for name in stale:
        (out / "records" / f"{name}.json").unlink(missing_ok=True)
    return Publication(
        folder=out,
        board=build(out, out, records=WITHIN).board,
        added=len(fresh.keys() - earlier.keys()),
        changed=_changed(kept, fresh),
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


def _outdated(earlier: Iterable[Record], rows: Iterable[Row]) -> set[str]:
    """Return published records that may not stand in one row with the new ones."""
    now = {_row_key(row.records[0]): _origin(row.records[0]) for row in rows}
    return {
        record.cell_id
        for record in earlier
        if now.get(_row_key(record), _origin(record)) != _origin(record)
    }


def _row_key(record: Record) -> str:
    return json.dumps(labels.flatten(record.settings), sort_keys=True)


def _origin(record: Record) -> str:
    """Return what has to be equal within a row besides its settings."""
    return json.dumps([record.versions, record.data.get("fingerprint")], sort_keys=True)


def _plan(plan: Plan, records: Mapping[str, Record]) -> Plan:
    """Return the plan of what is published, in order of cell ids."""
    cells = tuple(Entry(name, None, records[name].settings) for name in sorted(records))
    profiles = joined(record.profile for record in records.values())
    return Plan(suite=plan.suite, title=plan.title, profile=profiles or plan.profile, cells=cells)


def _changed(
    kept: Mapping[str, Record], fresh: Mapping[str, Record]
) -> tuple[tuple[str, float, float], ...]:
    found = []
    for name in sorted(kept.keys() & fresh.keys()):
        old, new = (float(records[name].metrics["accuracy"]) for records in (kept, fresh))
        if old != new:
            found.append((labels.cell_label(fresh[name].settings), old, new))
    return tuple(found)


def _left_out(board: Board, min_seeds: int) -> Iterable[str]:
    for row in board.rows:
        if len(row.records) < min_seeds:
            yield f"{_title(row)}: n={len(row.records)}, {min_seeds} needed"
    done = {record.cell_id for record in board.records}
    failed = {record.cell_id for record in board.failed}
    for entry in board.plan.cells:
        if entry.cell_id not in done:
            why = entry.skip or ("failed" if entry.cell_id in failed else "has not run")
            yield f"cell {entry.cell_id} ({entry.settings['method']['name']}): {why}"


def _title(row: Row) -> str:
    accuracy = percent(row.values["accuracy_mean"])
    return f"{row.values['label']}, {row.values['partition']}, accuracy {accuracy} %"
