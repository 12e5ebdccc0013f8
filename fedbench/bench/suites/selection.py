"""Which cells are meant: ``--only PLACE=VALUE,VALUE``, read and applied.

Of a sweep it narrows what one call computes; its plan and report keep the whole suite. Of a report
it narrows what is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fedbench.bench.suites.located import read_value
from fedbench.bench.suites.suite import among, find, resolve
from fedbench.errors import SettingsError, did_you_mean

Settings = Mapping[str, Any]
#: What boards print for a place, which may be written as well.
PRINTED = {
    "β": "partition.beta",
    "K": "partition.clients",
    "split": "partition.scheme",
    "pixels": "budget.pixels",
}


def place_of(name: str) -> str:
    """Return the place that a name stands for: in full, a suite's short name, or as printed."""
    return PRINTED.get(name) or resolve(name)


@dataclass(frozen=True)
class Wish:
    """Values that a place may have.

    Attributes:
        name: The place, its short name, or what boards print for it, as the user wrote it.
        values: Scalars; a method may be named with its preset, such as ``fedavg(one_shot)``.
    """

    name: str
    values: tuple[object, ...]

    def meets(self, settings: Settings) -> bool:
        """Return whether a cell has one of the values."""
        return any(among(value, self.values) for value in _found(settings, self.name))


def parse_only(words: Iterable[str]) -> list[Wish]:
    """Read ``PLACE=VALUE,VALUE`` words; what is said of one place twice adds up.

    Raises:
        SettingsError: A word has no place, or no value.
    """
    wishes: dict[str, list[object]] = {}
    for word in words:
        name, _, text = word.partition("=")
        parts = [part.strip() for part in text.split(",")]
        if not name.strip() or not all(parts):
            raise SettingsError(
                f"only {word!r} selects nothing; write place=value,value such as "
                "method=fedavg,ensemble or beta=0.1"
            )
        if place_of(name.strip()) == "method":  # with its preset as in tables, or as it is told
            parts = [re.sub(r"^(\w+) (\(\w+\))$", r"\1\2", part) for part in parts]
        wishes.setdefault(name.strip(), []).extend(map(_scalar, parts))
    return [Wish(name, tuple(values)) for name, values in wishes.items()]


def select(
    cells: Sequence[Settings],
    wishes: Iterable[Wish],
    *,
    suite: str,
    budgetless: bool = False,
) -> list[bool]:
    """Return for each cell whether it meets all wishes.

    Args:
        cells: The settings of every cell of the plan.
        wishes: See ``parse_only``.
        suite: Its name, for messages.
        budgetless: Whether cells that have no budget meet any wish for one.

    Raises:
        SettingsError: No cell has a value that was asked for, or none meets all wishes; the
            message has what the suite has.
    """
    wishes = list(wishes)
    for wish in wishes:
        there = [value for cell in cells for value in _found(cell, wish.name)]
        _check(wish, there, cells, suite)
    chosen = [
        all(wish.meets(cell) or (budgetless and _has_no_budget(cell, wish)) for wish in wishes)
        for cell in cells
    ]
    if not any(chosen):
        words = " ".join(f"{wish.name}={','.join(map(str, wish.values))}" for wish in wishes)
        raise SettingsError(f"suite {suite!r} has no cell with all of: {words}; ask for fewer")
    return chosen


def _check(wish: Wish, there: Sequence[object], cells: Sequence[Settings], suite: str) -> None:
    if not there:
        names = {name for cell in cells for name in _names(cell)}
        raise SettingsError(
            f"{wish.name}: no cell of suite {suite!r} has such a setting"
            f"{did_you_mean(place_of(wish.name), names)}; try method, dataset, beta or seed"
        )
    for value in wish.values:
        if not among(value, there):
            known = list(dict.fromkeys(str(value) for value in there))
            raise SettingsError(
                f"{wish.name}={value}: no cell of suite {suite!r} has that"
                f"{did_you_mean(str(value), known)}; there are: {', '.join(known)}"
            )


def _has_no_budget(settings: Settings, wish: Wish) -> bool:
    return place_of(wish.name).startswith("budget.") and not settings.get("budget")


def _found(settings: Settings, name: str) -> list[object]:
    """Return all that a user may call what stands at a place."""
    place = place_of(name)
    values: list[object] = []
    for value in find(settings, place.split(".")):
        if isinstance(value, Mapping):
            if value.get("preset"):
                values.append(f"{value['name']}({value['preset']})")
        elif not isinstance(value, list):
            values.append(value)
    return values


def _names(settings: Settings, prefix: str = "") -> Iterable[str]:
    for key, value in settings.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{key}.")


def _scalar(text: str) -> object:
    """Read a value as YAML; what is none, or no scalar, is a text."""
    try:
        value = read_value(text)
    except yaml.YAMLError:
        return text
    return text if isinstance(value, dict | list | str) else value
