"""One line a cell: ``runs.csv`` with what was computed, ``times.csv`` with what it took.

``runs.csv`` is the same on every machine that has the same code, device type and threads; all that
depends on how fast a machine is, and which one it was, stands in ``times.csv`` alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from fedbench.bench.records.about import in_words, overrides
from fedbench.bench.records.completed import completed
from fedbench.bench.records.record import Record
from fedbench.bench.suites.planfile import Entry, Plan
from fedbench.report import labels
from fedbench.report.board import Board
from fedbench.report.csvs import as_text, to_csv
from fedbench.report.frame import METRICS, SETTING, Value, metrics, setting

_WHAT = ("cell_id", *SETTING, "profile", "method", "preset", "overrides", "settings", "seed")
_BYTES = (
    "bytes_up",
    "bytes_down",
    "bytes_total",
    "payload_up",
    "payload_down",
    "bytes_up_per_client",
    "bytes_down_per_client",
    "bytes_busiest_client",
    "rounds",
)
_SECONDS = ("client_seconds", "server_seconds", "shared_seconds", "harness_seconds")
_TIMES = (
    "wall_seconds",
    "evaluation_seconds",
    "waiting_seconds",
    "peak_memory_bytes",
    "peak_device_memory_bytes",
)
_MACHINE = ("device", "threads")

RUN_COLUMNS = (
    *_WHAT,
    "status",
    "reason",
    *METRICS,
    *_BYTES,
    "shared_pixels",
    "resources",
    "privileges",
    "train_size",
    "test_size",
    "data_fingerprint",
    "partition_digest",
    "outputs",
    *_MACHINE,
    "commit",
    "dirty",
    "all_settings",
)
TIME_COLUMNS = (
    *_WHAT,
    *_SECONDS,
    *_TIMES,
    *_MACHINE,
    "device_name",
    "cpus",
    "system",
    "packages",
)


def runs_csv(board: Board) -> str:
    """Return ``runs.csv``: every cell of the plan.

    Good ones come in the order of the table's rows and of seeds, then failed, skipped and missing
    ones in the order of their settings.
    """
    return to_csv(RUN_COLUMNS, values(board))


def lines(board: Board) -> list[dict[str, str]]:
    """Return the lines of ``runs.csv`` as text by column."""
    return as_text(RUN_COLUMNS, values(board))


def values(board: Board) -> list[dict[str, Value]]:
    """Return the lines of ``runs.csv`` as values by column, those of seconds among them."""
    good = [
        {**_named(record, row.values), **_timing(record), **_result(record)}
        for row in board.views
        for record in row.records
    ]
    return [*good, *_others(board)]


def times_csv(board: Board) -> str:
    """Return ``times.csv``: every good record, in the order of ``runs.csv``."""
    return to_csv(
        TIME_COLUMNS,
        (
            {**_named(record, row.values), **_timing(record)}
            for row in board.views
            for record in row.records
        ),
    )


def _others(board: Board) -> list[dict[str, Value]]:
    """Return the lines of the cells that have no result, and why they have none."""
    done = {record.cell_id for record in board.good}
    failed = {record.cell_id: record for record in board.failed}
    cells = board.plan.cells
    told = _told_apart(board.plan)
    flats = labels.with_short_paths(labels.flatten(entry.settings) for entry in cells)
    lines = [
        {**_without_result(entry, flat, failed.get(entry.cell_id), board), "settings": told(entry)}
        for entry, flat in zip(cells, flats, strict=True)
        if entry.cell_id not in done
    ]
    return sorted(
        lines,
        key=lambda line: (
            str(line["status"]),
            str(line["all_settings"]),
            int(line["seed"] or 0),
            str(line["cell_id"]),
        ),
    )


def _told_apart(plan: Plan) -> Callable[[Entry], str | None]:
    """Return what writes the settings of a cell that vary among the plan's cells.

    Those of blocks count where they vary at all, those of rows where they vary within a method and
    preset of a block.
    """
    members: dict[str, list[labels.Flat]] = {}
    for entry in plan.cells:
        members.setdefault(_name(entry), []).append(labels.flatten(entry.settings))
    every = [labels.of_block(flat) for flats in members.values() for flat in flats]
    beyond = labels.beyond_title(labels.varying(every))
    own = {name: labels.varying(map(labels.of_row, flats)) for name, flats in members.items()}

    def written(entry: Entry) -> str | None:
        names = [*beyond, *own[_name(entry)]]
        return " ".join(labels.written(labels.flatten(entry.settings), names)) or None

    return written


def _name(entry: Entry) -> str:
    method = entry.settings["method"]
    block = labels.of_block(labels.flatten(entry.settings))
    return json.dumps([method["name"], method.get("preset"), block], sort_keys=True)


def _without_result(
    entry: Entry, flat: labels.Flat, failed: Record | None, board: Board
) -> dict[str, Value]:
    status = "skipped" if entry.skip else "failed" if failed else "missing"
    return {
        "cell_id": entry.cell_id,
        "suite": board.plan.suite,
        "profile": board.plan.profile,
        **setting(entry.settings, flat, {}),
        "preset": entry.settings["method"].get("preset"),
        "overrides": in_words(overrides(entry.settings["method"])) or None,
        "seed": entry.settings["seed"],
        "status": status,
        "reason": entry.skip or (failed.reason if failed else None),
        "control": failed.control if failed else None,
        **({**_timing(failed), **_provenance(failed)} if failed and not entry.skip else {}),
        "all_settings": _all(entry.settings, flat),
    }


def _named(record: Record, row: Mapping[str, Value]) -> dict[str, Value]:
    """Return the columns that say which cell a line is about."""
    return {
        **row,
        "cell_id": record.cell_id,
        "profile": record.profile,
        "preset": record.settings["method"].get("preset"),
        "overrides": in_words(overrides(record.settings["method"], record.about)) or None,
        "seed": record.settings["seed"],
    }


def _result(record: Record) -> dict[str, Value]:
    return {
        "status": record.status,
        "reason": None,
        **metrics(record),
        **{name: record.ledger.get(name) for name in _BYTES},
        "shared_pixels": record.shared_pixels,
        "resources": " ".join(record.resources) or None,
        "privileges": "; ".join(record.privileges) or None,
        "train_size": record.data.get("train"),
        "test_size": record.data.get("test"),
        "data_fingerprint": record.data.get("fingerprint"),
        "partition_digest": record.partition.get("digest"),
        "outputs": _pairs(record.outputs),
        **_provenance(record),
        "all_settings": _all(record.settings, labels.flatten(record.settings)),
    }


def _provenance(record: Record) -> dict[str, Value]:
    found = {name: record.environment.get(name) for name in (*_MACHINE, "commit", "dirty")}
    # Which of several accelerators a worker took changes no number.
    return {**found, "device": str(found["device"] or "").partition(":")[0] or None}


def _timing(record: Record) -> dict[str, Value]:
    where = record.environment
    return {
        **{name: record.ledger.get(name) for name in _SECONDS},
        **{name: getattr(record, name) for name in _TIMES},
        **{name: where.get(name) for name in (*_MACHINE, "device_name", "cpus", "system")},
        "packages": _pairs(where.get("packages", {})),
    }


def _pairs(values: Mapping[str, str]) -> str | None:
    return " ".join(f"{name}={value}" for name, value in sorted(values.items())) or None


def _all(settings: Mapping[str, Any], flat: labels.Flat) -> str:
    """Return what identifies a row (see ``labels.flatten``) as JSON, lists as lists."""
    whole = completed(settings)
    values: dict[str, Any] = {}
    for name in sorted(flat):
        value: Any = whole
        for part in name.split("."):
            value = value[part]
        values[name] = value
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
