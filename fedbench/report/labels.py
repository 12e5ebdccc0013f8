"""Names of rows and blocks: which settings tell one from another, and how they are written.

Works on the settings as records hold them, flattened to ``{"method.mu": 0.1, ...}``. What
``frame`` groups and counts, this module names.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import Any

from fedbench.bench.records.about import STAR, method_label, preset_label, text
from fedbench.bench.records.completed import completed

Flat = dict[str, str | int | float]

#: Neither is what a row is: rows are means over seeds, and a preset is a name for its settings.
NOT_IDENTITY = ("seed", "method.preset")
#: Settings that may differ between rows of one block. The number of draws changes no partition, and
#: what a method brings by plugins (`versions.plugin`, `versions.plugins`) is its own.
OF_ROWS = (
    *("method.", "student.", "evaluation.", "budget.", "partition.max_tries"),
    *("versions.method", "versions.plugin"),
)
#: Blocks are sorted by these first, in this order.
FIRST = ("data.name", "partition.scheme", "partition.beta", "partition.clients")
#: What every scheme has, and what changes no partition.
_OF_NO_SCHEME = tuple(
    f"partition.{name}" for name in ("scheme", "clients", "validation", "max_tries")
)
_IN_TITLE = ("data.name", "data.path", "models")
_STUDENT = "student.model."
#: So many settings make a name that is longer than what it names.
_MANY = 3
_SHORT = ("data.", "partition.", "evaluation.", "method.", "budget.")


def flatten(settings: Mapping[str, Any]) -> Flat:
    """Return what identifies a row: settings by dotted name.

    Left out are the seed, the preset's name, and what is None. A setting that the record is older
    than has its default.

    Args:
        settings: Of a record.
    """
    settings = completed(settings)
    flat = _flatten(settings, "")
    if (student := settings.get("student", {}).get("model")) is not None:
        flat = {name: value for name, value in flat.items() if not name.startswith(_STUDENT)}
        flat["student.model"] = model_label([student])
    return {name: value for name, value in flat.items() if name not in NOT_IDENTITY}


def _flatten(values: Mapping[str, Any], prefix: str) -> Flat:
    flat: Flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple | bool):
            flat[prefix + key] = json.dumps(value, sort_keys=True, separators=(",", ":"))
        elif value is not None:
            flat[prefix + key] = value
    return flat


def with_short_paths(flats: Iterable[Flat], others: Iterable[Flat] = ()) -> list[Flat]:
    """Return settings with folders of data by their names, as far as these tell them apart.

    Where a folder lies is nobody's matter. Two folders of one name have their parents' as well.

    Args:
        flats: Of records, or of cells (see ``flatten``).
        others: Further cells that these are told apart from.
    """
    flats = list(flats)
    paths = {str(flat["data.path"]) for flat in (*flats, *others) if "data.path" in flat}
    steps = {path: [step for step in PurePath(path).parts if step != "/"] for path in paths}

    def short(path: str) -> str:
        own = steps[path]
        for count in range(1, len(own) + 1):
            if sum(other[-count:] == own[-count:] for other in steps.values()) == 1:
                return "/".join(own[-count:])
        return path

    return [
        {**flat, "data.path": short(str(flat["data.path"]))} if "data.path" in flat else flat
        for flat in flats
    ]


def dataset(flat: Flat) -> str:
    """Return a data set's name, with its folder's where it has one (see ``with_short_paths``)."""
    return " ".join(str(flat[name]) for name in ("data.name", "data.path") if name in flat)


def origin(versions: Mapping[str, Any], data: Mapping[str, Any]) -> Flat:
    """Return what has to be equal besides settings for numbers to be comparable.

    The method's own version and the files of its resources may differ within a block (see
    ``of_row``), but not within a row.

    Args:
        versions: Of a record: of the parts that made it.
        data: Of a record, whose fingerprint tells data files apart, and digests pictures.
    """
    fingerprint = data.get("fingerprint")
    known = {"fingerprint": fingerprint[:12] if fingerprint else None}
    files = {name: str(digest)[:12] for name, digest in (data.get("resources") or {}).items()}
    return _flatten({"data": known, "versions": {**versions, "method_files": files}}, "")


def of_block(flat: Flat) -> Flat:
    """Return the settings that a row shares with the rows that it is compared with."""
    return {name: value for name, value in flat.items() if not name.startswith(OF_ROWS)}


def of_row(flat: Flat) -> Flat:
    """Return the settings in which it may differ from them."""
    return {name: value for name, value in flat.items() if name.startswith(OF_ROWS)}


def varying(several: Iterable[Flat]) -> list[str]:
    """Return the names, sorted, of the settings that are not the same in all."""
    several = list(several)
    names = sorted(set().union(*several))
    return [name for name in names if len({flat.get(name) for flat in several}) > 1]


def telling(several: Iterable[Flat]) -> list[str]:
    """Return the fewest settings, sorted by name, that tell apart what differs in any.

    Settings that go together, such as all those of a search, are told by one of them: rather by a
    word than by a number, and rather by a number than by yes or no.

    Args:
        several: What one table shows under the same name.
    """
    distinct = _distinct(several)
    names, chosen = varying(distinct), list[str]()

    def parts(chosen: list[str]) -> int:
        return len({tuple(flat.get(name) for name in chosen) for flat in distinct})

    def rank(name: str) -> tuple[int, int, str]:
        values = {flat[name] for flat in distinct if name in flat}
        words = all(isinstance(value, str) for value in values)
        kind = 2 if values <= {"true", "false"} else int(not words)
        return -parts([*chosen, name]), kind, name

    while parts(chosen) < parts(names):
        chosen.append(min((name for name in names if name not in chosen), key=rank))
    return sorted(chosen)


def besides(several: Iterable[Flat], told: Sequence[str]) -> Flat:
    """Return what goes unsaid where a name tells the fewest settings: the values of more than half.

    A row that has another value of one of these differs in it as well, beside what it is told by.

    Args:
        several: What one table shows under the same name.
        told: Settings that tell them apart (see ``telling``).

    Returns:
        Of the settings that vary and are not among those told; none of fewer than three rows, of
        which no value is that of most.
    """
    distinct = _distinct(several)
    names = [name for name in varying(distinct) if name not in told]
    return _of_most(distinct, names) if len(distinct) >= _MANY else {}


def beside_most(flat: Flat, most: Flat) -> list[str]:
    """Return in which settings a row is not as most are (see ``besides``), sorted by name."""
    return sorted(name for name, value in most.items() if name in flat and flat[name] != value)


def usual(several: Iterable[Flat], names: Sequence[str]) -> Flat:
    """Return what a name need not say: the values that more than half of several have.

    Only of three settings or more, since two are soon said, and of settings that all have.

    Args:
        several: What one table shows under the same name.
        names: Settings that tell them apart (see ``telling``).
    """
    distinct = _distinct(several)
    shared = [name for name in names if all(name in flat for flat in distinct)]
    return _of_most(distinct, shared) if len(names) >= _MANY else {}


def _distinct(several: Iterable[Flat]) -> list[Flat]:
    return [dict(items) for items in {tuple(sorted(flat.items())): None for flat in several}]


def _of_most(distinct: Sequence[Flat], names: Iterable[str]) -> Flat:
    """Return the values that more than half have, of those settings of which there is one."""
    found: Flat = {}
    for name in names:
        known = (flat[name] for flat in distinct if name in flat)
        value, count = Counter(known).most_common(1)[0]
        if 2 * count > len(distinct):
            found[name] = value
    return found


def beyond_title(names: Iterable[str]) -> list[str]:
    """Return those settings of blocks that a title names only where they vary."""
    return [
        name
        for name in names
        if name == "partition.validation"
        or (name not in _IN_TITLE and not name.startswith("partition."))
    ]


def scheme_parameters(flat: Flat) -> list[str]:
    """Return the scheme's own parameters, such as ``["beta=0.1", "min_size=10"]``."""
    own = [name for name in sorted(flat) if name.startswith("partition.")]
    return written(flat, [name for name in own if name not in _OF_NO_SCHEME])


