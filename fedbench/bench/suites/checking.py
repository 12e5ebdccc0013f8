"""A suite file checked to the last combination: every fault at once, each with its line.

``suite.read_suite`` looks at the file's form only; here every profile is expanded and every
combination is parsed as a cell, and a fault is traced back to the key that brings it in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedbench.bench.suites.located import Located, Place, Problem, written
from fedbench.bench.suites.plan import skip_reason
from fedbench.bench.suites.suite import Combination, Suite, find, inspect_suite, matches, resolve
from fedbench.bench.suites.validation import MISSING, Fault, validated
from fedbench.config import Cell, MethodConfig
from fedbench.data.schemes import SCHEMES
from fedbench.data.specs import DATASETS
from fedbench.errors import SettingsError, did_you_mean
from fedbench.methods import METHODS
from fedbench.models.families import MODELS
from fedbench.registry import Registry

#: Parts of a cell that name something, and who knows the names.
_NAMES: tuple[tuple[str, str, Registry[Any]], ...] = (
    ("data", "name", DATASETS),
    ("partition", "scheme", SCHEMES),
    ("models", "name", MODELS),
    ("method", "name", METHODS),
)


@dataclass(frozen=True)
class Checked:
    """What there is to say of a suite file.

    Attributes:
        problems: By line; a file without any but harmless ones can be used.
        cells: For each profile the number of cells, skipped ones, and combinations left out.
    """

    problems: list[Problem]
    cells: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether nothing is wrong that matters."""
        return all(problem.harmless for problem in self.problems)


def check(path: Path) -> Checked:
    """Check a suite file.

    Raises:
        SettingsError: There is no such file.
    """
    suite, located, problems = inspect_suite(path)
    if suite is None:
        return Checked(sorted(problems))
    inspection = _Inspection(suite, located, whole=not problems)
    cells = {name or "": inspection.profile(name) for name in suite.profiles or [None]}
    return Checked(sorted({*problems, *inspection.problems()}), cells)


class _Inspection:
    """Goes through all profiles of a suite and gathers what is wrong.

    Args:
        suite: Its form is right.
        located: The file.
        whole: Nothing is wrong with the suite's form; otherwise parts of it are missing.
    """

    def __init__(self, suite: Suite, located: Located, *, whole: bool) -> None:
        self._suite, self._located, self._whole = suite, located, whole
        self._faults: dict[tuple[Place, str], set[str]] = {}
        self._warnings: dict[tuple[Place, str], set[str]] = {}
        self._matched: set[int] = set()
        self._seen: list[Mapping[str, Any]] = []
        self._places: set[str] = set()

    def profile(self, name: str | None) -> tuple[int, int, int]:
        """Check every combination of a profile and return what it comes to."""
        sized = self._suite.sized(name)
        cells: dict[str, bool] = {}
        excluded = 0
        for combination in sized.combinations():
            number = sized.excluded(combination.tree)
            if number is None:
                cell = self._cell(combination, name)
                if cell is None:
                    continue
                number = sized.excluded(cell.model_dump(mode="json"))
                if number is None:
                    cells.setdefault(cell.cell_id, skip_reason(cell) is not None)
                    if not cells[cell.cell_id]:
                        self._warn(cell, combination, name)
            if number is not None:
                self._matched.add(number)
                excluded += 1
        return len(cells), sum(cells.values()), excluded

    def problems(self) -> Iterator[Problem]:
        """Yield what was found, each thing once."""
        for found, harmless in ((self._faults, False), (self._warnings, True)):
            for (source, message), profiles in found.items():
                some = profiles < {*self._suite.profiles} and source[:1] != ("profiles",)
                where = f" (profile {', '.join(sorted(profiles))})" if some else ""
                yield self._problem(source, message + where, harmless=harmless)
        yield from self._profiles() if self._whole else ()
        for number in range(len(self._suite.exclude)):
            if number not in self._matched and self._whole and not self._faults:
                yield from self._unmatched(number)

    def _cell(self, combination: Combination, profile: str | None) -> Cell | None:
        """Return a combination's cell, or take down what is wrong with it."""
        tree, faults = _without_unknown_names(combination.tree)
        cell, others = validated(Cell, tree)
        if cell is not None and not faults:
            dump = cell.model_dump(mode="json")
            self._seen.append(dump)
            self._places |= {*_places(dump)}
            return cell
        origins = _Origins(self._suite, profile, combination)
        for fault in [*faults, *others]:
            if not self._whole and fault.message == MISSING:
                continue
            source = origins.of(fault)
            place = "" if source else f"{written(fault.place)}: " if fault.place else ""
            self._faults.setdefault((source, place + fault.message), set()).add(profile or "")
        return None

    def _warn(self, cell: Cell, combination: Combination, profile: str | None) -> None:
        """Take down what a cell's method says of its settings."""
        for message in METHODS.get(cell.method.name)(cell.method).warnings(cell):
            source = _Origins(self._suite, profile, combination).of(Fault(("method",), message))
            self._warnings.setdefault((source, message), set()).add(profile or "")

    def _profiles(self) -> Iterator[Problem]:
        name, profiles = self._suite.profile, self._suite.profiles
        if profiles and name not in profiles:
            hint = did_you_mean(name, profiles)
            message = f"there is no profile {name!r}{hint}; there are: {', '.join(profiles)}"
            yield self._problem(("profile",), message)

    def _unmatched(self, number: int) -> Iterator[Problem]:
        """Say why an exclusion never matches, as far as one of its keys is the reason."""
        source: Place = ("exclude", number)
        for name, wanted in self._suite.exclude[number].when.items():
            place, key = resolve(name), (*source, "when", name)
            if self._places and place not in self._places:
                message = f"there is no setting {name!r}{did_you_mean(place, self._places)}"
                yield self._problem(key, message)
                return
            if not any(matches(dump, name, wanted) for dump in self._seen):
                values = _values(self._seen, place)
                known = f"; there are: {', '.join(values)}" if values else ""
                message = f"no combination has {wanted!r}{did_you_mean(str(wanted), values)}{known}"
                yield self._problem(key, message, harmless=True)
                return
        yield self._problem(source, "this exclusion never matches", harmless=True)

    def _problem(self, source: Place, message: str, *, harmless: bool = False) -> Problem:
        return Problem(self._located.mark(source), written(source), message, harmless)


