"""What there is to say of a method without computing anything: for its page and the command line.

Most of it is the method's own answer to small cells: what it refuses, which resources it names, how
many rounds it has. Where a default comes from stands at its line in the code, as a comment, and is
read from there, so that it is written once.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from fedbench.bench.records.about import leaves
from fedbench.config import Cell, MethodConfig, parse
from fedbench.errors import SettingsError
from fedbench.federation.method import Method
from fedbench.federation.resources import Folders, declared
from fedbench.methods import METHODS
from fedbench.models.settings import Model
from fedbench.registry import describe
from fedbench.settings import Settings

#: What cells that a method is asked about are made of: some images that no client holds, hold-outs
#: for methods that measure themselves, and a budget for those that share images.
_ASKED = {
    "data": {"name": "cifar10", "train_size": 5000},
    "partition": {"clients": 5, "validation": 0.1},
    "budget": {"ipc": 10},
}
#: Pairs of architectures: with BatchNorm, and without.
_PAIRS = (("resnet8", "wrn16_4"), ("convnet", "dense_cnn"))
_LABELS = ("name", "preset")


class Fact(BaseModel):
    """Base of what is said: frozen, and JSON."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Setting(Fact):
    """One setting of a method."""

    name: str
    """Dotted, as `--set method.NAME=` takes it."""
    what: str
    """What it means."""
    default: Any
    """Its value where nothing is said, as JSON."""
    presets: dict[str, Any]
    """The values of the presets that have another one, by preset."""
    source: str
    """Where the default comes from, as the code says at its line."""


class Variant(Fact):
    """A method without a preset, or with one."""

    preset: str | None
    """The preset's name."""
    note: str
    """What the code says of it."""
    rounds: int
    """Communication rounds."""
    batch_norm: Literal["any", "needed", "refused"]
    """Whether clients' networks have to have BatchNorm, or must not."""
    unless: str
    """A setting that lifts this, or nothing."""
    resources: tuple[str, ...]
    """What the server has beside uploads, in words."""
    privileges: tuple[str, ...]
    """What of it other methods are not given, and what clients tell of their labels."""


class Facts(Fact):
    """What there is to say of a method."""

    name: str
    """What users write."""
    what: str
    """One line."""
    paper: str
    """What its file cites first, with its address; may be empty."""
    version: int
    """Of its results."""
    control: bool
    """Whether it is there to compare with, and not ranked."""
    everyone: bool
    """Whether all clients take part in every round."""
    uses_budget: bool
    """Whether it shares images, of as many pixels as the budget says."""
    uses_student: bool
    """Whether a model is trained on them by the cell's `student`."""
    course: dict[str, str]
    """Who does what and what passes: `down`, `client`, `up`, `server`, `leaves`; or nothing."""
    mixed: str
    """Whether clients may have several architectures: `yes`, `no`, or `yes, with SETTING`."""
    refusal: str
    """What it says of a network that it cannot take, where there is one."""
    variants: tuple[Variant, ...]
    """Without a preset, and with each."""
    settings: tuple[Setting, ...]
    """All of its own, in the order of its class."""
    example: str
    """A command that runs it on the embedded data set."""

    @property
    def plain(self) -> Variant:
        """The method without a preset."""
        return self.variants[0]


def facts(name: str) -> Facts:
    """Return what there is to say of a method.

    Raises:
        SettingsError: There is no such method, or its settings have no defaults.
    """
    method = METHODS.get(name)
    notes = preset_notes(method)
    variants = [_variant(method, preset, notes) for preset in (None, *method.presets)]
    return Facts(
        name=name,
        what=describe(method),
        paper=paper(method),
        version=method.version,
        control=method.control,
        everyone=method.everyone,
        uses_budget=method.uses_budget,
        uses_student=method.uses_student,
        course=asdict(method.course) if method.course else {},
        mixed=_mixed(method),
        refusal=_refusal(method) or "",
        variants=tuple(variants),
        settings=tuple(_settings(method)),
        example=_example(method),
    )


