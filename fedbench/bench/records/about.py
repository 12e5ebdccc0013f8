"""What a method says of itself, for those who read its records without importing it.

A record has it of the method that computed it (``Record.about``). Plans, and records of before
that, are looked up in ``about.json``, which has the built-in methods of today
(``python tests/bench/records/test_about.py`` writes it from the methods).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from fedbench.bench.records.completed import method_defaults

#: Behind the name of a preset, or of a method where no preset is named: some settings are others.
STAR = "*"
#: What a setting is worth, and what the preset, or the method by default, has in its place.
Overrides = dict[str, tuple[object, object]]


@dataclass(frozen=True)
class About:
    """A method in words.

    Attributes:
        what: One line.
        paper: Citation with its address, or empty.
        up: What a client sends.
        down: What a client is sent.
    """

    what: str = ""
    paper: str = ""
    up: str = ""
    down: str = ""


def about(method: Mapping[str, Any], said: Mapping[str, Any]) -> About:
    """Return what is known of a method.

    Args:
        method: Its settings, as records have them.
        said: ``Record.about``; what it lacks is that of the built-in method of the name.
    """
    known = _builtin().get(str(method.get("name")), {})
    if "plugin" in said:  # somebody else's method may have a built-in one's name elsewhere
        known = {}
    return About(**{key: str(said.get(key) or known.get(key, "")) for key in _WORDS})


_WORDS = ("what", "paper", "up", "down")


def overrides(method: Mapping[str, Any], said: Mapping[str, Any] | None = None) -> Overrides:
    """Return the settings of a method that are not its preset's, or without one its defaults.

    Args:
        method: Its settings, as records and plans have them.
        said: ``Record.about``, whose ``preset`` has all settings that the preset, or the method
            without one, stood for.

    Returns:
        The value and the one that was meant by dotted name, sorted; nothing where what was meant
        is not known, as of a plugin's method in a plan.
    """
    ours, theirs = dict(leaves(method)), dict(leaves(_meant(method, said or {})))
    shared = sorted((ours.keys() & theirs.keys()) - {"name", "preset"})
    return {key: (ours[key], theirs[key]) for key in shared if ours[key] != theirs[key]}


def meant_by(method: str, preset: str) -> dict[str, object]:
    """Return what a preset of a built-in method names, by dotted name; nothing of its defaults.

    Args:
        method: Its name.
        preset: Its name; one that the method lacks means nothing.
    """
    known = _builtin().get(method, {})
    settings = dict(leaves(known.get("presets", {}).get(preset) or {}))
    names = known.get("named", {}).get(preset, ())
    return {name: settings[name] for name in names if name in settings}


def _meant(method: Mapping[str, Any], said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return all settings of a method's preset, or its defaults where it names none."""
    name, preset = str(method.get("name")), method.get("preset")
    if "preset" in said:
        return dict(said["preset"] or {})
    if preset:
        return dict(_builtin().get(name, {}).get("presets", {}).get(preset) or {})
    return {} if "plugin" in said else method_defaults(name)


def leaves(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    """Yield every setting that holds no others by its place, written with dots."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def preset_label(method: Mapping[str, Any], said: Mapping[str, Any] | None = None) -> str | None:
    """Return a preset's name, with a star where settings of it are overridden.

    Without a preset it is the star alone where a setting is not the method's default, else None.
    """
    star = STAR if overrides(method, said) else ""
    return f"{method.get('preset') or ''}{star}" or None


def method_label(method: str, preset: str | None, settings: Iterable[str] = ()) -> str:
    """Return what to call a method: ``fedavg``, ``fedavg*``, or ``fedavg (one_shot, epochs=5)``.

    Args:
        method: Its name.
        preset: See ``preset_label``.
        settings: What else is to be said of it, written.
    """
    alone = preset == STAR
    inside = [*([preset] if preset and not alone else []), *settings]
    name = f"{method}{STAR}" if alone else method
    return f"{name} ({', '.join(inside)})" if inside else name


def in_words(found: Overrides) -> str:
    """Return overrides as ``rounds=1 (100), steps=500 (10000)``: each with what was meant."""
    return ", ".join(f"{key}={text(here)} ({text(meant)})" for key, (here, meant) in found.items())


def text(value: object) -> str:
    """Return a setting as people write it.

    A number is as short as it can be, nothing is ``none``, and several are ``invert+tint+blur``.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return "none"
    if isinstance(value, list | tuple) and not any(isinstance(e, list | dict) for e in value):
        return "+".join(map(text, value)) or "none"
    short = f"{value:g}" if isinstance(value, float) else ""
    return short if short and float(short) == value else json.dumps(value, separators=(",", ":"))


@cache
def _builtin() -> dict[str, Any]:
    file = resources.files("fedbench.bench.records").joinpath("about.json")
    return dict(json.loads(file.read_text(encoding="utf-8")))
