"""The JSON schema of suite files, for editors: made from the settings' own types and registries.

Stricter than need be in one point: it knows the built-in names only, so an editor marks a plugin's
method as unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fedbench.bench.suites.suite import SHORT_NAMES, Suite
from fedbench.config import Cell
from fedbench.data.schemes import SCHEMES
from fedbench.data.specs import DATASETS
from fedbench.methods import METHODS
from fedbench.models.families import MODELS
from fedbench.registry import describe

Schema = dict[str, Any]


def suite_schema() -> Schema:
    """Return the schema of suite files (JSON Schema 2020-12)."""
    suite, defs = Suite.model_json_schema(), _cell()
    places = _named(_united(_places(defs["Cell"], defs)))
    places["partition.scheme"] = places["scheme"] = {"enum": SCHEMES.names()}
    # A data set's name may stand for all its settings, as a model's may.
    places["data"] = places["dataset"] = _name_or("Data", DATASETS.names())
    defs["Cell"]["properties"] |= {short: places[short] for short in SHORT_NAMES}
    defs["Axes"] = _closed({name: _list(value) for name, value in sorted(places.items())})
    defs["When"] = _closed({name: {} for name in sorted(places)})
    parts = suite.pop("$defs")
    _refer(suite, fixed="Cell", axes="Axes")
    _refer(parts["Profile"], fixed="Cell", axes="Axes")
    _refer(parts["Exclusion"], when="When")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **suite,
        "title": "fedbench suite",
        "$defs": dict(sorted({**defs, **parts}.items())),
    }


def schema_text() -> str:
    """Return the schema as it is committed, with a line break at its end."""
    return json.dumps(suite_schema(), indent=1, ensure_ascii=False) + "\n"


def _cell() -> dict[str, Schema]:
    """Return the schemas of a cell and its parts, with the names that the registries know."""
    cell = Cell.model_json_schema()
    defs = {name: _open(part) for name, part in cell.pop("$defs").items()}
    del defs["MethodConfig"]
    for part, key, names in (
        ("Data", "name", DATASETS.names()),
        ("Model", "name", MODELS.names()),
    ):
        defs[part]["properties"][key]["enum"] = names
    models, one = cell["properties"]["models"], _name_or("Model", MODELS.names())
    cell["properties"]["models"] = {
        "description": models["description"],
        "anyOf": [*one["anyOf"], _list(one)],
    }
    cell["properties"]["method"] = _ref("Method")
    defs["Partition"] = _partition()
    method, parts = _method()
    for part in (*defs.values(), *method["anyOf"]):
        _take_model_names(part)
    return {**parts, **defs, "Method": method, "Cell": _open(cell)}


def _partition() -> Schema:
    """Return the schema of a partition: one branch for each scheme, and one that names none."""
    objects = []
    for name in SCHEMES.names():
        scheme = SCHEMES.get(name)
        part = scheme.settings.model_json_schema()
        part["properties"]["scheme"] = {"const": name}
        objects.append({**part, "required": ["scheme"], "description": scheme.title})
    # The scheme may be named elsewhere, on an axis or in `fixed`.
    unnamed = _united(
        place for part in objects for place in part["properties"].items() if place[0] != "scheme"
    )
    return {"anyOf": [*objects, _closed(unnamed)]}


def _method() -> tuple[Schema, dict[str, Schema]]:
    """Return the schema of a method, its name or a mapping with it, and those of its parts."""
    objects, settings, parts = [], set(), dict[str, Schema]()
    for name in METHODS.names():
        method = METHODS.get(name)
        part = method.Config.model_json_schema()
        parts |= {key: _open(inner) for key, inner in part.pop("$defs", {}).items()}
        part["properties"]["name"] = {"const": name}
        part["properties"]["preset"] = {"enum": [*method.presets, None]}
        objects.append({**part, "required": ["name"], "description": describe(method)})
        settings |= part["properties"].keys()
    # Over a fixed method, an axis may give some settings without the name.
    unnamed = _closed({key: {} for key in sorted(settings - {"name"})})
    return {"anyOf": [{"enum": METHODS.names()}, *objects, unnamed]}, parts


def _places(
    part: Schema, defs: Mapping[str, Schema], prefix: str = ""
) -> Iterator[tuple[str, Schema]]:
    """Yield every place below a mapping, written with dots, and what may stand there."""
    for name, value in part.get("properties", {}).items():
        yield prefix + name, value
        for option in (value, *value.get("anyOf", ())):
            target = option.get("$ref", "").rpartition("/")[2]
            inner = defs.get(target, {})
            for choice in (inner, *inner.get("anyOf", ())):
                yield from _places(choice, defs, f"{prefix}{name}.")


def _united(places: Iterable[tuple[str, Schema]]) -> dict[str, Schema]:
    """Return for each place what any of its owners takes: methods have settings of one name."""
    found: dict[str, list[Schema]] = {}
    for place, value in places:
        options = found.setdefault(place, [])
        if value and value not in options:
            options.append(value)
    return {
        place: options[0] if len(options) == 1 else {"anyOf": options}
        for place, options in found.items()
    }


def _named(places: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return places with their short names."""
    return {
        **places,
        **{
            short + place.removeprefix(long): value
            for short, long in SHORT_NAMES.items()
            for place, value in places.items()
            if place == long or place.startswith(f"{long}.")
        },
    }


def _open(part: Schema) -> Schema:
    """Return a mapping's schema with nothing required: the rest may come from elsewhere."""
    return {key: value for key, value in part.items() if key != "required"}


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _list(value: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": value}


def _name_or(part: str, names: list[str]) -> Schema:
    return {"anyOf": [{"enum": names}, _ref(part)]}


def _take_model_names(part: Schema) -> None:
    """Let a model's name stand for its settings in the keys of a mapping that take a model."""
    for value in part.get("properties", {}).values():
        if _ref("Model") in value.get("anyOf", ()):
            value["anyOf"] = [{"enum": MODELS.names()}, *value["anyOf"]]


def _refer(part: Schema, **targets: str) -> None:
    """Let keys of a mapping be what is defined elsewhere; they keep their descriptions."""
    for key, target in targets.items():
        old = part["properties"][key]
        part["properties"][key] = {"description": old["description"], **_ref(target)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}
