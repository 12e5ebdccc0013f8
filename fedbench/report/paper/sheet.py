"""A source's tables with their cells filled: published numbers, ours, and what lies between."""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, product

from fedbench.errors import SettingsError
from fedbench.report.paper.choice import Choice, choose, describe
from fedbench.report.paper.match import Deviation, Match, also, candidates, numbers_of
from fedbench.report.paper.pool import METRICS, Group, Result, over_runs, result
from fedbench.report.paper.spec import Cell, Source, Table
from fedbench.report.published import Published


@dataclass(frozen=True)
class Filled:
    """One cell.

    Attributes:
        cell: Its query.
        numbers: The source's own; more than one where the source contradicts itself.
        others: What other sources publish for it.
        choice: The records that stand in it; None where nothing has run.
        ours: Their mean.
        mark: The letter of its deviations below the table; empty where there are none.
    """

    cell: Cell
    numbers: tuple[Published, ...]
    others: tuple[Published, ...]
    choice: Choice | None = None
    ours: Result | None = None
    mark: str = ""

    @property
    def group(self) -> Group | None:
        """The records that it shows."""
        return self.choice.match.group if self.choice else None

    @property
    def deviations(self) -> tuple[Deviation, ...]:
        """From the source's setting, and before them those from the other cells."""
        return (*self.choice.apart, *self.choice.match.deviations) if self.choice else ()

    @property
    def apart(self) -> bool:
        """Whether its records are not like those of the other cells of its data set."""
        return self.choice is not None and bool(self.choice.apart)


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes:
        table: Its specification.
        lines: Rows of cells.
        marks: Deviations by letter, in order of their first cell.
        blocks: What is common to cells, and which these are; no names where all are.
    """

    table: Table
    lines: tuple[tuple[Filled, ...], ...]
    marks: dict[str, tuple[Deviation, ...]]
    blocks: dict[str, tuple[str, ...]]

    @property
    def cells(self) -> list[Filled]:
        """All cells, row by row."""
        return [filled for line in self.lines for filled in line]


@dataclass(frozen=True)
class Document:
    """A source with its tables.

    Attributes:
        source: The specification.
        sheets: Its tables.
    """

    source: Source
    sheets: tuple[Sheet, ...]


def fill(source: Source, numbers: dict[str, list[Published]], groups: Sequence[Group]) -> Document:
    """Fill a source's tables.

    Args:
        source: The specification.
        numbers: Published numbers by file.
        groups: Records of all boards.

    Raises:
        SettingsError: A cell's query finds two numbers of one place of the source, or a row or a
            column finds none although the source has numbers there.
    """
    sheets = []
    for table in source.tables:
        pool = over_runs(groups, table.runs) if table.runs else groups
        sheets.append(_sheet(source, table, numbers, pool))
    return Document(source, tuple(sheets))


def _sheet(
    source: Source,
    table: Table,
    numbers: dict[str, list[Published]],
    groups: Sequence[Group],
) -> Sheet:
    cells = {(i, j): cell for i, j, cell in table.cells()}
    known = {place: _numbers(source, table, cell, numbers) for place, cell in cells.items()}
    answers = {
        place: [] if cell.absent else _answers(source, cell, known[place][0], groups)
        for place, cell in cells.items()
    }
    chosen, heads = choose(cells, answers, alone=table.known != "none")
    found = {
        place: Filled(cell, *known[place], choice, result(choice.match.group, cell.metric))
        if (choice := chosen.get(place))
        else Filled(cell, *known[place])
        for place, cell in cells.items()
    }
    _check_filled(source, table, found)
    marks: dict[tuple[Deviation, ...], str] = defaultdict(partial(next, _letters()))
    lines: list[list[Filled]] = [[] for _ in table.rows]
    for (i, _), filled in found.items():
        own = filled.deviations
        mark = marks[own] if own else ""
        lines[i].append(replace(filled, mark=mark))
    letters = {mark: own for own, mark in marks.items()}
    alike = {place: head for place, head in heads.items() if not found[place].apart}
    return Sheet(table, tuple(map(tuple, lines)), letters, _blocks(table, alike))


def _blocks(table: Table, heads: Mapping[tuple[int, int], Group]) -> dict[str, tuple[str, ...]]:
    """Return what cells have in common, with the columns or rows that have it."""
    places: dict[str, set[tuple[int, int]]] = {}
    for place, head in heads.items():
        places.setdefault(describe(head), set()).add(place)
    columns = [", ".join(words) for words in product(*table.heads())]
    rows = [row.label for row in table.rows]
    found: dict[str, tuple[str, ...]] = {}
    for block, own in places.items():
        others = set(heads) - own
        if not others:
            found[block] = ()
        elif {j for _, j in own}.isdisjoint(j for _, j in others):
            found[block] = tuple(columns[j] for j in sorted({j for _, j in own}))
        elif {i for i, _ in own}.isdisjoint(i for i, _ in others):
            found[block] = tuple(rows[i] for i in sorted({i for i, _ in own}))
        else:
            found[block] = tuple(f"{rows[i]}, {columns[j]}" for i, j in sorted(own))
    return found


def _answers(
    source: Source, cell: Cell, own: Sequence[Published], groups: Sequence[Group]
) -> list[Match]:
    """Return the groups that answer a cell and have its metric, the nearest first."""
    first = own[0] if own else None
    found = candidates(cell.ours, cell.paper, first, groups, source.methods)
    return [match for match in found if result(match.group, cell.metric) is not None]


def _numbers(
    source: Source, table: Table, cell: Cell, numbers: dict[str, list[Published]]
) -> tuple[tuple[Published, ...], tuple[Published, ...]]:
    """Return the source's own numbers of a cell, and others' where the table shows them."""
    if cell.metric not in METRICS:
        raise SettingsError(
            f"{source.name}: {cell.place}: metric {cell.metric!r} is none of {', '.join(METRICS)}"
        )
    own: list[Published] = []
    if cell.published:
        places = [(name, line) for name in source.files for line in numbers.get(name, [])]
        own = numbers_of(cell, places)
    sources = [number.source for number in own]
    if len({*sources}) < len(sources):
        raise SettingsError(
            f"{source.name}: {cell.place}: {len(own)} published numbers of one place answer "
            f"{cell.number}; ask for more"
        )
    # Without a number of its own, what its files have of others was not meant by the query.
    files = numbers if own else numbers.keys() - {*source.files}
    lines = [line for name in numbers if name in files for line in numbers[name]]
    asked = cell.published and table.elsewhere
    return tuple(own), tuple(also(cell, own, lines) if asked else ())


def _check_filled(source: Source, table: Table, found: dict[tuple[int, int], Filled]) -> None:
    """Refuse a row or column of the source in which no published number was found."""
    if table.known != "all":
        return
    for axis, what in ((0, "row"), (1, "column")):
        for place in {key[axis] for key in found}:
            cells = [filled for key, filled in found.items() if key[axis] == place]
            asked = [filled for filled in cells if filled.cell.published]
            if asked and not any(filled.numbers for filled in asked):
                name = asked[0].cell.row if axis == 0 else ", ".join(asked[0].cell.column)
                raise SettingsError(
                    f"{source.name}: {table.name}: no published number answers the {what} {name!r}"
                )


def _letters() -> Iterator[str]:
    """Yield a, b, ..., z, aa, ab, ..."""
    for length in count(1):
        yield from map("".join, product(string.ascii_lowercase, repeat=length))
