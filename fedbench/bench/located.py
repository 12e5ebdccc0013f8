"""YAML that knows its lines: values as PyYAML reads them, and where each of them was written.

Unlike ``yaml.safe_load``, a key that stands twice in one mapping is a fault: PyYAML would silently
take the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

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
        values: As ``yaml.safe_load`` returns them.
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


def read_located(text: str) -> Located:
    """Read YAML.

    Raises:
        yaml.YAMLError: It is no YAML; the error has the place (see ``syntax_problem``).
    """
    loader = yaml.SafeLoader(text)
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
        self.marks: dict[Place, Mark] = {}
        self.problems: list[Problem] = []

    def visit(self, node: yaml.Node, path: Place) -> None:
        """Note where a node and all that it holds begin."""
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
