"""One line a cell: ``runs.csv`` with what was computed, ``times.csv`` with what it took.

``runs.csv`` is the same on every machine that has the same code, device type and threads; all that
depends on how fast a machine is, and which one it was, stands in ``times.csv`` alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fedbench.bench.records.about import in_words, overrides
from fedbench.bench.records.completed import completed
from fedbench.bench.records.record import Record
from fedbench.bench.suites.planfile import Entry, Plan
from fedbench.report import labels
from fedbench.report.csvs import to_csv
from fedbench.report.frame import METRICS, SETTING, Row, Value, metrics, setting

_Cell = tuple[Entry, labels.Flat]

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


def values(plan: Plan, rows: Iterable[Row], failed: Iterable[Record]) -> list[dict[str, Value]]:
    """Return a line for every cell of a plan, by column, the columns of seconds among them.

    Good ones come in the order of the table's rows and of seeds, then failed, skipped and missing
    ones in the order of their settings. A board has them once (``Board.runs``).

    Args:
        plan: What was asked for.
        rows: Of its good records.
        failed: Its failed ones.
    """
    good = [
        {**_named(record, row.values), **_timing(record), **_result(record)}
        for row in rows
        for record in row.records
    ]
    return [*good, *_others(plan, {str(line["cell_id"]) for line in good}, failed)]


def times_csv(rows: Iterable[Row]) -> str:
    """Return ``times.csv``: every good record, in the order of ``runs.csv``."""
    return to_csv(
        TIME_COLUMNS,
        (
            {**_named(record, row.values), **_timing(record)}
            for row in rows
            for record in row.records
        ),
    )


def _others(plan: Plan, done: set[str], failed: Iterable[Record]) -> list[dict[str, Value]]:
    """Return the lines of the cells that have no result, and why they have none."""
    if done.issuperset(entry.cell_id for entry in plan.cells):
        return []
    known = {record.cell_id: record for record in failed}
    flats = labels.with_short_paths(labels.flatten(entry.settings) for entry in plan.cells)
    cells = [*zip(plan.cells, flats, strict=True)]
    told = _told_apart(cells)
    lines = [
        {**_without_result(entry, flat, known.get(entry.cell_id), plan), "settings": told(*cell)}
        for cell in cells
        for entry, flat in [cell]
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


def _told_apart(cells: Iterable[_Cell]) -> Callable[[Entry, labels.Flat], str | None]:
    """Return what writes the settings of a cell that vary among a plan's cells.

    Those of blocks count where they vary at all, those of rows where they vary within a method and
    preset of a block.
    """
    members: dict[str, list[labels.Flat]] = {}
    for entry, flat in cells:
        members.setdefault(_name(entry, flat), []).append(flat)
    every = [labels.of_block(flat) for flats in members.values() for flat in flats]
    beyond = labels.beyond_title(labels.varying(every))
    own = {name: labels.varying(map(labels.of_row, flats)) for name, flats in members.items()}

    def written(entry: Entry, flat: labels.Flat) -> str | None:
        return " ".join(labels.written(flat, [*beyond, *own[_name(entry, flat)]])) or None

    return written


def _name(entry: Entry, flat: labels.Flat) -> str:
    method = entry.settings["method"]
    return json.dumps([method["name"], method.get("preset"), labels.of_block(flat)], sort_keys=True)


def _without_result(
    entry: Entry, flat: labels.Flat, failed: Record | None, plan: Plan
) -> dict[str, Value]:
    status = "skipped" if entry.skip else "failed" if failed else "missing"
    return {
        "cell_id": entry.cell_id,
        "suite": plan.suite,
        "profile": plan.profile,
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
