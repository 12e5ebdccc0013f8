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
    **dict.fromkeys(("best_accuracy", "worst_accuracy", "never", "domain_mean"), 1.0),
    "nll": 1e38,
}
#: Metrics that are lists of shares, or of nothing where no image has the class.
_SHARES = ("per_class", "on_mixes")
#: Numbers of a point of a curve and their largest value; the first ones are always there.
_POINT: Mapping[str, float] = {
    "accuracy": 1.0,
    "step": _LARGEST,
    "round": _LARGEST,
    "bytes": _LARGEST,
}
#: Where a training that diverged on its way leaves what is no finite number, in a good record too.
_DIVERGED = frozenset({"findings", "curves"})
_ASKED = frozenset({"accuracy", "step"})


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
    for place in sorted(values.keys() - _DIVERGED):
        yield from _numbers(place, values[place])
    yield from _settings(values["settings"])
    if not isinstance(values["about"].get("preset", {}), Mapping):
        yield f"about.preset: {values['about']['preset']!r} is no mapping of settings"
    yield from _environment(values["environment"])
    if len(values["curves"]) > _POINTS:
        yield f"curves: {len(values['curves']):,} points, more than {_POINTS:,}"
    if values["status"] == "ok":
        yield from _metrics(values["metrics"])
        yield from _ledger(values["ledger"])
        yield from _data(values["data"])
        yield from _partition(values["partition"])
        yield from _curves(values["curves"])


def _numbers(place: str, value: object) -> Iterator[str]:
    """Refuse, anywhere, numbers that JSON does not have: no figure has a place for them."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{place}: {value!r} is no finite number"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{place}.{key}", inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _numbers(f"{place}[{number}]", inner)


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
        data = settings.get("data")
        if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
            yield "settings.data.name: missing"
        elif not isinstance(data.get("image_size"), int | None):
            yield f"settings.data.image_size: {data['image_size']!r} is no whole number"
        if not isinstance(settings.get("seed", 0), int):
            yield f"settings.seed: {settings['seed']!r} is no whole number"


def _environment(where: Mapping[str, Any]) -> Iterator[str]:
    """Refuse what no machine has: a computation is repeated with it."""
    threads = where.get("threads", 1)
    if not isinstance(threads, int) or not _within(threads, _THREADS):
        yield f"environment.threads: {threads!r} is no whole number in [0, {_THREADS}]"
    if not isinstance(where.get("device", ""), str):
        yield f"environment.device: {where['device']!r} is no text"


def _metrics(metrics: Mapping[str, Any], place: str = "metrics") -> Iterator[str]:
    """Refuse scores, of the headline and of every model, that are no scores."""
    if "accuracy" not in metrics:
        yield f"{place}.accuracy: missing"
    for name, most in _METRICS.items():
        value = metrics.get(name)
        if value is not None and not _within(value, most):
            yield f"{place}.{name}: {value!r} is no number in [0, {most:g}]"
    for name in _SHARES:
        shares = metrics.get(name)
        if not isinstance(shares, list | None):
            yield f"{place}.{name}: {shares!r} is no list"
        for value in _listed(shares):
            if value is not None and not _within(value, 1):
                yield f"{place}.{name}: {value!r} is no number in [0, 1]"
    models = metrics.get("models", {})
    if not isinstance(models, Mapping):
        yield f"{place}.models: {models!r} are no scores by name"
        return
    for name, scores in models.items():
        if isinstance(scores, Mapping):
            yield from _metrics(scores, f"{place}.models.{name}")
        else:
            yield f"{place}.models.{name}: {scores!r} is no mapping of scores"


def _ledger(ledger: Mapping[str, Any], place: str = "ledger") -> Iterator[str]:
    """Refuse what is no count of bytes, messages or seconds, however deep it lies."""
    if place == "ledger" and not isinstance(ledger.get("traffic", {}), Mapping):
        yield f"ledger.traffic: {ledger['traffic']!r} are no counts by direction and purpose"
    for name, value in ledger.items():
        if isinstance(value, Mapping):
            yield from _ledger(value, f"{place}.{name}")
        elif not _within(value, _LARGEST):
            yield f"{place}.{name}: {value!r} is no number in [0, {_LARGEST:g}]"


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    """Refuse data without names of classes or with sizes that are no sizes."""
    classes = data.get("classes")
    if not _listed(classes) or not all(isinstance(name, str) for name in _listed(classes)):
        yield f"data.classes: {classes!r} has to be the classes' names"
    for name in ("train", "test", "channels", "size"):
        value = data.get(name)
        if value is not None and not _counts([value]):
            yield f"data.{name}: {value!r} is no whole number in [0, {_LARGEST:g}]"
    if not isinstance(data.get("resources", {}), Mapping):
        yield f"data.resources: {data['resources']!r} are no digests by name"
    notes = data.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        yield f"data.notes: {notes!r} has to be a list of sentences"


def _partition(partition: Mapping[str, Any]) -> Iterator[str]:
    histogram = partition.get("histogram")
    rows = _listed(histogram)
    if not rows or not all(isinstance(row, list) and _counts(row) for row in rows):
        yield "partition.histogram: has to be the counts of each class for each client"
    elif len({len(row) for row in rows}) > 1:
        yield "partition.histogram: its clients have different numbers of classes"
    if not _counts(partition.get("hold_outs", [])):
        yield f"partition.hold_outs: {partition['hold_outs']!r} has to be a count for each client"


def _curves(curves: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for number, point in enumerate(curves):
        if not isinstance(point.get("name"), str):
            yield f"curves[{number}].name: missing"
        for key, most in _POINT.items():
            if (key in point or key in _ASKED) and not _within(point.get(key), most):
                yield f"curves[{number}].{key}: {point.get(key)!r} is no number in [0, {most:g}]"
        if not isinstance(point.get("nll", 0.0), int | float):
            yield f"curves[{number}].nll: {point['nll']!r} is no number"


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _counts(values: object) -> bool:
    """Return whether these are whole numbers of something."""
    return isinstance(values, list) and all(
        isinstance(value, int) and _within(value, _LARGEST) for value in values
    )


def _within(value: object, most: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= most  # type: ignore[arg-type, operator]
