"""A suite: settings to keep, axes to sweep, combinations to leave out, and profiles of its size.

    name: digits
    fixed: {data: {name: digits}, partition: {clients: 5}}
    axes:
      partition.beta: [0.1, 0.5]
      method: [local, {name: fedavg, preset: one_shot}]
    exclude:
      - {when: {method.name: local, partition.beta: 0.5}, reason: known already}
    profiles:
      smoke: {fixed: {recipe: {epochs: 1}}, seeds: 1}

Keys of `axes` and `when` are places in a cell, written with dots. A mapping on an axis is merged
into its place, so one axis can move several settings at once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator

from fedbench.config import Settings, validate
from fedbench.errors import SettingsError, did_you_mean

Tree = dict[str, Any]
#: Folders below the home that are no suite's.
RESERVED = ("artefacts", "cache", "partitions", "reproduced", "run")


class Exclusion(Settings):
    """Combinations that are left out, and why."""

    when: dict[str, Any]
    """Places and the values that they all must have."""
    reason: str
    """Shown by a dry run."""


class Profile(Settings):
    """Sizes of a suite. Changes suite settings only."""

    fixed: dict[str, Any] = Field(default_factory=dict)
    """Merged over the suite's `fixed`."""
    axes: dict[str, list[Any]] = Field(default_factory=dict)
    """Replace the suite's axes of the same place."""
    seeds: int | None = Field(None, ge=1)
    """Number of seeds, from 0."""


class Suite(Settings):
    """What is measured."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Names the folder of its results."""
    title: str = ""
    """One line for the head of its pages."""
    fixed: dict[str, Any] = Field(default_factory=dict)
    """Settings that all cells share."""
    axes: dict[str, list[Any]] = Field(default_factory=dict)
    """Values to combine, by place."""
    exclude: tuple[Exclusion, ...] = ()
    """Combinations to leave out."""
    profiles: dict[str, Profile] = Field(default_factory=dict)
    """Sizes, by name."""
    profile: str = "quick"
    """The profile that is taken where none is named."""
    seeds: int = Field(3, ge=1)
    """Number of seeds, from 0, where the profile names none."""

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
                return self
            raise SettingsError(
                f"suite {self.name!r} has no profile {name!r}"
                f"{did_you_mean(name, self.profiles)}; "
                f"it has: {', '.join(self.profiles)}"
            )
        chosen = self.profiles[name]
        return self.model_copy(
            update={
                "fixed": merge(self.fixed, chosen.fixed),
                "axes": {**self.axes, **chosen.axes},
                "seeds": chosen.seeds or self.seeds,
                "profiles": {},
                "profile": name,
            }
        )

    def trees(self, seeds: int | None = None) -> Iterator[Tree]:
        """Yield the settings of every combination, excluded ones too, seed by seed.

        Args:
            seeds: Number of seeds instead of the suite's.
        """
        places = list(self.axes)
        for values in product(*self.axes.values(), range(seeds or self.seeds)):
            tree = copy.deepcopy(self.fixed)
            for place, value in zip((*places, "seed"), values, strict=True):
                tree = merge(tree, nest(place, value))
            yield tree

    def excluded(self, tree: Tree) -> str | None:
        """Return why a combination is left out, or None."""
        for exclusion in self.exclude:
            if all(_matches(tree, place, value) for place, value in exclusion.when.items()):
                return exclusion.reason
        return None


def read_suite(path: Path) -> Suite:
    """Read a suite file.

    Raises:
        SettingsError: There is no such file, it is no YAML, or a key or value is wrong; the
            message names the file and the place.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"there is no suite file {path}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path} holds no settings; a suite is a mapping with `name`")
    try:
        return validate(Suite, values)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def nest(place: str, value: object) -> Tree:
    """Return ``{"a": {"b": value}}`` for the place ``a.b``."""
    *parents, last = place.split(".")
    tree: Tree = {last: value}
    for part in reversed(parents):
        tree = {part: tree}
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


def _matches(tree: Tree, place: str, value: object) -> bool:
    found: object = tree
    for part in place.split("."):
        if isinstance(found, str) and part == "name":
            break
        if not isinstance(found, Mapping) or part not in found:
            return False
        found = found[part]
    return bool(found in value if isinstance(value, list) else found == value)
