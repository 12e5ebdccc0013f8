"""From records to rows: one row for each method and setting, with mean and deviation over seeds.

A row's columns are defined in ``docs/records.md``; ``labels`` names rows and blocks. Rows are
sorted the same way whatever order the records were written in.
"""

from __future__ import annotations

import logging
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from fedbench.bench.records import Record
from fedbench.report import labels

log = logging.getLogger(__name__)

Value = str | int | float | None

#: A method without a budget is compared with every budget's methods.
BUDGET = ("budget_pixels", "budget_scope")
#: Columns that say where a row or a cell was computed, first in every table that is written.
SETTING = (
    "suite",
    "dataset",
    "scheme",
    "beta",
    "partition",
    "clients",
    *BUDGET,
    "model",
)
#: What the title of each block says.
HEAD = ("dataset", "scheme", "clients", "model")


@dataclass(frozen=True)
class Row:
    """One method in one setting.

    Attributes:
        values: By column name.
        control: Whether it is a row to compare with.
        settings: All that identifies it, by dotted name (see ``labels.flatten``). Data files and
            versions (``labels.origin``) are among it where rows that are else comparable differ.
        records: What it is made of, in order of seeds.
    """

    values: dict[str, Value]
    control: bool
    settings: labels.Flat
    records: tuple[Record, ...] = ()

    @property
    def block(self) -> tuple[tuple[str, Value], ...]:
        """The settings that it shares with the rows it is compared with, budgets apart."""
        return tuple(sorted(labels.of_block(self.settings).items()))

    @property
    def accuracies(self) -> dict[int, float]:
        """Its known accuracies, each in [0, 1], by seed."""
        known = {int(r.settings["seed"]): r.metrics.get("accuracy") for r in self.records}
        return {seed: float(v) for seed, v in known.items() if v is not None and isfinite(v)}

    @property
    def lacks_seeds(self) -> bool:
        """Whether it lacks a seed that half of its block's rows or more have."""
        return bool(self.values["lacks_seeds"])

    @property
    def budget(self) -> tuple[Value, ...]:
        """The storage that its shared set may take, and in which scope."""
        return tuple(self.values[name] for name in BUDGET)


def rows(records: Iterable[Record]) -> list[Row]:
    """Group successful records over seeds.

    Args:
        records: Of one suite; failed and skipped ones are left out.

    Returns:
        Rows sorted by block, contenders before controls, best accuracy first. No row is of several
        data files or versions, and no block of several but for its methods' versions.
    """
    good = [record for record in records if record.status == "ok"]
    groups: dict[tuple[Any, ...], list[Record]] = {}
    flats: dict[tuple[Any, ...], labels.Flat] = {}
    for record, flat in zip(good, _identities(good), strict=True):
        key = (record.suite, *sorted(flat.items()))
        groups.setdefault(key, []).append(record)
        flats[key] = flat
    controls = _controls(good)
    found = []
    for key, group in groups.items():
        group.sort(key=lambda record: (record.settings["seed"], record.cell_id))
        found.append(_row(group, flats[key], group[0].settings["method"]["name"] in controls))
    _mark_lacking(found)
    _add_gaps(found)
    _add_labels(found)
    return _ordered(found)


def _identities(records: list[Record]) -> list[labels.Flat]:
    """Return each record's settings, and its origin as far as it differs where it must not."""
    flats = [labels.flatten(record.settings) for record in records]
    origins = [labels.origin(record.versions, record.data) for record in records]
    for identity, part in ((labels.of_block, labels.of_block), (dict, labels.of_row)):
        alike: dict[tuple[Any, ...], list[int]] = {}
        for place, flat in enumerate(flats):
            alike.setdefault(tuple(sorted(identity(flat).items())), []).append(place)
        for places in alike.values():
            differing = labels.varying(part(origins[place]) for place in places)
            for place in places:
                own = {name: v for name, v in origins[place].items() if name in differing}
                flats[place] = {**flats[place], **own}
    return flats


def _controls(records: Iterable[Record]) -> set[str]:
    """Return the methods that are controls: those that any record says are."""
    said: dict[str, set[bool]] = {}
    for record in records:
        said.setdefault(record.settings["method"]["name"], set()).add(record.control)
    for name in sorted(name for name, values in said.items() if len(values) > 1):
        log.warning("records disagree whether %s is a control; it is not ranked", name)
    return {name for name, values in said.items() if True in values}


