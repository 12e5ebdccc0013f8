"""From records to rows: one row for each method and setting, with mean and deviation over seeds.

A row's columns are defined in ``docs/records.md``. Rows are sorted the same way whatever order
the records were written in.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fedbench.bench.records import Record

Value = str | int | float | None

#: Settings that tell blocks of a leaderboard apart.
BLOCK = ("dataset", "scheme", "beta", "clients")
#: A method without a budget is compared with every budget's methods.
BUDGET = ("budget_pixels", "budget_scope")


@dataclass(frozen=True)
class Row:
    """One method in one setting.

    Attributes:
        values: By column name.
        control: Whether it is a row to compare with.
    """

    values: dict[str, Value]
    control: bool

    @property
    def block(self) -> tuple[Value, ...]:
        """The setting that it shares with the rows it is compared with, budgets apart."""
        return tuple(self.values[name] for name in BLOCK)

    @property
    def budget(self) -> tuple[Value, ...]:
        """The storage that its shared set may take, and in which scope."""
        return tuple(self.values[name] for name in BUDGET)


def rows(records: Iterable[Record]) -> list[Row]:
    """Group successful records over seeds.

    Args:
        records: Of one suite; failed and skipped ones are left out.

    Returns:
        Rows sorted by block, contenders before controls, best accuracy first.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        if record.status == "ok":
            groups.setdefault(_key(record), []).append(record)
    found = [
        _row(sorted(group, key=lambda record: record.settings["seed"])) for group in groups.values()
    ]
    gaps = {
        row.block: row.values["accuracy_mean"]
        for row in found
        if row.values["method"] == "centralised" and row.values["preset"] is None
    }
    for row in found:
        best, mine = gaps.get(row.block), row.values["accuracy_mean"]
        if isinstance(best, float) and isinstance(mine, float):
            row.values["gap_to_centralised"] = best - mine
    return sorted(found, key=_order)


def _order(row: Row) -> tuple[Any, ...]:
    block = tuple((value is not None, value or 0) for value in row.block)
    accuracy = row.values["accuracy_mean"]
    score = -accuracy if isinstance(accuracy, float) else 0.0
    return (*block, row.control, score, str(row.values["label"]))


def _key(record: Record) -> tuple[Any, ...]:
    settings = {key: value for key, value in record.settings.items() if key != "seed"}
    return (record.suite, record.profile, repr(sorted(settings.items())))


def budget_pixels(record: Record) -> int | None:
    """Return the budget of a record in pixels, or None where its method has none."""
    budget = record.settings.get("budget")
    if not budget:
        return None
    if budget["pixels"]:
        return int(budget["pixels"])
    return int(budget["ipc"] * len(record.data["classes"]) * record.data["size"] ** 2)


def _row(records: list[Record]) -> Row:
    first = records[0]
    settings, method = first.settings, first.settings["method"]
    budget = settings.get("budget")
    models = {_model_label(model) for model in settings["models"]}
    values: dict[str, Value] = {
        "suite": first.suite,
        "dataset": settings["data"]["name"],
        "scheme": settings["partition"]["scheme"],
        "beta": _beta(settings["partition"]),
        "clients": settings["partition"]["clients"],
        "budget_pixels": budget_pixels(first),
        "budget_scope": budget["scope"] if budget else None,
        "model": "+".join(sorted(models)),
        "profile": first.profile,
        "method": method["name"],
        "preset": method.get("preset"),
        "label": first.method_label(),
        "n": len(records),
        "accuracy_mean": _mean(records, "accuracy"),
        "accuracy_std": _std(records, "accuracy"),
        "gap_to_centralised": None,
        "worst_client_mean": _mean(records, "worst_client"),
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
        "record_ids": " ".join(record.cell_id for record in records),
    }
    return Row(values, first.control)


def _model_label(model: dict[str, Any]) -> str:
    extra = [
        f"{letter}{model[key]}"
        for key, letter in (("width", "w"), ("depth", "d"), ("norm", ""))
        if model.get(key) is not None
    ]
    return "-".join([model["name"], *extra])


def _beta(partition: dict[str, Any]) -> float | None:
    return (
        partition["beta"]
        if "dirichlet" in partition["scheme"] or (partition["scheme"] == "floor_per_class")
        else None
    )


def _mean(records: list[Record], metric: str) -> float | None:
    values = [record.metrics.get(metric) for record in records]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _std(records: list[Record], metric: str) -> float | None:
    values = [
        record.metrics[metric] for record in records if record.metrics.get(metric) is not None
    ]
    return statistics.stdev(values) if len(values) > 1 else None


def _ledger(records: list[Record], name: str) -> float:
    return statistics.fmean(record.ledger[name] for record in records)


def blocks(found: Iterable[Row]) -> list[tuple[dict[str, Value], list[Row]]]:
    """Return the leaderboard's blocks: settings by name, and the rows that compete there.

    Each budget of a setting has a block; rows without a budget stand in all of them.
    """
    settings: dict[tuple[Value, ...], list[Row]] = {}
    for row in found:
        settings.setdefault(row.block, []).append(row)
    result = []
    for key, members in settings.items():
        budgets = list(dict.fromkeys(row.budget for row in members if row.budget[0] is not None))
        for budget in budgets or [(None, None)]:
            head = dict(zip((*BLOCK, *BUDGET), (*key, *budget), strict=True))
            result.append((head, [row for row in members if row.budget in (budget, (None, None))]))
    return result