def setting_names(method: type[Method]) -> dict[str, bool]:
    """Return a method's settings by dotted name, and whether each is its own and no other's."""
    every = MethodConfig.model_fields
    return {name: name not in every for name, _, _ in _fields(method.Config)}


def paper(method: type[Method]) -> str:
    """Return what a method's file cites first: the paragraph up to its first address."""
    text = importlib.import_module(method.__module__).__doc__ or ""
    for paragraph in text.split("\n\n"):
        words = " ".join(paragraph.split())
        if found := re.match(r"(.{,240}?https?://[^\s,;)]+)", words):
            return found[0].removeprefix("Source: ").rstrip(".")
    return ""


def _cell(
    method: type[Method],
    preset: str | None,
    *models: str,
    own: Mapping[str, object] | None = None,
    **more: object,
) -> Cell:
    """Return a cell to ask a method about, with some of its own settings and of the cell's."""
    settings = {"name": method.name, **({"preset": preset} if preset else {}), **(own or {})}
    over = {"models": list(models)} if models else {}
    return parse({**_ASKED, **over, **more, "method": settings})


def _reason(
    method: type[Method],
    preset: str | None,
    models: tuple[str, ...],
    own: Mapping[str, object] | None = None,
    **more: object,
) -> str | None:
    """Return why a method does not take clients of some architectures, or None."""
    try:
        cell = _cell(method, preset, *models, own=own, **more)
    except SettingsError as error:  # such as a setting that would change nothing
        return str(error)
    return method(cell.method).skip(cell)


def _variant(method: type[Method], preset: str | None, notes: Mapping[str, str]) -> Variant:
    norm, unless = _batch_norm(method, preset)
    cell = _cell(method, preset, _PAIRS[0][0] if norm == "needed" else _PAIRS[1][0])
    made = method(cell.method)
    named = [declared(name) for name in made.resources(cell)]
    nowhere = Folders(Path(), Path())
    told = [text for kind in named if (text := kind.privilege(cell, nowhere))]
    told = [text.lstrip("0123456789 ") for text in told]  # how many depends on the cell
    return Variant(
        preset=preset,
        note=notes.get(preset or "", ""),
        rounds=made.rounds(),
        batch_norm=norm,
        unless=unless,
        resources=tuple(resource_words(name) for name in made.resources(cell)),
        privileges=(*told, *(f"clients tell {each}" for each in made.disclosures(cell))),
    )


def resource_words(name: str) -> str:
    """Return what a resource is, in words, without how much of it there is.

    Args:
        name: Such as ``dataset:cifar100@500``.

    Raises:
        SettingsError: There is no such kind.
    """
    text = describe(type(declared(name))).rstrip(".")
    return text[:1].lower() + text[1:]


def _batch_norm(
    method: type[Method], preset: str | None
) -> tuple[Literal["any", "needed", "refused"], str]:
    """Say which networks a method takes, and which setting makes it take the others."""
    (with_it, _), (without, _) = _PAIRS
    refused = [_reason(method, preset, (name,)) for name in (without, with_it)]
    if not any(refused) or all(refused):
        return "any", ""
    need: Literal["needed", "refused"] = "needed" if refused[0] else "refused"
    model = without if refused[0] else with_it
    return need, _lifted(method, preset, (model,), without)


def _mixed(method: type[Method]) -> str:
    """Say whether clients may have several architectures."""
    for pair in _PAIRS:
        if any(_reason(method, None, (name,)) for name in pair):
            continue
        if _reason(method, None, pair) is None:
            return "yes"
        lifted = _lifted(method, None, pair, pair[0])
        return f"yes, with {lifted}" if lifted else "no"
    return "no"


def _refusal(method: type[Method]) -> str | None:
    for name in (_PAIRS[1][0], _PAIRS[0][0]):
        if reason := _reason(method, None, (name,)):
            return reason
    return None


