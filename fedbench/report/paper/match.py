"""The nearest records to a published number, and every setting in which they differ from it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fedbench.bench.records.about import leaves, meant_by, overrides, text
from fedbench.report.paper.pool import ALL, Group, fits, same
from fedbench.report.paper.spec import Cell, Query, Value, listed
from fedbench.report.published import NOT_SPLIT, Published

#: How far profiles are from a paper's sizes; one that is not listed is farthest. What is published
#: is of quick's sizes; a paper's own splits and union are of its sizes; `tenth` has a tenth of its
#: epochs and `union_quarter` a quarter of its steps.
_PROFILES = {
    **{
        "paper": 0,
        "splits": 0,
        "architectures": 0,
        "union": 0,
        "standard": 1,
        "tenth": 1,
        "union_quarter": 1,
    },
    **{"published": 2, "quick": 2, "smoke": 3},
}
_REFERENCE = "reference"
#: What a query asks of published numbers beyond their facts.
_WORDS = ("says", "file", "source")
#: What the numbers of two sources have in common where they stand in one cell.
_ALSO = ("method", "preset", "dataset", "partition.beta", "method.rounds")
_SELECTIONS = {
    "best": "best on test",
    "unknown": "best or last: not stated",
}
#: How deviations call settings.
WORDS = {
    "data.train_size": "training images",
    "data.test_size": "test images",
    "dataset": "data set",
    "model.width": "width",
    "partition.clients": "clients",
    "partition.scheme": "split",
    "partition.beta": "β",
    "partition.validation": "share held out",
    "participation": "participation",
    "method.rounds": "rounds",
    "method.steps": "steps",
    "method.iterations": "iterations",
    "method.crops": "crops",
    "method.selected": "crops distilled on",
    "local_epochs": "local epochs",
    "recipe.lr": "learning rate",
    "recipe.batch_size": "training batch",
    "recipe.optimizer": "optimiser",
    "recipe.epochs": "training epochs",
    "method.epochs": "the method's epochs",
    "method.batch_size": "the method's batch",
    "model.norm": "norm layers",
    "student.epochs": "epochs on the shared set",
    "budget.ipc": "images per class in all",
    "budget.pixels": "budget in pixels",
    "public": "public images of",
}


@dataclass(frozen=True)
class Deviation:
    """One way in which our run is not the source's.

    Attributes:
        name: The setting, in words or by dotted name.
        ours: Its value here.
        theirs: There.
        there: What it is compared with.
    """

    name: str
    ours: str
    theirs: str
    there: Literal["paper", "others", "preset", "default"] = "paper"

    def __str__(self) -> str:
        return f"{self.name} {self.ours} ({self.there}: {self.theirs})"


@dataclass(frozen=True)
class Match:
    """A group that answers a cell.

    Attributes:
        group: Of records.
        deviations: From the source's settings.
    """

    group: Group
    deviations: tuple[Deviation, ...]

    @property
    def elsewhere(self) -> bool:
        """Whether its records are of another data set than the source's."""
        return WORDS["dataset"] in {deviation.name for deviation in self.deviations}

    @property
    def distance(self) -> tuple[object, ...]:
        """How far it is from the source: preset, profile, deviations, seeds, in this order."""
        return (
            "preset" in {deviation.name for deviation in self.deviations},
            rank(self.group),
            len(self.deviations),
            -len(self.group.records),
            self.group.board,
            self.group.ids,
        )


def numbers_of(cell: Cell, numbers: Iterable[tuple[str, Published]]) -> list[Published]:
    """Return the published numbers that a cell asks for.

    Args:
        cell: With its query.
        numbers: Each with the name of its file.
    """
    asked = {name: value for name, value in cell.number.items() if name not in ("says", "file")}
    phrases = listed(cell.number.get("says"))
    files = cell.number.get("file", "*")
    return [
        number
        for file, number in numbers
        if number.metric == cell.metric
        and fits(number.facts, asked)
        and all(str(phrase) in number.setting for phrase in phrases)
        and same(files, file)
    ]


def also(cell: Cell, own: Sequence[Published], numbers: Iterable[Published]) -> list[Published]:
    """Return other sources' numbers for a cell's method, data set and skew.

    Args:
        cell: With its query: what it asks for, and its clients if it names any, are those of the
            numbers where the source has none.
        own: The source's numbers.
        numbers: Those to choose from.
    """
    asked: Query
    if own:
        asked = {name: own[0].facts.get(name) for name in _ALSO}
    else:
        asked = {name: cell.number.get(name) for name in _ALSO}
        asked |= {name: v for name, v in cell.number.items() if name == "partition.clients"}
    if asked["partition.beta"] is None:
        return []
    known = {number.source for number in own}
    return [
        other
        for other in numbers
        if other.metric == cell.metric and other.source not in known and fits(other.facts, asked)
    ]


