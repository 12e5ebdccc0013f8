"""What a run in W&B holds, as plain values: of one record, or of a whole leaderboard.

Knows nothing of wandb. Equal records give equal contents, and a content's digest is how ``shelf``
tells whether a run is mirrored already.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fedbench.bench.records.about import in_words, overrides
from fedbench.bench.records.record import Record
from fedbench.report import labels, tables
from fedbench.report.board import Board
from fedbench.report.columns import tells_balanced
from fedbench.report.comparisons import Comparison, values
from fedbench.report.frame import METRICS, Row, Value, blocks

if TYPE_CHECKING:
    from fedbench.report.figures import Figure

#: What a curve may be drawn over; the first is the default.
AXES = ("step", "round", "bytes")
_TAG_LENGTH = 64
#: W&B refuses names of 128 characters and more.
_NAME_LENGTH = 127
#: The output that is a shared set of images; further ones are SET/NAME.
_SET = "synthetic"
_LEDGER = ("bytes_up", "bytes_down", "bytes_total", "rounds", "client_seconds", "server_seconds")
_RUN_COLUMNS = (
    *("cell_id", "status", "reason", "dataset", "partition", "clients", "budget_pixels"),
    *("budget_scope", "model"),
    *("method", "preset", "overrides", "control", "seed", *METRICS, *_LEDGER),
    *("shared_pixels", "wall_seconds"),
)
_PUBLISHED = (
    *("dataset", "method", "preset", "setting", "split", "selection", "source"),
    *("published", "published_std", "published_n"),
    *("ours", "ours_std", "ours_n", "difference", "row", "reasons"),
)


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        columns: Their names.
        data: Rows of strings, numbers or None.
    """

    columns: Sequence[str]
    data: Sequence[Sequence[Value]]


@dataclass(frozen=True)
class Content:
    """One run.

    Attributes:
        id: Its identity within a project, and in the name of its folder.
        name: What people read.
        group: The suite.
        job_type: ``cell`` or ``leaderboard``.
        tags: To filter by.
        notes: Free text.
        config: What was asked for; nested.
        summary: What came out; nested.
        history: Points of curves, in order.
        sheets: Tables by name.
        pages: HTML pages by name.
        sets: Digests of shared sets of images, by the output's name; shown and kept as artifacts.
        exit_code: 0, or 1 where the cell failed.
    """

    id: str
    name: str
    group: str
    job_type: str
    tags: Sequence[str]
    notes: str | None
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = ()
    sheets: Mapping[str, Sheet] = field(default_factory=dict)
    pages: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)
    exit_code: int = 0

    def to_json(self) -> str:
        """Return it in one line, equal for equal contents."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Content:
        """Return what ``to_json`` was asked of, lists in place of tuples."""
        values = json.loads(text)
        sheets = {name: Sheet(**sheet) for name, sheet in values.pop("sheets").items()}
        return Content(**values, sheets=sheets)

    def digest(self) -> str:
        """Return the SHA-256 of all of it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def of_record(record: Record) -> Content:
    """Return the run of a cell, good or failed."""
    settings = record.settings
    method, seed = settings["method"], settings["seed"]
    split = _split(record)
    data = labels.dataset(*labels.with_short_paths([labels.flatten(settings)]))
    return Content(
        id=record.cell_id,
        name=_named([record.method_label(), data, *split], f"seed {seed}"),
        group=record.suite,
        job_type="cell",
        tags=_tags(
            data,
            method["name"],
            method.get("preset"),
            "overridden" if overrides(method, record.about) else None,
            record.profile,
        ),
        notes=_notes(record),
        config=_config(record),
        summary=_summary(record),
        history=[_point(point) for point in record.curves],
        sets={
            name: digest
            for name, digest in record.outputs.items()
            if name == _SET or name.startswith(f"{_SET}/")
        },
        exit_code=int(record.status == "failed"),
    )


def _named(parts: Sequence[str], last: str) -> str:
    """Join the parts of a name; what is too long loses characters before its last part."""
    room = _NAME_LENGTH - len(last) - 3
    name = " · ".join(parts)
    return f"{name if len(name) <= room else name[: room - 1] + '…'} · {last}"


def _split(record: Record) -> list[str]:
    """Return the partition and the budget as a run's name has them."""
    flat = labels.flatten(record.settings)
    partition = [str(flat["partition.scheme"]), *labels.scheme_parameters(flat)]
    budget = _budget(record)
    words = " ".join([*partition, f"K={flat['partition.clients']}"])
    return [words, *([f"budget {budget}"] if budget else [])]


def _budget(record: Record) -> str | None:
    budget = record.settings.get("budget")
    if not budget:
        return None
    size = f"{budget['pixels']} px" if budget["pixels"] else f"ipc {budget['ipc']}"
    return f"{size} {budget['scope']}"


def _tags(*words: str | None) -> list[str]:
    """Return what W&B takes as tags: different ones of at most 64 characters."""
    return list(dict.fromkeys(word[:_TAG_LENGTH] for word in words if word))


def _notes(record: Record) -> str | None:
    parts = [part for part in (record.reason, record.traceback) if part]
    return "\n\n".join(parts) or None


def _config(record: Record) -> dict[str, Any]:
    """Return the settings, and what else has to be equal for equal numbers."""
    settings = dict(record.settings)
    models = settings.pop("models")
    return {
        **settings,
        # W&B filters and groups by entries of dictionaries, not of lists.
        "models": {str(place): model for place, model in enumerate(models)},
        "model": labels.model_label(models),
        "suite": record.suite,
        "profile": record.profile,
        "control": record.control,
        "overrides": in_words(overrides(record.settings["method"], record.about)) or None,
        "versions": record.versions,
        "data_used": {key: record.data[key] for key in record.data if key != "classes"},
        "partition_digest": record.partition.get("digest"),
        "resources": record.resources,
        "privileges": record.privileges,
        "environment": record.environment,
    }


