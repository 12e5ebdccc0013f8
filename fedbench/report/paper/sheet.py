"""A source's tables with their cells filled: published numbers, ours, and what lies between."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedbench.errors import SettingsError
from fedbench.report.paper.match import Deviation, Match, also, nearest, numbers_of
from fedbench.report.paper.pool import METRICS, Group, Result, result
from fedbench.report.paper.spec import Cell, Source, Table
from fedbench.report.published import Published, published_folder, read_file

_LETTERS = string.ascii_lowercase


@dataclass(frozen=True)
class Filled:
    """One cell.

    Attributes:
        cell: Its query.
        numbers: The source's own; more than one where the source contradicts itself.
        others: What other sources publish for it.
        match: The nearest records; None where nothing has run.
        ours: Their mean.
        mark: The letter of its deviations below the table; empty where there are none.
    """

    cell: Cell
    numbers: tuple[Published, ...]
    others: tuple[Published, ...]
    match: Match | None
    ours: Result | None
    mark: str = ""

    @property
    def group(self) -> Group | None:
        """The records that it shows."""
        return self.match.group if self.match else None


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes:
        table: Its specification.
        lines: Rows of cells.
        marks: Deviations by letter, in order of their first cell.
    """

    table: Table
    lines: tuple[tuple[Filled, ...], ...]
    marks: dict[str, tuple[Deviation, ...]]

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


def read_numbers(folder: Path | None = None) -> dict[str, list[Published]]:
    """Read published numbers by file.

    Raises:
        StoreError: A file is damaged.
    """
    folder = folder or published_folder()
    return {path.stem: read_file(path) for path in sorted(folder.glob("*.csv"))}


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
    return Document(
        source, tuple(_sheet(source, table, numbers, groups) for table in source.tables)
    )


def _sheet(
    source: Source,
    table: Table,
    numbers: dict[str, list[Published]],
    groups: Sequence[Group],
) -> Sheet:
    found: dict[tuple[int, int], Filled] = {}
    for i, j, cell in table.cells():
        found[i, j] = _filled(source, table, cell, numbers, groups)
    _check_filled(source, table, found)
    marks: dict[tuple[Deviation, ...], str] = {}
    lines: list[list[Filled]] = [[] for _ in table.rows]
    for (i, _), filled in found.items():
        own = filled.match.deviations if filled.match and filled.ours else ()
        mark = marks.setdefault(own, _letter(len(marks))) if own else ""
        lines[i].append(
            Filled(filled.cell, filled.numbers, filled.others, filled.match, filled.ours, mark)
        )
    return Sheet(table, tuple(map(tuple, lines)), {mark: own for own, mark in marks.items()})


def _filled(
    source: Source,
    table: Table,
    cell: Cell,
    numbers: dict[str, list[Published]],
    groups: Sequence[Group],
) -> Filled:
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
    everything = [line for lines in numbers.values() for line in lines]
    others = (
        [other for other in also(own[0], everything) if other not in own]
        if (own and table.elsewhere)
        else []
    )
    match = None if cell.absent else nearest(cell, own, groups)
    ours = result(match.group, cell.metric) if match else None
    return Filled(cell, tuple(own), tuple(others), match if ours else None, ours)


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


def _letter(place: int) -> str:
    """Return a, b, ..., z, aa, ab, ..."""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, len(_LETTERS))
        letters = _LETTERS[rest] + letters
    return letters
