"""How things are listed: as a table of what is not empty, with settings as users write them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedbench.bench.records.about import leaves
from fedbench.session.console import print_json, stdout


def listed(found: Sequence[Mapping[str, Any]], as_json: bool, title: str) -> None:
    """Print things as JSON, or as a table of what is not empty."""
    from rich.markup import escape
    from rich.table import Table

    if as_json:
        print_json(found)
        return
    table = Table(title=title, title_justify="left")
    names = list(found[0])
    for name in names:
        table.add_column(name.replace("_", " "), no_wrap=name == "name", overflow="fold")
    for entry in found:
        table.add_row(*(escape(_words(entry[name])) for name in names))
    stdout.print(table)


def assigned(settings: Mapping[str, Any]) -> str:
    """Return settings as ``place=value``, such as ``--set`` takes: YAML values, dots for depth."""
    return ", ".join(f"{place}={yaml_value(value)}" for place, value in leaves(settings))


def yaml_value(value: object) -> str:
    """Return a setting's value as a suite file has it: true, false and null for Python's own."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return assigned(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(str(item) for item in value)
    if value is None or value is False:
        return ""
    return "yes" if value is True else str(value)
