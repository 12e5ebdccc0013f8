"""Which of the records that answer a table's cells stand in it: those that are alike.

Cells that were each filled with what is nearest to them would set records of one split, network or
number of images beside those of another, and a difference between two rows would be one of blocks.
So cells of one data set share a block, as far as what they ask for allows it, and one that takes
its records from elsewhere says so.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedbench.report import labels
from fedbench.report.paper.match import Deviation, Match, rank, word
from fedbench.report.paper.pool import ALL, Group
from fedbench.report.paper.spec import Cell

Place = tuple[int, int]

#: Follow from other facts, or say where a file lies.
_TOLD = ("models", "data.name", "data.path", "local_epochs", "budget.scope", "budget.pixels")
#: Which method a row is of, what its server has, and what happens to what it shared.
_OF_ROWS = ("method", "preset", "public", "student.", "evaluation.")
#: The parameters of a split, and those that all have.
_SPLIT = "partition."
_KEPT = frozenset({"partition.clients", "partition.validation", "partition.scheme"})
#: All that rows of one block may differ in.
_OWN = (*_OF_ROWS, "method.", "budget.")
#: What a cell counts when a unit's block is sought, by profile; others count one.
_WEIGHTS = {
    **dict.fromkeys(("paper", "splits", "architectures", "union"), 3.0),
    **{"standard": 2.0, "smoke": 0.1},
}


@dataclass(frozen=True)
class Choice:
    """The records of one cell.

    Attributes:
        match: They, and how they differ from the source's setting.
        apart: How they differ from the others of their data set; empty where they are like them.
    """

    match: Match
    apart: tuple[Deviation, ...] = ()


def choose(
    cells: Mapping[Place, Cell], candidates: Mapping[Place, Sequence[Match]], *, alone: bool
) -> tuple[dict[Place, Choice], dict[Place, Group]]:
    """Choose the records of a table's cells.

    Cells that ask for the same data, split and networks are a unit, mostly a column. A unit has the
    block that answers most of it, and a cell takes the records of that which are most like the
    others; records of another block only where it has none, or none of as near a profile. Records
    stand in one cell: in that from which they deviate least.

    Args:
        cells: By row and column.
        candidates: Of each cell, the nearest first.
        alone: Whether a cell may have records of another block than its unit's.

    Returns:
        Cells that have records, and for each of these what those of its data set are like.
    """
    free = _free(cells.values())
    everywhere = _weights(candidates.values(), free)
    found: dict[Place, Match] = {}
    heads: dict[Place, Group] = {}
    for places in _units(cells):
        asked = {place: known for place in places if (known := candidates[place])}
        if not asked:
            continue
        # The right data set's records before any other's.
        right = [known for known in asked.values() if not known[0].elsewhere]
        block = _block_of(right or asked.values(), free, everywhere)
        inside = {
            place: [match for match in known if _block(match.group, free) == block]
            for place, known in asked.items()
        }
        head = _head([known for known in inside.values() if known], free)
        for place, known in asked.items():
            best = _nearest_to(head, inside[place], free)
            if best is None or (alone and rank(best.group) > rank(known[0].group)):
                best = known[0] if alone else None
            if best is not None:
                found[place], heads[place] = best, head
    kept = _each_once(found)
    usual = _usual([heads[place] for place in kept], free)
    heads = {place: usual[heads[place].ids] for place in kept}
    return {
        place: Choice(match, tuple(_differences(match.group, heads[place], free)))
        for place, match in kept.items()
    }, heads


def describe(group: Group) -> str:
    """Return a block in one line: data set, split, clients, networks, and how many images."""
    facts, record = group.facts, group.records[0]
    parts = [facts["dataset"], *split_of(group)]
    parts += [f"K={facts['partition.clients']}", labels.model_label(record.settings["models"])]
    if facts["data.train_size"] != ALL:
        parts.append(f"{facts['data.train_size']} training images")
    return " · ".join(parts).replace("beta=", "β=")


def split_of(group: Group) -> list[str]:
    """Return the scheme of a group's split and its parameters, such as ``beta=0.1``."""
    flat = labels.flatten(group.records[0].settings)
    # Joined groups have several values of what counts as their seeds.
    flat |= {name: group.facts[name] for name in flat if ", " in group.facts.get(name, "")}
    return [str(flat["partition.scheme"]), *labels.scheme_parameters(flat)]


def _free(cells: Iterable[Cell]) -> frozenset[str]:
    """Return the facts that rows and columns may differ in, since a query asks for them.

    Where rows are of several methods or presets, all settings of methods are among these, as
    ``method.``.
    """
    cells = list(cells)
    names = {name for cell in cells for name in cell.ours}
    methods = {json.dumps(cell.ours.get("method")) for cell in cells}
    if len(methods) > 1 or "preset" in names or any(one.startswith("[") for one in methods):
        names.add("method.")
    if any(name.startswith("budget.") for name in names):
        names |= {"budget.ipc", "budget.pixels"}  # one follows from the other
    return frozenset(names)


def _units(cells: Mapping[Place, Cell]) -> list[list[Place]]:
    """Return the places of cells that ask for the same beside the method and its settings."""
    units: dict[str, list[Place]] = defaultdict(list)
    for place, cell in cells.items():
        around = {name: value for name, value in cell.ours.items() if not name.startswith(_OWN)}
        units[json.dumps(around, sort_keys=True)].append(place)
    return list(units.values())


