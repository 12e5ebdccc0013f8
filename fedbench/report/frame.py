"""From records to rows, as pandas frames: one row for each method and setting over its seeds.

``records_frame`` and ``rows_frame`` are what users read (``docs/python.md``); ``views`` gives the
same rows as objects to what prints and draws them. A row's columns are defined in
``docs/columns.md``; ``labels`` names rows and blocks. Rows are sorted the same way whatever order
the records were written in.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from fedbench.bench.records.about import STAR, in_words, method_label, overrides, preset_label
from fedbench.bench.records.record import Record
from fedbench.report import labels
from fedbench.report.labels import Flat

log = logging.getLogger(__name__)

Value = str | int | float | None

#: A method without a budget is compared with every budget's methods.
BUDGET = ("budget_pixels", "budget_scope")
_BUDGET = ("budget.ipc", "budget.pixels", "budget.scope")
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
METRICS = (
    *("accuracy", "balanced_accuracy", "domain"),
    *("worst_client", "own_worst_client", "nll", "ece"),
)
#: Metrics of which rows have the deviation as well.
SPREAD = ("accuracy", "balanced_accuracy", "domain")
LEDGER = (
    "bytes_up_per_client",
    "bytes_down_per_client",
    "bytes_total",
    "rounds",
    "client_seconds",
    "server_seconds",
)

_NAMED = (*SETTING, "profile", "method", "preset", "preset_label", "overrides")
_RECORD = (
    *(*_NAMED, "seed", "control", *METRICS, *LEDGER),
    *("shared_pixels", "resources", "cell_id", "record", "flat"),
)
#: What ``Row.values`` has, besides the columns of ``table.csv``.
_ROW = (
    *(*_NAMED, "settings", "label", "usual", "control", "n", "lacks_seeds", "gap_to_centralised"),
    *(f"{name}_mean" for name in METRICS),
    *(f"{name}_std" for name in SPREAD),
    *(*LEDGER, "shared_pixels", "resources", "record_ids"),
)


@dataclass(frozen=True)
class Row:
    """One method in one setting: a line of the frame of rows.

    Attributes:
        values: By column name; None where the frame has nothing.
        control: Whether it is a row to compare with.
        settings: All that identifies it, by dotted name (see ``labels.flatten``). Data files and
            versions (``labels.origin``) are among it where rows that are else comparable differ.
        records: What it is made of, in order of seeds.
    """

    values: dict[str, Value]
    control: bool
    settings: Flat
    records: tuple[Record, ...] = ()

    @cached_property
    def block(self) -> tuple[tuple[str, Value], ...]:
        """The settings that it shares with the rows it is compared with, budgets apart."""
        return tuple(sorted(labels.of_block(self.settings).items()))

    @property
    def accuracies(self) -> dict[int, float]:
        """Its known accuracies, each in [0, 1], by seed."""
        known = {int(r.settings["seed"]): r.metrics.get("accuracy") for r in self.records}
        return {seed: float(v) for seed, v in known.items() if v is not None and math.isfinite(v)}

    @property
    def overridden(self) -> set[str]:
        """The settings of its method that are not those meant by its name (``about.overrides``)."""
        return _overridden(self.records[0])

    @property
    def lacks_seeds(self) -> bool:
        """Whether it lacks a seed that half of its block's rows or more have."""
        return bool(self.values["lacks_seeds"])

    @property
    def ranked(self) -> bool:
        """Whether it competes with the other rows of its block: no control, measured, all seeds."""
        return not (self.control or self.lacks_seeds) and self.values["accuracy_mean"] is not None

    @property
    def budget(self) -> tuple[Value, ...]:
        """The storage that its shared set may take, and in which scope."""
        return tuple(self.values[name] for name in BUDGET)


