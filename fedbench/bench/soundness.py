"""What a record's content must be before anything is made of it.

Records may come from anywhere: another machine, another hand. Their text is cleaned and bounded
here, once, so that tables, pages and terminals need not fear it; and a good record whose numbers
are no numbers is refused before a board is made of it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Characters of one text; a traceback of ours has a few thousand.
_TEXT = 100_000
#: Characters of one key.
_KEY = 200
#: Points of curves; the longest of ours has a few hundred.
_POINTS = 100_000
#: Threads of a process at most.
_THREADS = 4096
#: No count of bytes, pixels, rounds or seconds is larger.
_LARGEST = 1e18
#: Kinds of characters that end lines, move the cursor or turn the writing around.
_UNWRITTEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,149}")
#: Metrics and their largest value.
_METRICS: Mapping[str, float] = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "worst_client", "own_mix", "ece"), 1.0),
    **dict.fromkeys(("best_accuracy", "worst_accuracy", "never"), 1.0),
    "nll": 1e38,
}


def cleaned(value: object) -> object:
    r"""Return a JSON value with all text fit to be shown.

    Control characters, lone surrogates and what turns the direction of writing become their code,
    such as ``\x0d``; a line break and a tab stay. Text beyond a bound is cut, and says so.

    Raises:
        ValueError: A key is too long to be one.
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        for key in value:
            if len(key) > _KEY:
                raise ValueError(f"a key has {len(key):,} characters, more than {_KEY}")
        return {_text(key): cleaned(item) for key, item in value.items()}
    return value


def _text(text: str) -> str:
    if len(text) > _TEXT:
        text = f"{text[:_TEXT]} ... ({len(text) - _TEXT:,} characters left out)"
    if text.isprintable() and text.isascii():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in "\n\t":
        return character
    if unicodedata.category(character) in _UNWRITTEN or character in _TURNING:
        code = ord(character)
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    return character


def is_name(text: str) -> bool:
    """Return whether a text may be part of a path: a name without separators, not hidden."""
    return _NAME.fullmatch(text) is not None


def faults(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the content of a record, as ``place: what is wrong``.

    Args:
        values: The fields of a record, of the right outer types.
    """
    for place in ("cell_id", "suite"):
        if not is_name(values[place]):
            yield f"{place}: {values[place]!r} cannot be part of a path"
    for name, digest in values["outputs"].items():
        if not is_name(digest):
            yield f"outputs.{name}: {digest!r} cannot be part of a path"
    yield from _settings(values["settings"])
    if not isinstance(values["about"].get("preset", {}), Mapping):
        yield f"about.preset: {values['about']['preset']!r} is no mapping of settings"
    yield from _environment(values["environment"])
    if len(values["curves"]) > _POINTS:
        yield f"curves: {len(values['curves']):,} points, more than {_POINTS:,}"
    if values["status"] == "ok":
        yield from _metrics(values["metrics"])
        yield from _ledger(values["ledger"])
        yield from _partition(values["partition"])
        yield from _curves(values["curves"])


def _settings(settings: Mapping[str, Any], place: str = "settings") -> Iterator[str]:
    """Refuse keys that a place written with dots could not name, and a cell without its parts."""
    for key, value in settings.items():
        if "." in key:
            yield f"{place}: the key {key!r} has a dot in it"
        if isinstance(value, Mapping):
            yield from _settings(value, f"{place}.{key}")
    if place == "settings":
        method = settings.get("method")
        if not isinstance(method, Mapping) or not isinstance(method.get("name"), str):
            yield "settings.method.name: missing"
        if not isinstance(settings.get("seed", 0), int):
            yield f"settings.seed: {settings['seed']!r} is no whole number"


def _environment(where: Mapping[str, Any]) -> Iterator[str]:
    """Refuse what no machine has: a computation is repeated with it."""
    threads = where.get("threads", 1)
    if not isinstance(threads, int) or not _within(threads, _THREADS):
        yield f"environment.threads: {threads!r} is no whole number in [0, {_THREADS}]"
    if not isinstance(where.get("device", ""), str):
        yield f"environment.device: {where['device']!r} is no text"


def _metrics(metrics: Mapping[str, Any]) -> Iterator[str]:
    if "accuracy" not in metrics:
        yield "metrics.accuracy: missing"
    for name, most in _METRICS.items():
        value = metrics.get(name)
        if value is not None and not _within(value, most):
            yield f"metrics.{name}: {value!r} is no number in [0, {most:g}]"
    for value in _listed(metrics.get("per_class", [])):
        if value is not None and not _within(value, 1):
            yield f"metrics.per_class: {value!r} is no number in [0, 1]"


def _ledger(ledger: Mapping[str, Any]) -> Iterator[str]:
    for name, value in ledger.items():
        if not isinstance(value, Mapping | list) and not _within(value, _LARGEST):
            yield f"ledger.{name}: {value!r} is no number in [0, {_LARGEST:g}]"


def _partition(partition: Mapping[str, Any]) -> Iterator[str]:
    histogram = partition.get("histogram")
    rows = _listed(histogram)
    if not rows or not all(
        isinstance(row, list) and all(isinstance(n, int) and n >= 0 for n in row) for row in rows
    ):
        yield "partition.histogram: has to be the counts of each class for each client"


def _curves(curves: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for number, point in enumerate(curves):
        if not isinstance(point.get("name"), str):
            yield f"curves[{number}].name: missing"
        for key, most in (("accuracy", 1.0), ("step", _LARGEST)):
            if not _within(point.get(key), most):
                yield f"curves[{number}].{key}: {point.get(key)!r} is no number in [0, {most:g}]"


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _within(value: object, most: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= most  # type: ignore[arg-type, operator]
