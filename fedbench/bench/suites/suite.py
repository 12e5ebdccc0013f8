"""A suite: settings to keep, axes to sweep, combinations to leave out, and profiles of its size.

    name: digits
    fixed: {data: {name: digits}, clients: 5}
    axes:
      beta: [0.1, 0.5]
      method: [local, {name: fedavg, preset: one_shot}]
    exclude:
      - {when: {method: local, beta: 0.5}, reason: known already}
    profiles:
      smoke: {fixed: {recipe: {epochs: 1}}, seeds: 1}

Keys of `axes` and `when` are places in a cell, written with dots, or their short names
(``SHORT_NAMES``). A mapping on an axis is merged into its place, so one axis can move several
settings at once. ``docs/suites.md`` is the users' page.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field, field_validator

from fedbench.bench.suites.located import Located, Problem, read_located, syntax_problem, written
from fedbench.bench.suites.validation import repaired, validated
from fedbench.errors import SettingsError, did_you_mean
from fedbench.settings import Settings

Tree = dict[str, Any]
#: Folders below the home that are no suite's.
RESERVED = ("artefacts", "cache", "partitions", "reproduced", "run")
#: What users may write for the first part of a place.
SHORT_NAMES = {
    "dataset": "data",
    "scheme": "partition.scheme",
    "beta": "partition.beta",
    "clients": "partition.clients",
    "model": "models",
    "ipc": "budget.ipc",
}


def _one_of_each(axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
    places: dict[str, str] = {}
    for name in axes:
        if (other := places.setdefault(resolve(name), name)) != name:
            raise ValueError(f"{name!r} and {other!r} are the same axis; keep one of them")
    return axes


Axes = Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], AfterValidator(_one_of_each)]


def _without_seed(fixed: dict[str, Any]) -> dict[str, Any]:
    if "seed" in fixed:
        raise ValueError(
            f"seeds are counted by `seeds`, or listed on an axis; write `axes: {{seed: "
            f"[{fixed['seed']}]}}` instead of a fixed seed"
        )
    return fixed


#: Bounds of what one suite may ask for; the largest of ours has 2,376 cells.
MOST_CELLS, MOST_SEEDS = 100_000, 10_000

#: Settings of all cells; the seed is none of them.
Fixed = Annotated[dict[str, Any], AfterValidator(_without_seed)]


class Exclusion(Settings):
    """Combinations that are left out, and why."""

    when: dict[str, Any] = Field(min_length=1)
    """Places and the values that they all must have."""
    reason: str
    """Shown by a dry run."""


class Profile(Settings):
    """Sizes of a suite. Changes suite settings only."""

    fixed: Fixed = Field(default_factory=dict)
    """Merged over the suite's `fixed`."""
    axes: Axes = Field(default_factory=dict)
    """Replace the suite's axes of the same place."""
    seeds: int | None = Field(None, ge=1, le=MOST_SEEDS)
    """Number of seeds, from 0."""