def written(flat: Flat, names: Iterable[str]) -> list[str]:
    """Return settings as ``name=value``, the clients' networks as one says them.

    Those that are None or absent are left out.
    """
    return [
        str(said(name, flat[name])) if name == "models" else f"{_short(name)}={_text(flat[name])}"
        for name in names
        if name in flat
    ]


def said(name: str, value: str | int | float) -> str | int | float:
    """Return a value of flattened settings as one says it: networks by their label."""
    return model_label(json.loads(str(value))) if name == "models" else value


def model_label(models: Iterable[Mapping[str, Any]]) -> str:
    """Return the clients' architectures in their order, such as ``convnet-w32-d3+resnet8``."""
    letters = (("width", "w"), ("depth", "d"), ("norm", ""), ("initialisation", ""))
    return "+".join(
        "-".join(
            [
                model["name"],
                *(f"{letter}{model[key]}" for key, letter in letters if model.get(key) is not None),
            ]
        )
        for model in models
    )


def starred(preset: str | None, overridden: Iterable[str], said: Iterable[str]) -> str | None:
    """Return a preset's label without a star that would say what its row's name says already.

    Args:
        preset: See ``preset_label``.
        overridden: The settings that a star stands for, by dotted name.
        said: The settings that stand beside it.
    """
    return None if preset == STAR and set(overridden) <= set(said) else preset


def cell_label(settings: Mapping[str, Any]) -> str:
    """Return a cell's name, such as ``fedavg (one_shot), digits, iid, K=5, seed 0``.

    Args:
        settings: Of a record or of a plan's entry.
    """
    (flat,), method = with_short_paths([flatten(settings)]), settings["method"]
    split = " ".join([str(flat["partition.scheme"]), *scheme_parameters(flat)])
    name = method_label(str(method["name"]), preset_label(method))
    return (
        f"{name}, {dataset(flat)}, {split}, K={flat['partition.clients']}, seed {settings['seed']}"
    )


def natural(label: str) -> list[tuple[float, str]]:
    """Return a key that sorts numbers within texts by their size."""
    parts = re.split(r"(\d+(?:\.\d+)?)", label)
    return [(float(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)]


def _short(name: str) -> str:
    """Drop the part's name; recipes keep theirs, as methods have epochs of their own."""
    for prefix in _SHORT:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _text(value: str | int | float) -> str:
    """Write a number as short as it can be without becoming another one, and lists with ``+``."""
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError):  # a name may begin so
            return text(json.loads(value))
    return text(value)