def records_frame(records: Iterable[Record], plan: Iterable[Flat] = ()) -> pd.DataFrame:
    """Return good records as a frame, one line each, in order of seed and cell id.

    Columns: ``SETTING``, profile, method, preset, seed, control, metrics, the ledger,
    ``shared_pixels``, ``resources``, ``cell_id``; ``row`` and ``block``, equal where records are of
    one row, or of rows that are compared; ``record`` and ``flat``, the objects that a line is of;
    then every setting by its dotted name, a folder of data by its own name. What does not apply, or
    is not finite, is missing.

    Args:
        records: Those that are not good are left out.
        plan: Settings of all cells that names of folders have to tell apart; of the records where
            it is left out.
    """
    good = [record for record in records if record.status == "ok"]
    good.sort(key=lambda record: (int(record.settings["seed"]), record.cell_id))
    controls = _controls(good)
    lines = []
    for record, flat in zip(good, _identities(good, plan), strict=True):
        values, method = setting(record.settings, flat, record.data), record.settings["method"]
        lines.append(
            {
                **dict.fromkeys(_RECORD),
                "suite": record.suite,
                **values,
                "profile": record.profile,
                "preset": method.get("preset"),
                "preset_label": preset_label(method, record.about),
                "overrides": in_words(overrides(method, record.about)) or None,
                "seed": record.settings["seed"],
                "control": values["method"] in controls,
                **metrics(record),
                **record.ledger,
                "shared_pixels": record.shared_pixels,
                "resources": " ".join(record.resources) or None,
                "cell_id": record.cell_id,
                "row": _key(flat),
                "block": _key(labels.of_block(flat)),
                "record": record,
                "flat": flat,
                **flat,
            }
        )
    frame = pd.DataFrame(lines, columns=None if lines else [*_RECORD, "row", "block"])
    frame = frame.astype({"budget_pixels": "Int64", **dict.fromkeys((*METRICS, *LEDGER), float)})
    scores = frame[list(METRICS)]
    frame[list(METRICS)] = scores.where(np.isfinite(scores))
    return frame


def rows_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each method and setting, over seeds.

    Sorted by block, contenders before controls, best accuracy first. No row is of several data
    files or versions, and no block of several but for its methods' versions. Columns are those of
    ``table.csv``, ``label``, ``lacks_seeds``, ``control``, ``block``, the ledger's, all settings by
    their dotted names, and ``records``, the objects that a row is of.

    Args:
        records: See ``records_frame``.
    """
    # Cells may differ in what identifies no row; no seed counts twice.
    narrow = records[[*_RECORD, "row", "block"]]  # settings, which are many, come at the end
    once = narrow.drop_duplicates(["row", "seed"], keep="last")
    rows = narrow.drop_duplicates("row").set_index("row")
    rows = rows.drop(columns=[*METRICS, "cell_id", "seed"])
    groups, everything = once.groupby("row"), records.groupby("row")
    for name in ("suite", "profile", "preset", "preset_label"):
        rows[name] = groups[name].agg(joined_labels if name == "preset_label" else joined)
    rows["overrides"] = groups["overrides"].agg(joined, by="; ")
    rows["n"] = groups.size()
    for name in METRICS:
        unsound = once["record"].map(lambda record, name=name: _is_nan(metrics(record)[name]))
        sound = ~unsound.astype(bool).groupby(once["row"]).any()
        rows[f"{name}_mean"] = groups[name].mean().where(sound)
        if name in SPREAD:
            rows[f"{name}_std"] = groups[name].std().where(sound)
    rows[list(LEDGER)] = groups[list(LEDGER)].mean()
    rows["shared_pixels"] = groups["shared_pixels"].max()
    rows["record_ids"] = everything["cell_id"].agg(" ".join)
    rows["records"] = everything["record"].agg(tuple)
    rows["lacks_seeds"] = _lacking(rows, once)
    rows["gap_to_centralised"] = _gaps(rows, once)
    rows[["label", "settings", "usual"]] = _labels(rows)
    settings = pd.DataFrame(list(rows["flat"]), index=rows.index)
    found = pd.concat([rows.drop(columns="record"), settings], axis="columns")
    return found.loc[_order(rows)].reset_index(drop=True)


def _lacking(rows: pd.DataFrame, records: pd.DataFrame) -> pd.Series:
    """Say which rows lack a seed that half of their block's rows or more have."""
    known = records.dropna(subset="accuracy")
    counts = known.groupby(["block", "seed"], as_index=False).size()
    members = rows.groupby("block").size()
    usual = counts[2 * counts["size"] >= counts["block"].map(members).astype(float)]
    wanted = rows.reset_index().merge(usual, on="block")[["row", "seed"]]
    found = wanted.merge(known[["row", "seed"]], how="left", indicator=True)
    lacking = found.loc[found["_merge"] == "left_only", "row"]
    return pd.Series(rows.index.isin(lacking), rows.index)