class Suite(Settings):
    """What is measured."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)
    """Names the folder of its results."""
    title: str = ""
    """One line for the head of its pages."""
    fixed: Fixed = Field(default_factory=dict)
    """Settings that all cells share."""
    axes: Axes = Field(default_factory=dict)
    """Values to combine, by place."""
    exclude: tuple[Exclusion, ...] = ()
    """Combinations to leave out."""
    plugins: tuple[str, ...] = ()
    """Python files or modules with methods, data sets or more of your own. Files are found from the
    suite's folder. Whoever sweeps or validates the suite runs them."""
    profiles: dict[str, Profile] = Field(default_factory=dict)
    """Sizes, by name."""
    profile: str = "quick"
    """The profile that is taken where none is named."""
    seeds: int = Field(3, ge=1, le=MOST_SEEDS)
    """Number of seeds, from 0, where the profile names none. An axis `seed` lists them instead."""

    @field_validator("name")
    @classmethod
    def _own_folder(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError(
                f"{name!r} is a folder of fedbench itself, where a suite's results would mix with "
                f"other files; choose a name other than {', '.join(RESERVED)}"
            )
        return name

    def sized(self, profile: str | None = None) -> Suite:
        """Return the suite with a profile merged in, and no profiles left.

        Raises:
            SettingsError: There is no such profile.
        """
        name = profile or self.profile
        if name not in self.profiles:
            if profile is None and not self.profiles:
                return self.model_copy(update={"fixed": resolved(self.fixed)})
            raise SettingsError(
                f"suite {self.name!r} has no profile {name!r}"
                f"{did_you_mean(name, self.profiles)}; "
                f"it has: {', '.join(self.profiles)}"
            )
        chosen = self.profiles[name]
        new = {resolve(axis): axis for axis in chosen.axes}
        if chosen.seeds:
            new.setdefault("seed", "")
        kept = {axis: values for axis, values in self.axes.items() if resolve(axis) not in new}
        return self.model_copy(
            update={
                "fixed": merge(resolved(self.fixed), resolved(chosen.fixed)),
                "axes": {**kept, **chosen.axes},
                "seeds": chosen.seeds or self.seeds,
                "profiles": {},
                "profile": name,
            }
        )

    def combinations(self, seeds: int | None = None) -> Iterator[Combination]:
        """Yield every combination of the axes, excluded ones too, one seed after another.

        The suite has its profile merged in (see ``sized``).

        Args:
            seeds: Number of seeds instead of the suite's.

        Raises:
            SettingsError: A number of seeds is asked for, and the suite names its seeds.
        """
        axes = dict(self.axes)
        named = axes.pop("seed", None)
        if named is not None and seeds is not None:
            raise SettingsError(
                f"suite {self.name!r} names its seeds on an axis ({named}), so their number "
                "cannot be chosen; use --only seed=... for some of them"
            )
        numbers = range(seeds or self.seeds) if named is None else named
        total = math.prod([len(numbers), *(len(values) for values in axes.values())])
        if total > MOST_CELLS:
            raise SettingsError(
                f"suite {self.name!r} has {total:,} combinations, more than {MOST_CELLS:,}; "
                f"shorten its axes ({', '.join(axes)}), or make several suites"
            )
        for (place, seed), *picked in product(
            enumerate(numbers), *(enumerate(values) for values in axes.values())
        ):
            picks = {
                **{axis: number for axis, (number, _) in zip(axes, picked, strict=True)},
                **({} if named is None else {"seed": place}),
            }
            values = {axis: value for axis, (_, value) in zip(axes, picked, strict=True)}
            values["seed"] = seed
            tree = copy.deepcopy(self.fixed)
            for axis, value in values.items():
                tree = merge(tree, nest(axis, value))
            yield Combination(tree, values, picks)

    def excluded(self, tree: Mapping[str, Any]) -> int | None:
        """Return which exclusion leaves settings out, from 0, or None.

        Args:
            tree: Of a combination, or all settings of a cell.
        """
        for number, exclusion in enumerate(self.exclude):
            if all(matches(tree, name, value) for name, value in exclusion.when.items()):
                return number
        return None


@dataclass(frozen=True)
class Combination:
    """One value of every axis, and a seed.

    Attributes:
        tree: The settings, as ``config.parse`` takes them.
        values: What the axes have here, by their names, and the seed.
        picks: Which of its values each axis has here, from 0; a seed that no axis names has none.
    """

    tree: Tree
    values: dict[str, Any]
    picks: dict[str, int]


def read_suite(path: Path) -> Suite:
    """Read a suite file.

    Raises:
        SettingsError: There is no such file, it is no YAML, or keys or values are wrong; the
            message has a line for each, with file, line, column and place.
    """
    suite, _, problems = inspect_suite(path)
    if suite is None or problems:
        raise SettingsError("\n".join(problem.line(path) for problem in sorted(problems)))
    return suite


def plugins_of(path: Path) -> list[str]:
    """Return the plugins that a suite file names, files with the path that leads to them.

    What is wrong with the file is for ``read_suite`` to say.
    """
    suite, _, _ = inspect_suite(path)
    named = suite.plugins if suite is not None else ()
    return [str(path.parent / name) if name.endswith(".py") else name for name in named]


def inspect_suite(path: Path) -> tuple[Suite | None, Located, list[Problem]]:
    """Read a suite file and say all that is wrong with its form.

    Returns:
        The suite without the parts that are wrong, or None where too little is left of it; the
        file's values with their places; every problem.

    Raises:
        SettingsError: There is no such file.
    """
    try:
        located = read_located(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise SettingsError(f"there is no suite file {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return None, Located(None, {}), [syntax_problem(error)]
    problems = list(located.problems)
    if not isinstance(located.values, dict):
        message = "holds no settings; a suite is a mapping with `name`"
        return None, located, [*problems, Problem(located.mark(()), "", message)]
    suite, faults = validated(Suite, located.values)
    problems += [
        Problem(located.mark(fault.place), written(fault.place), fault.message) for fault in faults
    ]
    return suite or repaired(Suite, located.values, faults), located, problems


def resolve(name: str) -> str:
    """Return the place that a name stands for: ``partition.beta`` for ``beta``."""
    head, dot, rest = name.partition(".")
    return SHORT_NAMES.get(head, head) + dot + rest


def nest(name: str, value: object) -> Tree:
    """Return ``{"a": {"b": value}}`` for the place ``a.b``, or for its short name."""
    place = resolve(name)
    if place == "data" and isinstance(value, str):
        value = {"name": value}
    *parents, last = place.split(".")
    tree: Tree = {last: value}
    for part in reversed(parents):
        tree = {part: tree}
    return tree


def resolved(settings: Mapping[str, Any]) -> Tree:
    """Return settings with short names as the places that they stand for."""
    tree: Tree = {}
    for name, value in settings.items():
        tree = merge(tree, nest(name, value))
    return tree


def merge(tree: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Return a tree with another laid over it: mappings merge, anything else replaces.

    A mapping with a `name` that names another thing replaces too, since the old thing's settings
    mean nothing to the new one.
    """
    merged = dict(tree)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, str) and isinstance(value, Mapping):
            old = merged[key] = {"name": old}  # `models: resnet8` is short for its name
        renamed = (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and "name" in value
            and value["name"] != old.get("name", value["name"])
        )
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not renamed:
            merged[key] = merge(old, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def matches(tree: Mapping[str, Any], name: str, wanted: object) -> bool:
    """Return whether settings have a value at a place, or one of a list of values.

    A name matches the thing that has it, whatever its other settings.

    Args:
        tree: Of a combination, or of a cell.
        name: A place or a short name.
        wanted: A value, or several.
    """
    choice = wanted if isinstance(wanted, list) else [wanted]
    return any(among(value, choice) for value in find(tree, resolve(name).split(".")))


def among(value: object, choice: Iterable[object]) -> bool:
    """Return whether a value is one of several, as settings understand them.

    A number equals its text, since settings take both; a truth value equals no number.
    """
    return any(_same(value, other) for other in choice)


def _same(value: object, other: object) -> bool:
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, str) != isinstance(other, str):
        number, text = (other, value) if isinstance(value, str) else (value, other)
        if isinstance(number, int | float) and isinstance(text, str):
            with suppress(ValueError):
                return float(text) == number
        return False
    return value == other


def find(tree: object, parts: list[str]) -> Iterator[object]:
    """Yield what stands at a place: the value, and the names of the things that it holds."""
    if isinstance(tree, list):
        for item in tree:
            yield from find(item, parts)
    elif not parts:
        yield tree
        if isinstance(tree, Mapping) and "name" in tree:
            yield tree["name"]
    elif isinstance(tree, Mapping) and parts[0] in tree:
        yield from find(tree[parts[0]], parts[1:])
    elif isinstance(tree, str) and parts == ["name"]:
        yield tree