class _Origins:
    """Traces a place in a cell back to the place in the file that brings it in.

    Args:
        suite: With its profiles.
        profile: Which of them; None where the suite has none.
        combination: The cell's.
    """

    def __init__(self, suite: Suite, profile: str | None, combination: Combination) -> None:
        chosen = suite.profiles[profile] if profile else None
        self._pairs: list[tuple[Place, Place]] = []
        for axis, pick in reversed(combination.picks.items()):
            own = chosen is not None and axis in chosen.axes
            head: Place = ("profiles", str(profile)) if own else ()
            self._spread(_target(axis), combination.values[axis], (*head, "axes", axis, pick))
        if chosen is not None:
            for name, value in chosen.fixed.items():
                self._spread(_target(name), value, ("profiles", str(profile), "fixed", name))
        for name, value in suite.fixed.items():
            self._spread(_target(name), value, ("fixed", name))

    def of(self, fault: Fault) -> Place:
        """Return where a fault comes from; empty where nothing in the file says."""
        place = fault.place
        # One model may be written without the list that it becomes.
        spellings = (place, tuple(part for part in place if isinstance(part, str)))
        inside = [
            pair
            for pair in self._pairs
            if any(pair[0][: len(spelling)] == spelling for spelling in spellings)
        ]
        for pattern in (r"['`]{}['`]", r"\b{}\b" if not place else ""):
            for target, source in inside if pattern else ():
                deeper = target not in spellings
                word = pattern.format(re.escape(str(target[-1])))
                if deeper and re.search(word, fault.message):
                    return source
        around = [
            pair
            for pair in self._pairs
            if any(pair[0] == spelling[: len(pair[0])] for spelling in spellings)
        ]
        if around:
            return max(around, key=lambda pair: len(pair[0]))[1]
        return inside[0][1] if inside else ()

    def _spread(self, target: Place, value: object, source: Place) -> None:
        """Take down what a value sets; what is taken down first is nearest to the cell."""
        self._pairs.append((target, source))
        if isinstance(value, Mapping):
            for key, item in value.items():
                self._spread((*target, key), item, (*source, key))
        elif isinstance(value, list):
            for number, item in enumerate(value):
                self._spread((*target, number), item, (*source, number))


def _target(name: str) -> Place:
    return tuple(resolve(name).split("."))


def _without_unknown_names(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Take out the parts whose names no registry has, so that the others can be checked."""
    found: dict[str, Any] = dict(tree)
    faults = []
    for part, key, registry in _NAMES:
        values = found.get(part)
        several = values if isinstance(values, list) else [values]
        for number, value in enumerate(several):
            name = value.get(key) if isinstance(value, Mapping) else value
            if not isinstance(name, str) or name in registry.names():
                continue
            try:
                registry.get(name)
            except SettingsError as error:
                inner = (number,) if isinstance(values, list) else ()
                last = (key,) if isinstance(value, Mapping) else ()
                faults.append(Fault((part, *inner, *last), str(error)))
                found.pop(part, None)
    if "method" in tree and "method" not in found:
        found["method"] = MethodConfig(name="unknown")
    return found, faults


def _places(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yield every place of a cell, written with dots."""
    for key, value in tree.items():
        yield key
        several = value if isinstance(value, list) else [value]
        for item in several:
            if isinstance(item, Mapping):
                yield from (f"{key}.{place}" for place in _places(item))


def _values(dumps: Iterable[Mapping[str, Any]], place: str) -> list[str]:
    """Return what cells have at a place, as text, each value once."""
    found = (value for dump in dumps for value in find(dump, place.split(".")))
    return list(dict.fromkeys(str(value) for value in found if not isinstance(value, Mapping)))