def _summary(record: Record) -> dict[str, Any]:
    classes = record.data.get("classes", [])
    metrics = dict(record.metrics)
    models = metrics.pop("models", {})
    if "per_class" in metrics:
        metrics["per_class"] = dict(zip(map(str, classes), metrics["per_class"], strict=True))
    return {
        "status": record.status,
        "reason": record.reason,
        **metrics,
        # Clients times classes would be thousands of columns; the record has them.
        "models": {
            name: {key: value for key, value in scores.items() if not isinstance(value, list)}
            for name, scores in models.items()
        },
        "ledger": record.ledger,
        "shared_pixels": record.shared_pixels,
        "outputs": record.outputs,
        "wall_seconds": record.wall_seconds,
        "peak_memory_bytes": record.peak_memory_bytes,
        "peak_device_memory_bytes": record.peak_device_memory_bytes,
    }


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    """Return a point of a curve, such as ``{"step": 1, ..., "curve/global/accuracy": 0.4}``."""
    known = {key: value for key, value in point.items() if key != "name" and value is not None}
    return {
        key if key in AXES else f"curve/{point['name']}/{key}": value
        for key, value in known.items()
    }


def of_board(
    board: Board, figures: Iterable[Figure] = (), comparisons: Iterable[Comparison] = ()
) -> Content:
    """Return the leaderboard's run: all tables and figures of a suite and profile.

    Args:
        board: What was computed.
        figures: Of its report.
        comparisons: Published numbers beside ours.
    """
    plan = board.plan
    sheets = {
        "table": _table(board.views),
        "pivot": _pivot(board.views, "accuracy"),
        "runs": _runs(board),
        "published": _published(comparisons),
    }
    if tells_balanced(board.views):
        sheets["pivot_balanced"] = _pivot(board.views, "balanced_accuracy")
    return Content(
        id=_identifier(f"leaderboard-{plan.suite}-{plan.profile}"),
        name=f"leaderboard {plan.suite} ({plan.profile})",
        group=plan.suite,
        job_type="leaderboard",
        tags=_tags("leaderboard", plan.profile),
        notes=plan.title,
        config={"suite": plan.suite, "profile": plan.profile, "title": plan.title},
        summary={
            "cells": len(plan.cells),
            "ok": len(board.good),
            "failed": len(board.failed),
            "skipped": sum(entry.skip is not None for entry in plan.cells),
        },
        sheets={name: sheet for name, sheet in sheets.items() if sheet.data},
        pages={f"figures/{figure.name}": _page(figure.svg) for figure in figures},
    )


def _identifier(text: str) -> str:
    """Return text without the characters that W&B takes in no identity."""
    return re.sub(r"[/\\#?%:\s]", "-", text)[:128]


def _page(svg: str) -> str:
    """Return a figure as a page: W&B's images are of pixels only, its pages of anything."""
    return (
        '<!doctype html><html><head><meta charset="utf-8"></head>'
        f'<body style="margin:0;background:#fff">{svg}</body></html>'
    )


def _table(rows: Sequence[Row]) -> Sheet:
    """Return ``table.csv`` with every digit."""
    return Sheet(tables.COLUMNS, [[row.values[name] for name in tables.COLUMNS] for row in rows])


def _pivot(rows: Sequence[Row], metric: str) -> Sheet:
    """Return a line for each method and three columns for each block: numbers, which sort.

    Args:
        rows: Of a board.
        metric: What the columns show, in per cent: its mean, its deviation and n.
    """
    found = blocks(rows)
    names = _short_titles([tables.title(head) for head, _ in found])
    lines: dict[str, dict[str, Value]] = {}
    for name, (_, members) in zip(names, found, strict=True):
        for row in members:
            cells = lines.setdefault(tables.label(row), {})
            for part in ("mean", "std"):
                score = row.values[f"{metric}_{part}"]
                cells[f"{name}{part}"] = None if score is None else round(100 * float(score), 2)
            cells[f"{name}n"] = row.values["n"]
    columns = [f"{name}{part}" for name in names for part in ("mean", "std", "n")]
    data = [[label, *(cells.get(each) for each in columns)] for label, cells in lines.items()]
    return Sheet(["method", *columns], data)


def _short_titles(titles: Sequence[str]) -> list[str]:
    """Return what tells titles of blocks apart, with a space behind it; nothing of a single one."""
    parts = [
        [part.removeprefix("budget ").removesuffix(" total") for part in title.split(" · ")]
        for title in titles
    ]
    common = set.intersection(*map(set, parts)) if parts else set()
    own = [" ".join(part for part in each if part not in common) for each in parts]
    return [f"{name} " if name else "" for name in own]


def _runs(board: Board) -> Sheet:
    """Return a line for each record, in the table's order, failed ones last."""
    lines = [line for line in board.runs if line["status"] in ("ok", "failed")]
    return Sheet(_RUN_COLUMNS, [[line.get(name) for name in _RUN_COLUMNS] for line in lines])


def _published(comparisons: Iterable[Comparison]) -> Sheet:
    lines = [{**each, "ours_n": each["n"]} for each in map(values, comparisons)]
    return Sheet(_PUBLISHED, [[line[name] for name in _PUBLISHED] for line in lines])
