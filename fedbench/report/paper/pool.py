"""All records of a folder of boards by setting: what a cell of a paper's table is looked for in."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from fedbench.bench.records.record import Record, read_records
from fedbench.report import labels
from fedbench.report.paper.spec import Query, Value

#: Stands for a setting that takes all there is where it is left out.
ALL = "all"
_MODEL = ("width", "depth", "norm")
#: Resources of a server that are images, and what the former are called.
_UNUSED, _DATASET = "unused", "dataset:"
_OWN = "the clients' own data set"


@dataclass(frozen=True)
class Group:
    """Records of one setting over seeds, on one board.

    Attributes:
        board: The board's folder.
        records: By seed.
        facts: Settings by dotted name as text, with what follows from them.
    """

    board: str
    records: tuple[Record, ...]
    facts: dict[str, str]

    @property
    def ids(self) -> tuple[str, ...]:
        """The records' ids, by seed."""
        return tuple(record.cell_id for record in self.records)

    @property
    def profile(self) -> str:
        """The profile that they were computed for."""
        return "+".join(sorted({record.profile or "none" for record in self.records}))


@dataclass(frozen=True)
class Result:
    """A mean over seeds.

    Attributes:
        mean: In [0, 1]; of a difference in [-1, 1].
        std: Standard deviation over seeds; None for one seed.
        n: Seeds.
    """

    mean: float
    std: float | None
    n: int


def _accuracy(record: Record) -> float | None:
    value = record.metrics.get("accuracy")
    return None if value is None else float(value)


def _of_clients(record: Record, name: str) -> float | None:
    """Return the mean over clients of what a method's findings say of each."""
    clients = record.findings.get("clients") or []
    values = [float(each[name]) for each in clients if each.get(name) is not None]
    return statistics.fmean(values) if values else None


def _local_base(record: Record) -> float | None:
    """Return what the images that distillation began from give on the clients' hold-outs."""
    return _of_clients(record, "base_accuracy")


def _local_distilled(record: Record) -> float | None:
    """Return what distilled images give on the clients' hold-outs."""
    return None if _local_base(record) is None else _of_clients(record, "accuracy")


def _local_gain(record: Record) -> float | None:
    """Return by how much distilled images beat those they began from."""
    base, distilled = _local_base(record), _local_distilled(record)
    return None if base is None or distilled is None else distilled - base


#: What a table's numbers may be.
METRICS: dict[str, Callable[[Record], float | None]] = {
    "accuracy": _accuracy,
    "local_base": _local_base,
    "local_distilled": _local_distilled,
    "local_gain": _local_gain,
}


def result(group: Group, metric: str) -> Result | None:
    """Return a group's mean, standard deviation and n; None where no record has the metric."""
    values = [value for value in map(METRICS[metric], group.records) if value is not None]
    if not values:
        return None
    std = statistics.stdev(values) if len(values) > 1 else None
    return Result(statistics.fmean(values), std, len(values))


def read_pool(folders: Iterable[Path]) -> list[Group]:
    """Group the good records of boards, each of which is a folder with ``records/``."""
    found: list[Group] = []
    for folder in folders:
        records = [record for _, record in read_records(folder / "records")]
        found += group(folder.name, [record for record in records if record.status == "ok"])
    return found


def boards(folder: Path) -> list[Path]:
    """Return the boards of a folder such as ``leaderboards/``."""
    return sorted(path.parent for path in folder.glob("*/plan.json"))


def group(board: str, records: Sequence[Record]) -> list[Group]:
    """Group records that differ in their seeds alone; of two with one seed the last counts."""
    members: dict[str, dict[int, Record]] = {}
    for record in sorted(records, key=lambda record: record.cell_id):
        members.setdefault(_key(record), {})[record.settings["seed"]] = record
    groups = []
    for by_seed in members.values():
        ordered = tuple(by_seed[seed] for seed in sorted(by_seed))
        groups.append(Group(board, ordered, facts(ordered[0])))
    return groups