def _usual(heads: Iterable[Group], free: frozenset[str]) -> dict[tuple[str, ...], Group]:
    """Return, for each head of a unit, that of its data set's most cells; itself if it is like it.

    Args:
        heads: Of each cell that has records.
        free: See ``_free``.
    """
    heads = list(heads)
    places = [(str(head.facts["dataset"]), _around_split(head, free)) for head in heads]
    first = dict(reversed([*zip(places, heads, strict=True)]))
    counts, most = Counter(places), dict[str, tuple[str, str]]()
    for place in places:
        most[place[0]] = max(most.get(place[0], place), place, key=counts.__getitem__)
    return {
        head.ids: head if place == most[place[0]] else first[most[place[0]]]
        for head, place in zip(heads, places, strict=True)
    }


def _block(group: Group, free: frozenset[str]) -> str:
    """Return what rows of a block have in common: all but the method, its budget and settings."""
    own = (*_TOLD, *free)
    facts = {
        name: value
        for name, value in group.facts.items()
        if name not in own and not name.startswith(_OWN)
    }
    return json.dumps(facts, sort_keys=True)


def _around_split(group: Group, free: frozenset[str]) -> str:
    """Return a group's block without the parameters of its split, where that is asked for."""
    if "partition.scheme" not in free:
        return _block(group, free)
    return _block(group, free | {name for name in group.facts if name.startswith(_SPLIT)} - _KEPT)


def _weights(several: Iterable[Sequence[Match]], free: frozenset[str]) -> dict[str, float]:
    """Return how much of some cells each block answers, nearer profiles counting more."""
    total: dict[str, float] = defaultdict(float)
    for known in several:
        best: dict[str, float] = {}
        for match in known:
            block = _block(match.group, free)
            weight = min(_WEIGHTS.get(name, 1.0) for name in match.group.profile.split("+"))
            best[block] = max(best.get(block, 0.0), weight)
        for block, weight in best.items():
            total[block] += weight
    return total


def _block_of(
    several: Iterable[Sequence[Match]], free: frozenset[str], everywhere: Mapping[str, float]
) -> str:
    """Return the block that answers most of a unit, then of the table, then the nearest."""
    several = list(several)
    weights = _weights(several, free)
    nearest: dict[str, tuple[object, ...]] = {}
    for match in (match for known in several for match in known):
        block = _block(match.group, free)
        nearest[block] = min(nearest.get(block, match.distance), match.distance)
    return min(weights, key=lambda each: (-weights[each], -everywhere[each], nearest[each]))


def _head(several: Sequence[Sequence[Match]], free: frozenset[str]) -> Group:
    """Return the group that the other cells of a unit have the records most like."""

    def distance(match: Match) -> tuple[object, ...]:
        own = match.group
        far = [
            sum(min(_far(other.group, own, names) for other in known) for known in several)
            for names in (free, frozenset[str]())
        ]
        return (*far, *match.distance)

    return min((match for known in several for match in known), key=distance).group


def _nearest_to(head: Group, known: Sequence[Match], free: frozenset[str]) -> Match | None:
    def distance(match: Match) -> tuple[object, ...]:
        own = match.group
        near = (_far(own, head, free), *match.distance[:2], _far(own, head, frozenset()))
        return (*near, *match.distance)

    return min(known, key=distance, default=None)


def _far(own: Group, head: Group, free: frozenset[str]) -> int:
    return sum(1 for _ in _differences(own, head, free))


def _differences(own: Group, head: Group, free: frozenset[str]) -> Iterable[Deviation]:
    """Yield what is told apart in two groups of one data set beside what cells ask for.

    A method without a budget is like those with any.
    """
    names = {*own.facts, *head.facts} - free
    if own.facts["partition.scheme"] != head.facts["partition.scheme"]:
        names = {name for name in names if name in _KEPT or not name.startswith(_SPLIT)}
    for name in sorted(names):
        here, there = _fact(own, name), _fact(head, name)
        told = name not in _TOLD and not (
            name.startswith(_OF_ROWS) and not name.startswith("method.")
        )
        if here == there or not told or ("method." in free and name.startswith("method.")):
            continue
        if name.startswith("budget.") and (here is None or there is None):
            continue
        yield Deviation(word(name), here or "unset", there or "unset", "others")


def _fact(group: Group, name: str) -> str | None:
    """Return a fact; epochs of a method's rounds stand for the recipe's, which count nowhere."""
    facts = group.facts
    if name == "recipe.epochs" and "method.rounds" in facts and "method.epochs" in facts:
        return facts["method.epochs"]
    return facts.get(name)


def _each_once(found: Mapping[Place, Match]) -> dict[Place, Match]:
    """Leave records where they deviate least; cells alike in that keep them."""
    least: dict[tuple[str, ...], int] = {}
    for match in found.values():
        ids, count = match.group.ids, len(match.deviations)
        least[ids] = min(least.get(ids, count), count)
    return {
        place: match
        for place, match in found.items()
        if len(match.deviations) == least[match.group.ids]
    }
