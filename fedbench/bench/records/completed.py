"""Settings of records that are older than some of today's settings.

A setting that comes later has a default under which nothing moves, so the cell's id stays, and a
record of before that is of the same cell as one of today. What it lacks is looked up in
``defaults.json``, without importing a method
(``python tests/bench/records/test_completed.py`` writes it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the defaults of what they do not name.

    Args:
        settings: Of a cell, as a record or a plan has them; what is named stays as it is. Things
            that are not built in, such as a plugin's method, are taken to be complete.
    """
    known = _defaults()
    scheme = str(_part(settings, "partition").get("scheme"))
    method = str(_part(settings, "method").get("name"))
    found = filled(settings, known["cell"])
    found = filled(
        found,
        {
            "partition": known["schemes"].get(scheme, {}),
            "method": known["methods"].get(method, {}),
        },
    )
    models = [_model(model) for model in settings.get("models") or ()]
    later = _part(settings, "student").get("model")
    if later is not None:
        found["student"] = {**found["student"], "model": _model(later)}
    return found | ({"models": models} if models else {})


def method_defaults(name: str) -> dict[str, Any]:
    """Return all settings of a built-in method that nobody has set; nothing of any other."""
    return dict(_defaults()["methods"].get(name, {}))


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    return filled(model, _defaults()["models"].get(str(model.get("name")), {}))


def _part(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = settings.get(name)
    return part if isinstance(part, Mapping) else {}


def filled(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with what others have beyond them; only parts that are there are filled."""
    found = dict(settings)
    for name, value in defaults.items():
        ours = settings.get(name)
        if isinstance(ours, Mapping) and isinstance(value, Mapping):
            found[name] = filled(ours, value)
        elif name not in settings:
            found[name] = value
    return found


@cache
def _defaults() -> dict[str, Any]:
    file = resources.files("fedbench.bench.records").joinpath("defaults.json")
    return dict(json.loads(file.read_text(encoding="utf-8")))