def over_runs(groups: Sequence[Group], name: str) -> list[Group]:
    """Join groups of one board that differ in one setting alone, whose values count as seeds.

    Args:
        groups: Any.
        name: The setting's dotted name. Groups in which it is unset stay as they are.

    Returns:
        In the same order; of joined ones the setting has its values in their order, as ``42, 84``.
    """
    members: dict[str, list[Group]] = {}
    for each in groups:
        key = json.dumps(each.ids) if name not in each.facts else _key(each.records[0], name)
        members.setdefault(f"{each.board} {key}", []).append(each)
    found = []
    for several in members.values():
        ordered = sorted(several, key=lambda one: one.facts.get(name, ""))
        if len(ordered) > 1:
            records = tuple(record for one in ordered for record in one.records)
            values = ", ".join(one.facts[name] for one in ordered)
            ordered = [Group(ordered[0].board, records, {**ordered[0].facts, name: values})]
        found += ordered
    return found


def _key(record: Record, but: str = "") -> str:
    """Return what groups are told apart by: all settings but the seed and one other."""
    flat = {name: value for name, value in labels.flatten(record.settings).items() if name != but}
    origin = labels.origin(record.versions, record.data)
    return json.dumps([flat, origin, record.settings["method"].get("preset")], sort_keys=True)


def facts(record: Record) -> dict[str, str]:
    """Return a record's settings as text, with what follows from them.

    ``model`` joins the architectures' names by ``+``; ``model.OPTION`` is an option that all of
    them share; ``local_epochs`` are the method's epochs a round, or the recipe's where it has none;
    ``budget.ipc`` is known for a budget in pixels too, and counts all clients' images;
    ``data.train_size`` and ``data.test_size`` are ``all`` where nothing was left out; ``public`` is
    the data set whose images the server has.
    """
    settings = record.settings
    found = {name: str(value) for name, value in labels.flatten(settings).items()}
    method, models = settings["method"], settings["models"]
    found |= {"method": method["name"], "dataset": settings["data"]["name"]}
    found["preset"] = str(method.get("preset") or "none")
    found["model"] = "+".join(model["name"] for model in models)
    for option in _MODEL:
        values = {model.get(option) for model in models}
        if len(values) == 1 and None not in values:
            found[f"model.{option}"] = str(values.pop())
    for name in ("data.train_size", "data.test_size"):
        found.setdefault(name, ALL)
    if "budget.pixels" in found and record.data:
        image = float(record.data["size"]) ** 2
        ipc = float(found["budget.pixels"]) / len(record.data["classes"]) / image
        found["budget.ipc"] = f"{ipc:g}"
    if "budget.ipc" in found and found.get("budget.scope") == "per_client":
        clients = float(found["partition.clients"])
        found["budget.ipc"] = f"{float(found['budget.ipc']) * clients:g}"
    for name, _, _ in (resource.partition("@") for resource in record.resources):
        if name == _UNUSED or name.startswith(_DATASET):
            found["public"] = _OWN if name == _UNUSED else name.removeprefix(_DATASET)
    epochs = found.get("recipe.epochs")
    if "method.rounds" in found:  # else they are epochs of the server
        epochs = found.get("method.epochs", epochs)
    return found if epochs is None else {**found, "local_epochs": epochs}


def fits(facts: Mapping[str, str | None], query: Query) -> bool:
    """Return whether settings answer a query; a value of None asks for a setting that is unset."""
    return all(same(value, facts.get(name)) for name, value in query.items())


def same(wanted: Value, value: str | None) -> bool:
    """Return whether a setting is the wanted value or one of several; text may hold ``*``."""
    if isinstance(wanted, list):
        return any(same(each, value) for each in wanted)
    if wanted is None or value is None:
        return wanted is None and value is None
    return _alike(str(wanted), value)


@cache
def _alike(wanted: str, value: str) -> bool:
    try:
        return float(wanted) == float(value)
    except ValueError:  # the star is the only sign of a pattern
        pattern = wanted.lower().replace("[", "[[]").replace("?", "[?]")
        return fnmatchcase(value.lower(), pattern)