def _gaps(rows: pd.DataFrame, records: pd.DataFrame) -> pd.Series:
    """Return each row's distance to the centralised model of its block, trained as long if any."""
    central = rows[rows["method"] == "centralised"].copy()
    longer = [float(flat.get("method.epoch_factor", 1.0)) - 1 for flat in central["flat"]]
    central["longer"] = np.abs(longer)
    central = central.sort_values(["longer", "record_ids"]).drop_duplicates("block")
    best = records[records["row"].isin(central.index)][["block", "seed", "accuracy"]]
    pairs = records[["row", "block", "seed", "accuracy"]].merge(
        best, on=["block", "seed"], suffixes=("", "_best")
    )
    return (pairs["accuracy_best"] - pairs["accuracy"]).groupby(pairs["row"]).mean()


def _labels(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each row's label, settings and what is usual.

    ``settings`` tells it from rows that are named alike; what is ``usual`` among these is in a
    label only where it is otherwise.
    """
    beyond = _beyond(rows["flat"])
    narrow = rows[["method", "preset", "preset_label", "block", *BUDGET, "flat", "record"]]
    found: dict[object, dict[str, Value]] = {}
    for _, named_alike in narrow.groupby(["method", "preset"], dropna=False):
        usual = _usual(named_alike["flat"])
        unsaid = " ".join(labels.written(usual, usual)) or None
        for group in _alike(named_alike):
            own = [labels.of_row(flat) for flat in group["flat"]]
            telling, differing = labels.telling(own), labels.varying(own)
            most = labels.besides(own, [*telling, *usual])
            shown = group[["method", "preset_label", "flat", "record"]]
            for key, method, preset, flat, record in shown.itertuples(name=None):
                unusual = [name for name in usual if flat[name] != usual[name]]
                unusual += labels.beside_most(flat, most)
                said = sorted({*unusual, *(name for name in telling if name not in usual)})
                star = labels.starred(_text(preset), _overridden(record), said)
                name = method_label(method, star, labels.written(flat, said))
                words = " ".join(labels.written(flat, [*beyond, *differing])) or None
                found[key] = {"label": name, "settings": words, "usual": unsaid}
    return pd.DataFrame.from_dict(found, orient="index", columns=["label", "settings", "usual"])


def _usual(flats: Iterable[Flat]) -> Flat:
    """Return what the labels of rows of one method and preset need not say in any block."""
    own = [
        {name: v for name, v in labels.of_row(flat).items() if name not in _BUDGET}
        for flat in flats
    ]
    return labels.usual(own, labels.telling(own))


def _alike(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the rows, of one method and preset, that one table shows together."""
    for _, members in rows.groupby("block"):
        if members["budget_pixels"].isna().any():  # stands beside those of every budget
            yield members
        else:
            yield from (group for _, group in members.groupby(list(BUDGET)))


def _order(rows: pd.DataFrame) -> list[object]:
    """Return the rows' keys in the order of tables."""
    blocks = [labels.of_block(flat) for flat in rows["flat"]]
    names = [*labels.FIRST, *sorted(set().union(*blocks) - set(labels.FIRST))]

    parts = rows[["control", "accuracy_mean", "label", "record_ids"]].itertuples(index=False)
    places: dict[object, tuple[Any, ...]] = {}
    for key, flat, (control, mean, *rest) in zip(rows.index, blocks, parts, strict=True):
        block = (_sortable(flat.get(name)) for name in names)
        places[key] = (*block, control, 1.0 if pd.isna(mean) else -mean, *rest)
    return sorted(places, key=lambda key: places[key])


def views(rows: pd.DataFrame) -> list[Row]:
    """Return the lines of a frame of rows as objects."""
    plain = rows[[name for name in _ROW if name in rows]].astype(object)
    found = plain.where(plain.notna(), None).to_dict("records")
    lines = [{str(name): value for name, value in line.items()} for line in found]
    parts = zip(lines, rows["control"], rows["flat"], rows["records"], strict=True)
    return [Row(line, bool(control), flat, records) for line, control, flat, records in parts]


def rows(records: Iterable[Record]) -> list[Row]:
    """Return the rows of successful records, as objects."""
    return views(rows_frame(records_frame(records)))


def _identities(records: list[Record], plan: Iterable[Flat]) -> list[Flat]:
    """Return each record's settings, and its origin as far as it differs where it must not."""
    flats = labels.with_short_paths([labels.flatten(each.settings) for each in records], plan)
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


def _beyond(flats: Iterable[Flat]) -> list[str]:
    """Return the settings in which blocks differ, and which titles name only then."""
    return labels.beyond_title(labels.varying(map(labels.of_block, flats)))


def _key(flat: Flat) -> str:
    return json.dumps(flat, sort_keys=True)


def _text(value: object) -> str | None:
    """Return what a cell of a frame holds, None where it holds nothing."""
    return value if isinstance(value, str) else None


def metrics(record: Record) -> dict[str, float | None]:
    """Return a record's ``METRICS``.

    The smallest accuracy over clients is of one model on each client's label mix, or of each
    client's own model on its own mix: two quantities, so two names. A mean over domains is a
    metric of one record, and means over seeds are made of it: ``domain``.
    """
    found = {name: record.metrics.get(name) for name in METRICS}
    found["domain"] = record.metrics.get("domain_mean")
    if "own_mix" in record.metrics:
        found["own_worst_client"], found["worst_client"] = found["worst_client"], None
    return found


def _is_nan(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)


def _controls(records: Iterable[Record]) -> set[str]:
    """Return the methods that are controls: those that any record says are."""
    said: dict[str, set[bool]] = {}
    for record in records:
        said.setdefault(record.settings["method"]["name"], set()).add(record.control)
    for name in sorted(name for name, values in said.items() if len(values) > 1):
        log.warning("records disagree whether %s is a control; it is not ranked", name)
    return {name for name, values in said.items() if True in values}


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
        flat: The same, flattened (see ``labels.flatten`` and ``labels.with_short_paths``).
        data: Of a record; empty where the cell has not run.
    """
    return {
        "dataset": labels.dataset(flat),
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


def _overridden(record: Record) -> set[str]:
    return {f"method.{name}" for name in overrides(record.settings["method"], record.about)}


def joined_labels(names: Iterable[object]) -> str | None:
    """Return different presets' labels joined; the star alone only where there is no other."""
    names = list(names)
    return joined(name for name in names if name != STAR) or joined(names)


def joined(names: Iterable[object], by: str = "+") -> str | None:
    """Return the different names, sorted and joined, or None where there are none."""
    return by.join(sorted({name for name in names if isinstance(name, str)})) or None


def blocks(found: Iterable[Row]) -> list[tuple[dict[str, Value], list[Row]]]:
    """Return the leaderboard's blocks: what a title says, by name, and the rows that compete there.

    Each budget of a setting has a block; rows without a budget stand in all of them.
    """
    found = list(found)
    beyond = _beyond(row.settings for row in found)
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
