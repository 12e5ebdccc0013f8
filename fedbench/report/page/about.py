"""What stands around the page's table: head, published numbers, cells without a result, origin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fedbench.bench.records.about import STAR, method_label
from fedbench.report import labels, tables
from fedbench.report.board import Board
from fedbench.report.columns import accuracy, count
from fedbench.report.comparisons import Comparison
from fedbench.report.csvs import as_text, signless_zero
from fedbench.report.page.lines import greek, record_link
from fedbench.report.runs import RUN_COLUMNS


@dataclass(frozen=True)
class Beside:
    """A published number and ours, as texts.

    Attributes:
        found: The comparison.
        name: Method and preset.
        theirs: The published accuracy in percent.
        ours: That of our row, or empty.
        difference: Ours minus theirs in percentage points, or empty.
    """

    found: Comparison
    name: str
    theirs: str
    ours: str
    difference: str


@dataclass
class Gap:
    """Cells of one method that have no result for one reason.

    Attributes:
        status: ``failed``, ``skipped`` or ``missing``.
        name: Method and preset.
        reason: Why.
        cells: How many.
        places: Their settings, each with its seeds and their records' links.
    """

    status: str
    name: str
    reason: str
    cells: int = 0
    places: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)


def facts(board: Board) -> list[tuple[str, str]]:
    """Return what the page's head says of the suite, name by name."""
    plan = board.plan
    flats = labels.with_short_paths(labels.flatten(entry.settings) for entry in plan.cells)
    clients = sorted({int(flat["partition.clients"]) for flat in flats})
    seeds = sorted({int(entry.settings["seed"]) for entry in plan.cells})
    found = [
        ("Profile", plan.profile),
        ("Cells", _done(board)),
        ("Seeds", ", ".join(map(str, seeds))),
        ("Data", " · ".join(_sizes(board) or _unique(map(labels.dataset, flats)))),
        ("Split", " · ".join(_splits(flats))),
        ("Clients", "K = " + ", ".join(map(str, clients))),
    ]
    if plan.overrides:
        found.append(("Overrides", _assigned(plan.overrides)))
    return [(name, text) for name, text in found if text]


def _splits(flats: Iterable[labels.Flat]) -> list[str]:
    """Return the schemes, each with the values that its parameters take."""
    schemes: dict[str, dict[str, set[str]]] = {}
    for flat in flats:
        taken = schemes.setdefault(str(flat["partition.scheme"]), {})
        for pair in labels.scheme_parameters(flat):
            name, _, value = greek(pair).partition("=")
            taken.setdefault(name, set()).add(value)
    return [
        " ".join([scheme, *(f"{name}={_listed(values)}" for name, values in taken.items())])
        for scheme, taken in sorted(schemes.items())
    ]


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted(values, key=labels.natural))


def _done(board: Board) -> str:
    statuses = [line["status"] for line in board.runs]
    parts = [f"{statuses.count('ok')} of {len(board.plan.cells)} done"]
    for status in ("failed", "skipped", "missing"):
        if statuses.count(status):
            parts.append(f"{statuses.count(status)} {status}")
    return ", ".join(parts)


def _sizes(board: Board) -> list[str]:
    """Return each data set with its number of images, as records have them."""
    names = {each.cell_id: row.values["dataset"] for row in board.views for each in row.records}
    return _unique(
        f"{names[record.cell_id]} ({count(record.data['train'])} training, "
        f"{count(record.data['test'])} test images)"
        for record in board.good
        if {"train", "test"} <= record.data.keys()
    )


def origin(board: Board) -> list[tuple[str, str]]:
    """Return where the records come from: code, device type, threads, versions of packages."""
    good = (line for line in board.runs if line["status"] == "ok")
    lines = as_text(("commit", "dirty", "device", "threads"), good)
    commits = _unique(
        line["commit"][:12] + (" with uncommitted changes" if line["dirty"] == "true" else "")
        for line in lines
    )
    packages: dict[str, set[str]] = {}
    for record in board.good:
        for name, version in record.environment.get("packages", {}).items():
            packages.setdefault(str(name), set()).add(str(version))
    found = [
        ("Commit", ", ".join(commits)),
        ("Device", ", ".join(_unique(line["device"] for line in lines))),
        ("Threads", _listed({line["threads"] for line in lines} - {""})),
        ("Versions", " · ".join(f"{n} {_listed(v)}" for n, v in sorted(packages.items()))),
    ]
    return [(name, text) for name, text in found if text]


def beside(found: Comparison) -> Beside:
    """Return a comparison as texts."""
    number, row = found.published, found.row
    gap = found.difference
    return Beside(
        found,
        method_label(number.method, number.preset),
        accuracy(number.accuracy, number.std),
        tables.accuracy_of(row) if row is not None else "",
        "" if gap is None else signless_zero(f"{100 * gap:+.2f}"),
    )


def without_result(board: Board, records: str) -> list[Gap]:
    """Return the planned cells without a result, by method and reason: failed ones first.

    Args:
        board: A suite's plan and records.
        records: Link to the folder of record files.
    """
    found: dict[tuple[str, ...], Gap] = {}
    lines = as_text(RUN_COLUMNS, (line for line in board.runs if line["status"] != "ok"))
    without = {line["cell_id"] for line in lines}
    settings = {
        entry.cell_id: labels.flatten(entry.settings)
        for entry in board.plan.cells
        if entry.cell_id in without
    }
    differing = _differing(settings[line["cell_id"]] for line in lines)
    for line in lines:
        preset = line["preset"] + (STAR if line["overrides"] else "")
        name = method_label(line["method"], preset or None)
        reason = line["reason"] or "not computed yet"
        gap = found.setdefault((line["status"], name, reason), Gap(line["status"], name, reason))
        own = labels.written(settings[line["cell_id"]], differing[line["method"]])
        place = " · ".join(
            [line["dataset"], greek(line["partition"]), f"K={line['clients']}", line["model"], *own]
        )
        link = record_link(line["cell_id"], records) if line["status"] == "failed" else None
        gap.places.setdefault(place, []).append((line["seed"], link))
        gap.cells += 1
    order = ("failed", "missing", "skipped")
    return sorted(found.values(), key=lambda gap: (order.index(gap.status), gap.name, gap.reason))


def _differing(flats: Iterable[labels.Flat]) -> dict[str, list[str]]:
    """Return, by method, in which settings of its rows its cells differ."""
    of_method: dict[str, list[labels.Flat]] = {}
    for flat in flats:
        of_method.setdefault(str(flat["method.name"]), []).append(labels.of_row(flat))
    return {method: labels.varying(several) for method, several in of_method.items()}


def excluded(board: Board) -> list[tuple[str, list[str]]]:
    """Return what the suite leaves out on purpose: each reason with the combinations."""
    found: dict[str, list[str]] = {}
    for entry in board.plan.excluded:
        values = {name: value for name, value in entry.values.items() if name != "seed"}
        found.setdefault(entry.reason, []).append(_assigned(values))
    return [(reason, _unique(values)) for reason, values in sorted(found.items())]


def _assigned(values: Mapping[str, object]) -> str:
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
    )


def _unique(values: Iterable[str]) -> list[str]:
    return sorted({value for value in values if value})
