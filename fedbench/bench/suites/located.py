"""YAML that knows its lines: values, and where each of them was written.

Unlike ``yaml.safe_load``: a key that stands twice in one mapping is a fault, where PyYAML would
silently take the last; ``1e-3`` is a number, as in YAML 1.2; a date is a text; and a file whose
anchors unfold to more than ``_NODES`` values is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

#: Values of a file, anchors unfolded; the largest suite of ours has about 300.
_NODES = 100_000
#: Digits of a whole number; Python itself refuses more than 4,300.
_DIGITS = 400

#: A place in a tree of mappings and lists, such as ``("axes", "method", 2)``.
Place = tuple[str | int, ...]


@dataclass(frozen=True, order=True)
class Mark:
    """A place in a file, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, order=True)
class Problem:
    """Something wrong with a file.

    Attributes:
        mark: Where it is.
        place: The key it belongs to, such as ``axes.method[2]``; empty for the whole file.
        message: What is wrong, and what would do.
        harmless: A warning: the file can be used.
    """

    mark: Mark
    place: str
    message: str
    harmless: bool = False

    def line(self, path: Path) -> str:
        """Return it as ``FILE:LINE:COLUMN: place: message``, which editors can follow."""
        place = f"{self.place}: " if self.place else ""
        return f"{path}:{self.mark.line}:{self.mark.column}: {place}{self.message}"


@dataclass(frozen=True)
class Located:
    """What a file holds.

    Attributes:
        values: Mappings, lists and scalars.
        marks: Where every key of a mapping and every item of a list begins, by its place.
        problems: Keys that stand twice.
    """

    values: object
    marks: dict[Place, Mark]
    problems: tuple[Problem, ...] = ()

    def mark(self, path: Sequence[str | int]) -> Mark:
        """Return where a place was written; for one that was not, where its parent was."""
        path = tuple(path)
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, Mark(1, 1))


class _Loader(yaml.SafeLoader):
    """Reads numbers as YAML 1.2 does, and dates as text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    [*"-+0123456789"],
)


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    if len(node.value) > _DIGITS:
        raise yaml.constructor.ConstructorError(
            None, None, f"a number of more than {_DIGITS} digits", node.start_mark
        )
    return loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def read_value(text: str) -> object:
    """Read one value of a command line as a suite file would.

    Raises:
        yaml.YAMLError: It is no YAML.
    """
    return read_located(text).values


def read_located(text: str) -> Located:
    """Read YAML.

    Raises:
        yaml.YAMLError: It is no YAML; the error has the place (see ``syntax_problem``).
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Located(None, {})
        walk = _Walk(loader)
        walk.visit(node, ())
        return Located(loader.construct_document(node), walk.marks, tuple(walk.problems))
    finally:
        loader.dispose()


def syntax_problem(error: yaml.YAMLError | UnicodeDecodeError) -> Problem:
    """Return what could not be read as a problem with its place."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        words = [error.context, error.problem, error.note]
        text = ", ".join(word for word in words if word)
        return Problem(_mark(error.problem_mark), "", f"not YAML: {text}")
    return Problem(Mark(1, 1), "", f"not YAML: {error}")


def written(path: Sequence[str | int]) -> str:
    """Return a place as text: ``axes.method[2].rounds``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class _Walk:
    """Collects the marks of a tree of YAML nodes, and keys that stand twice."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self._loader = loader
        self._open: list[yaml.Node] = []
        self._seen = 0
        self.marks: dict[Place, Mark] = {}
        self.problems: list[Problem] = []

    def visit(self, node: yaml.Node, path: Place) -> None:
        """Note where a node and all that it holds begin."""
        self._seen += 1
        if self._seen > _NODES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {_NODES:,} values, anchors unfolded; write fewer",
                problem_mark=node.start_mark,
            )
        self.marks.setdefault(path, _mark(node.start_mark))
        if node in self._open:  # an anchor that holds itself
            return
        self._open.append(node)
        if isinstance(node, yaml.MappingNode):
            self._mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                self.visit(item, (*path, number))
        self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: Place) -> None:
        seen: dict[object, Mark] = {}
        merged: list[yaml.Node] = []
        for key_node, value in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged.extend(_parts(value))
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # `construct_document` says what is wrong with it
            key, mark = self._loader.construct_object(key_node), _mark(key_node.start_mark)
            here = (*path, key if isinstance(key, str | int) else str(key))
            if key in seen:
                first = seen[key].line
                self.problems.append(
                    Problem(mark, written(here), f"stands here twice, first in line {first}")
                )
            if key in seen or here not in self.marks:
                self.marks[here] = mark
            seen[key] = mark
            self.visit(value, here)
        for part in merged:  # last, so that a mapping's own keys keep their places
            self.visit(part, path)


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield the mappings that ``<<`` merges."""
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    else:
        yield node


def _mark(mark: yaml.Mark) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)