def candidates(
    ours: Query,
    paper: Query,
    number: Published | None,
    groups: Iterable[Group],
    code: Collection[str] = (),
) -> list[Match]:
    """Return the groups that answer a query, the nearest to a source first.

    Records of another data set answer only where there is none of the right one. Nearest is the
    paper's preset before another, then the nearer profile, then the fewer deviations, then the more
    seeds.

    Args:
        ours: The query.
        paper: What the specification says of the source's settings.
        number: The published number, with the settings that it names itself.
        groups: Of all boards that count.
        code: Methods whose ``reference`` preset is the source's code.
    """
    found = [
        Match(group, deviations(group, paper, number, code))
        for group in groups
        if fits(group.facts, ours)
    ]
    right = [match for match in found if not match.elsewhere]
    return sorted(right or found, key=lambda match: match.distance)


def deviations(
    group: Group, paper: Query, number: Published | None, code: Collection[str] = ()
) -> tuple[Deviation, ...]:
    """Return every stated setting of a source that a group does not have.

    Args:
        group: Records of ours.
        paper: What the specification says of the source's settings.
        number: The published number, with the settings that it names itself.
        code: Methods whose ``reference`` preset is the source's code.
    """
    theirs: dict[str, Value] = {"data.train_size": ALL, "data.test_size": ALL, **paper}
    if number is not None:
        theirs |= {"dataset": number.dataset, **number.where, **number.theirs}
        if number.preset:
            theirs["preset"] = number.preset
        if number.split != NOT_SPLIT:
            theirs["partition.scheme"] = number.split
        elif not same(0, group.facts.get("partition.validation")):
            theirs.setdefault("partition.validation", 0)
    if "public" in group.facts and group.facts["method"] not in code:
        theirs.setdefault("public", "not stated")
    theirs.pop("budget.scope", None)  # `budget.ipc` counts images in all, whoever holds them
    found = [
        Deviation(word(name), group.facts.get(name, "unset"), written(value))
        for name, value in theirs.items()
        if not same(value, group.facts.get(name))
    ]
    found += _of_code(group, theirs, code)
    found += _of_suite(group, theirs, code)
    if number is not None and number.selection in _SELECTIONS:
        found.append(Deviation("accuracy of", "the last step", _SELECTIONS[number.selection]))
    if number is not None and number.n != len(group.records):
        there = "not stated" if number.n is None else str(number.n)
        found.append(Deviation("n", str(len(group.records)), there))
    return tuple(found)


def _of_code(group: Group, stated: Query, code: Collection[str]) -> list[Deviation]:
    """Return the settings of a method that are not those of the released code.

    That is what a preset ``reference`` names, of the source's own methods and of records that claim
    it; a source that runs a method in another preset's way says so.
    """
    here = dict(leaves(group.records[0].settings["method"]))
    return [
        Deviation(word(f"method.{name}"), text(here[name]), f"{text(meant)} in its code")
        for name, meant in _in_code(group, stated, code).items()
        if f"method.{name}" not in stated and name in here and here[name] != meant
    ]


def _in_code(group: Group, stated: Query, code: Collection[str]) -> dict[str, object]:
    """Return what the source's released code sets, where that is what stands beside ours."""
    method, preset = group.facts["method"], group.facts["preset"]
    if stated.get("preset", _REFERENCE) != _REFERENCE or (
        method not in code and preset != _REFERENCE
    ):
        return {}
    return meant_by(method, _REFERENCE)


def _of_suite(group: Group, stated: Query, code: Collection[str]) -> list[Deviation]:
    """Return what else a suite has overridden: most defaults of a method are its source's."""
    record, known = group.records[0], _in_code(group, stated, code)
    method = record.settings["method"]
    there: Literal["preset", "default"] = "default" if method.get("preset") is None else "preset"
    local = "local_epochs" in stated and "method.rounds" in group.facts
    said = {*stated, *(["method.epochs"] if local else [])}
    return [
        Deviation(word(f"method.{name}"), text(ours), text(meant), there)
        for name, (ours, meant) in overrides(method, record.about).items()
        if f"method.{name}" not in said and name not in known
    ]


def word(name: str) -> str:
    """Return how deviations call a setting."""
    plain = re.sub(r"^(method|data|model|partition)\.", "", name)
    plain = re.sub(r"^recipe\.", "training ", plain)
    return WORDS.get(name, plain.replace("_", " "))


def rank(group: Group) -> int:
    """Return how far a group's profile is from the papers' sizes, 0 being theirs."""
    return max(_PROFILES.get(name, len(_PROFILES)) for name in group.profile.split("+"))


def written(value: Value) -> str:
    """Return what is asked for, or what a source states, in words."""
    if isinstance(value, list):
        return " or ".join(map(written, value))
    return "unset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