def _lifted(method: type[Method], preset: str | None, models: tuple[str, ...], network: str) -> str:
    """Return the fewest settings with which a method takes what it refuses, or nothing."""
    fields = method.Config.model_fields
    known: dict[str, object] = {
        name: network for name, field in fields.items() if Model in get_args(field.annotation)
    }
    if "batch_norm" in fields:
        known["batch_norm"] = 0
    places = [*known, *(["student.model"] if method.uses_student else [])]
    for many in (1, 2):
        for some in combinations(places, many):
            own = {name: known[name] for name in some if name in known}
            more = {"student": {"model": network}} if "student.model" in some else {}
            if _reason(method, preset, models, own, **more) is None:
                words = [f"`{n}: 0`" if n == "batch_norm" else f"`{n}`" for n in some]
                return " and ".join(words)
    return ""


def _settings(method: type[Method]) -> Iterator[Setting]:
    """Yield a method's settings, those inside others by dotted names."""
    config = method.Config
    usual = dict(leaves(_cell(method, None).method.model_dump(mode="json")))
    given = {
        preset: dict(leaves(_cell(method, preset).method.model_dump(mode="json")))
        for preset in method.presets
    }
    for name, what, source in _fields(config):
        value = usual.get(name)
        yield Setting(
            name=name,
            what=what,
            default=value,
            presets={
                preset: values[name]
                for preset, values in given.items()
                if name in values and values[name] != value
            },
            source=source,
        )


def _fields(config: type[Settings], above: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield each setting's dotted name, what it means, and where its default is from."""
    said = comments(config)
    for name, field in config.model_fields.items():
        if not above and name in _LABELS:
            continue
        kind = type(field.get_default(call_default_factory=True))
        if issubclass(kind, Settings) and kind is not Model:
            yield from _fields(kind, f"{above}{name}.")
            continue
        what = " ".join((field.description or "").replace("``", "`").split())
        yield f"{above}{name}", what, said.get(name, "")


def comments(config: type[Settings]) -> dict[str, str]:
    """Return the comments at the lines of a class's settings, those that it inherits as well."""
    found: dict[str, str] = {}
    for kind in reversed(config.__mro__):
        if issubclass(kind, Settings) and kind is not Settings:
            tree, said = _read(kind)
            for node in tree.body if tree else ():
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                    words = " ".join(said[line][1] for line in lines if line in said)
                    found[node.target.id] = words
    return found


def preset_notes(method: type[Method]) -> dict[str, str]:
    """Return the comments above the presets of a method, by preset."""
    for kind in method.__mro__:
        if "presets" in vars(kind):
            tree, said = _read(kind)
            return dict(_notes(tree.body if tree else (), said))
    return {}


def _notes(
    body: Iterable[ast.stmt], said: Mapping[int, tuple[bool, str]]
) -> Iterator[tuple[str, str]]:
    for node in body:
        target = getattr(node, "target", None)
        value = getattr(node, "value", None)
        if getattr(target, "id", "") != "presets" or not isinstance(value, ast.Dict):
            continue
        for key in value.keys:
            if isinstance(key, ast.Constant):
                line, words = key.lineno - 1, list[str]()
                while line in said and said[line][0]:
                    words.insert(0, said[line][1])
                    line -= 1
                yield str(key.value), " ".join(words)


def _read(kind: type) -> tuple[ast.ClassDef | None, dict[int, tuple[bool, str]]]:
    """Return a class's syntax and its comments by line: whether it stands alone, and its text.

    Nothing where the source is not at hand, as of a class that was typed into a session.
    """
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        return None, {}
    said = {
        token.start[0]: (not token.line[: token.start[1]].strip(), token.string.lstrip("# "))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    (node,) = ast.parse(source).body
    return (node if isinstance(node, ast.ClassDef) else None), said


def _example(method: type[Method]) -> str:
    """Return a command that runs a method on the embedded data set."""
    words = [f"fedbench run --dataset digits --method {method.name} --beta 0.1"]
    words += ["--ipc 10"] if method.uses_budget else []
    for size in (None, 1200):  # some methods want images that no client holds
        for model in (None, "resnet8"):
            data = {"name": "digits", **({"train_size": size} if size else {})}
            if _reason(method, None, (model,) if model else (), data=data) is None:
                words += [f"--train-size {size}"] if size else []
                words += [f"--model {model}"] if model else []
                return " ".join(words)
    return " ".join(words)