def _mark_lacking(found: list[Row]) -> None:
    """Say which rows lack a seed that half of their block's rows or more have."""
    members: dict[tuple[Any, ...], list[Row]] = {}
    for row in found:
        members.setdefault(row.block, []).append(row)
    for rows_of_block in members.values():
        counts = Counter(seed for row in rows_of_block for seed in row.accuracies)
        usual = {seed for seed, count in counts.items() if 2 * count >= len(rows_of_block)}
        for row in rows_of_block:
            row.values["lacks_seeds"] = not usual <= row.accuracies.keys()


def _add_gaps(found: list[Row]) -> None:
    """Set each row's distance to the centralised model of its block, trained as long if any is."""
    centralised: dict[tuple[Any, ...], list[Row]] = {}
    for row in found:
        if row.values["method"] == "centralised":
            centralised.setdefault(row.block, []).append(row)
    for row in found:
        if row.block in centralised:
            best = min(centralised[row.block], key=_distance).accuracies
            mine = row.accuracies
            gaps = [best[seed] - mine[seed] for seed in sorted(best.keys() & mine.keys())]
            row.values["gap_to_centralised"] = statistics.fmean(gaps) if gaps else None


def _distance(row: Row) -> tuple[float, str]:
    factor = float(row.settings.get("method.epoch_factor", 1.0))
    return abs(factor - 1.0), str(row.values["record_ids"])


def _add_labels(found: list[Row]) -> None:
    """Name in each row's label and ``settings`` what tells it from rows that are named alike."""
    beyond = _block_settings(found)
    for group in _alike(found):
        differing = labels.varying(labels.of_row(row.settings) for row in group)
        for row in group:
            own = labels.written(row.settings, differing)
            preset = row.values["preset"]
            row.values["label"] = labels.method_label(
                str(row.values["method"]), str(preset) if preset else None, own
            )
            row.values["settings"] = " ".join([*labels.written(row.settings, beyond), *own]) or None


def _alike(found: list[Row]) -> list[list[Row]]:
    """Return the rows that one table shows under the same method and preset."""
    named: dict[tuple[Any, ...], list[Row]] = {}
    for row in found:
        named.setdefault((row.block, row.values["method"], row.values["preset"]), []).append(row)
    groups = []
    for members in named.values():
        budgets = {row.budget for row in members}
        if (None, None) in budgets:  # its row stands beside those of every budget
            groups.append(members)
        else:
            groups += [[row for row in members if row.budget == budget] for budget in budgets]
    return groups


def _block_settings(found: list[Row]) -> list[str]:
    """Return the settings in which blocks differ, and which titles name only then."""
    return labels.beyond_title(labels.varying(labels.of_block(row.settings) for row in found))


def _ordered(found: list[Row]) -> list[Row]:
    present = set().union(*(labels.of_block(row.settings) for row in found))
    names = [*labels.FIRST, *sorted(present - set(labels.FIRST))]

    def order(row: Row) -> tuple[Any, ...]:
        block = tuple(_sortable(row.settings.get(name)) for name in names)
        accuracy = row.values["accuracy_mean"]
        score = -accuracy if isinstance(accuracy, float) else 1.0
        label, ids = str(row.values["label"]), str(row.values["record_ids"])
        return (*block, row.control, score, label, ids)

    return sorted(found, key=order)


def _sortable(value: Value) -> tuple[int, str | int | float]:
    """Return a key that sorts nothing before numbers before text."""
    if value is None:
        return (0, 0)
    return (2, value) if isinstance(value, str) else (1, value)


def setting(
    settings: Mapping[str, Any], flat: labels.Flat, data: Mapping[str, Any]
) -> dict[str, Value]:
    """Return the columns that say what a cell is.

    Args:
        settings: Of a record or of a plan's entry.
        flat: The same, flattened (see ``labels.flatten``).
        data: Of a record; empty where the cell has not run.
    """
    return {
        "dataset": flat["data.name"],
        "scheme": flat["partition.scheme"],
        "beta": flat.get("partition.beta"),
        "partition": " ".join([str(flat["partition.scheme"]), *labels.scheme_parameters(flat)]),
        "clients": flat["partition.clients"],
        "budget_pixels": budget_pixels(settings.get("budget"), data),
        "budget_scope": flat.get("budget.scope"),
        "model": labels.model_label(settings["models"]),
        "method": flat["method.name"],
    }


