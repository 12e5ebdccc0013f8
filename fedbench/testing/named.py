"""Which settings of a method its suite and its page name, as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

#: The first cells of a line of a table.
_CELLS = re.compile(r"^\|\s*`?([^|`]*?)`?\s*\|\s*([^|]*?)\s*\|")
_HEAD = ("setting", "default")
_LABELS = ("name", "preset")


def in_suite(path: Path, method: str) -> dict[str, list[str]]:
    """Return where a suite has a method, with the settings that it gives it there.

    Args:
        path: The suite's file; what is wrong with it otherwise, `fedbench validate` says.
        method: The method's name.

    Returns:
        Dotted names by place, such as ``{"axes.method[5]": ["power"]}``.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = {}
    for place, value in _methods(content, ""):
        if value == method:
            found[place] = list[str]()
        elif isinstance(value, Mapping) and value.get("name") == method:
            found[place] = [name for name in _dotted(value, "") if name not in _LABELS]
    return found


def in_page(path: Path) -> list[str]:
    """Return the settings in the table of a page, the one that begins ``| setting | default |``."""
    found: list[str] = []
    inside = False
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = _CELLS.match(line)
        if cells is None:
            inside = False
        elif cells.groups() == _HEAD:
            inside = True
        elif inside and set(cells[1]) - set("-: "):
            found.append(cells[1])
    return found


def _methods(content: object, place: str) -> Iterator[tuple[str, object]]:
    """Yield each value of ``method`` in a suite with its place, those of profiles as well."""
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        inside = f"{place}.{key}" if place else str(key)
        if key != "method":
            yield from _methods(value, inside)
        elif isinstance(value, list):
            yield from ((f"{inside}[{number}]", each) for number, each in enumerate(value))
        else:
            yield inside, value


def _dotted(values: Mapping[str, object], prefix: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
