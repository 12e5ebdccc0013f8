"""Settings validated so that every fault is found in one go, each with its exact place.

``settings.validate`` is for one cell whose settings are at hand: it stops a mapping at its first
unknown key. Here unknown keys are taken out one after another and the rest is validated as well.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fedbench.bench.suites.located import Place
from fedbench.errors import SettingsError

M = TypeVar("M", bound=BaseModel)

MISSING = "is needed and not there"
_UNKNOWN = re.compile(r"unknown key (['\"])(?P<key>.*?)\1")
_HINTS = {
    "list_type": "has to be a list; write [...]",
    "dict_type": "has to be a mapping of names to values",
    "model_type": "has to be a mapping of names to values",
}


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a tree of settings.

    Attributes:
        place: Where; for what concerns a whole mapping, the mapping's place.
        message: What is wrong, and what would do.
        unknown: The place is a key that should not be there.
    """

    place: Place
    message: str
    unknown: bool = False


def validated(kind: type[M], values: Mapping[str, Any]) -> tuple[M | None, list[Fault]]:
    """Validate a tree.

    Args:
        kind: What it should be.
        values: Left as they are.

    Returns:
        The settings, or None where there is a fault; every fault, in order of the place.
    """
    tree: dict[str, Any] = copy.deepcopy(dict(values))
    found: list[Fault] = []
    while True:
        try:
            made = kind.model_validate(tree)
            return (None if found else made), found
        except SettingsError as error:  # a name that no registry has
            return None, [*found, Fault((), str(error))]
        except ValidationError as error:
            faults = [_fault(item) for item in error.errors(include_url=False)]
        unknown = [fault for fault in faults if fault.unknown and _take_out(tree, fault.place)]
        if not unknown:
            return None, found + faults
        found += unknown


def repaired(kind: type[M], values: Mapping[str, Any], faults: list[Fault]) -> M | None:
    """Return settings without what is wrong with them, or None where they need it."""
    tree: dict[str, Any] = copy.deepcopy(dict(values))
    for fault in faults:
        if fault.place:
            _take_out(tree, fault.place)
    return validated(kind, tree)[0]


def _fault(item: Mapping[str, Any]) -> Fault:
    place, message = tuple(item["loc"]), item["msg"].removeprefix("Value error, ")
    if (unknown := _UNKNOWN.match(message)) is not None:
        return Fault((*place, unknown["key"]), message, unknown=True)
    if item["type"] == "value_error":
        return Fault(place, message)
    if item["type"] == "missing":
        return Fault(place, MISSING)
    return Fault(place, f"{_HINTS.get(item['type'], message)} (got {item['input']!r})")


def _take_out(tree: object, place: Place) -> bool:
    """Delete a key, and say whether it was there; a number counts for lists only."""
    *parents, last = place
    for part in parents:
        if isinstance(tree, list):
            tree = tree[part] if isinstance(part, int) and part < len(tree) else tree
        elif isinstance(tree, dict):
            tree = tree.get(part, tree)
    if not isinstance(tree, dict) or last not in tree:
        return False
    del tree[last]
    return True