def budget_pixels(budget: Mapping[str, Any] | None, data: Mapping[str, Any]) -> int | None:
    """Return a budget in pixels, or None where the method has none or the data is not known yet."""
    if not budget:
        return None
    if budget["pixels"]:
        return int(budget["pixels"])
    return int(budget["ipc"] * len(data["classes"]) * data["size"] ** 2) if data else None


def _row(group: list[Record], flat: labels.Flat, control: bool) -> Row:
    # Cells may differ in what identifies no row; no seed counts twice.
    records = list({record.settings["seed"]: record for record in group}.values())
    first = records[0]
    values: dict[str, Value] = {
        "suite": first.suite,
        **setting(first.settings, flat, first.data),
        "profile": joined(record.profile for record in records),
        "preset": joined(record.settings["method"].get("preset") for record in records),
        "n": len(records),
        "lacks_seeds": False,
        "accuracy_mean": _finite(_mean(records, "accuracy")),
        "accuracy_std": _std(records, "accuracy"),
        "balanced_accuracy_mean": _finite(_mean(records, "balanced_accuracy")),
        "balanced_accuracy_std": _std(records, "balanced_accuracy"),
        "gap_to_centralised": None,
        "worst_client_mean": _mean(records, "worst_client"),
        "domain_mean": _mean(records, "domain_mean"),
        "nll_mean": _mean(records, "nll"),
        "ece_mean": _mean(records, "ece"),
        **{
            name: _ledger(records, name)
            for name in (
                "bytes_up_per_client",
                "bytes_down_per_client",
                "bytes_total",
                "rounds",
                "client_seconds",
                "server_seconds",
            )
        },
        "shared_pixels": max(record.shared_pixels for record in records),
        "resources": " ".join(first.resources) or None,
        "record_ids": " ".join(record.cell_id for record in group),
    }
    return Row(values, control, flat, tuple(group))


def joined(names: Iterable[str | None]) -> str | None:
    """Return the different names, sorted and joined by ``+``, or None where there are none."""
    return "+".join(sorted({name for name in names if name})) or None


def _mean(records: list[Record], metric: str) -> float | None:
    values = [record.metrics.get(metric) for record in records]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _finite(value: float | None) -> float | None:
    """Return a number, or None for what is none: it has no place on an axis or in a ranking."""
    return value if value is not None and isfinite(value) else None


def _std(records: list[Record], metric: str) -> float | None:
    values = [
        record.metrics[metric] for record in records if record.metrics.get(metric) is not None
    ]
    return statistics.stdev(values) if len(values) > 1 and all(map(isfinite, values)) else None


def _ledger(records: list[Record], name: str) -> float:
    return statistics.fmean(record.ledger[name] for record in records)


def blocks(found: Iterable[Row]) -> list[tuple[dict[str, Value], list[Row]]]:
    """Return the leaderboard's blocks: what a title says, by name, and the rows that compete there.

    Each budget of a setting has a block; rows without a budget stand in all of them.
    """
    found = list(found)
    beyond = _block_settings(found)
    settings: dict[tuple[Any, ...], list[Row]] = {}
    for row in found:
        settings.setdefault(row.block, []).append(row)
    result = []
    for members in settings.values():
        first = members[0]
        about = {name: first.values[name] for name in HEAD}
        about["parameters"] = " · ".join(labels.scheme_parameters(first.settings)) or None
        about["settings"] = " · ".join(labels.written(first.settings, beyond)) or None
        budgets = sorted(
            {row.budget for row in members if row.budget[0] is not None},
            key=lambda budget: [_sortable(part) for part in budget],
        )
        for budget in budgets or [(None, None)]:
            head = {**about, **dict(zip(BUDGET, budget, strict=True))}
            result.append((head, [row for row in members if row.budget in (budget, (None, None))]))
    return result
