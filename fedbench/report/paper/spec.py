"""What the tables of a source look like: which published numbers and which records fill a cell.

A specification is data, one YAML file a source, beside the published numbers; ``docs/tables.md``
defines its keys. A cell's query is what its table, row and columns say, the more special last.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, model_validator

from fedbench.errors import SettingsError, StoreError
from fedbench.report.published import published_folder
from fedbench.settings import S, Settings, validate

#: The one in C, where PyYAML was built with it, takes a tenth of the time.
_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader

Scalar = str | int | float | bool | None
Value = Scalar | list[Scalar]
Query = dict[str, Value]


class Part(Settings):
    """What a table, a row or a column says of its cells."""

    where: Query = Field(default_factory=dict)
    """Asked of published numbers and of records alike."""
    number: Query = Field(default_factory=dict)
    """Asked of published numbers only."""
    ours: Query = Field(default_factory=dict)
    """Asked of records only."""
    paper: Query = Field(default_factory=dict)
    """The source's settings: not asked for, and named where the nearest record has others. None
    takes one away again that the table has."""


class Entry(Part):
    """A row, or a column of one level."""

    label: str
    """As the source calls it."""
    metric: str | None = None
    """What its numbers are, where that is not the table's."""
    published: bool = True
    """Whether the source has numbers here; false for a row of ours that it lacks."""
    absent: str = ""
    """Why fedbench cannot compute it, where that is so; its cells stand empty."""


class Table(Part):
    """One table or figure of a source."""

    name: str
    """Short, for anchors, captions and labels."""
    title: str
    """What it compares."""
    place: str
    """Where the source has it."""
    note: str = ""
    """What a reader has to know."""
    metric: str = "accuracy"
    """What the numbers are: `accuracy`, or `local_gain` (see ``pool.METRICS``)."""
    rows: tuple[Entry, ...]
    """From top to bottom."""
    columns: tuple[tuple[Entry, ...], ...]
    """Levels of the head, each value of the first with all of the next."""
    elsewhere: bool = False
    """Whether other papers' numbers of the same method, data set and skew stand there too, or
    alone where the source has none (see ``match.also``)."""
    known: Literal["all", "some", "none"] = "all"
    """Whether every row and column of the source has a number that is known, some have, or none."""
    runs: str = ""
    """A setting whose values are the source's runs: records that differ in it alone are seeds."""
    suites: tuple[str, ...] = ()
    """Suites below `benchmarks/` that compute it."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        for labels in ([row.label for row in self.rows], *self.heads()):
            if len({*labels}) < len(labels):
                raise ValueError(f"table {self.name!r} has two rows or columns of one label")
        if not self.rows or not all(self.columns):
            raise ValueError(f"table {self.name!r} needs rows and columns")
        return self

    def heads(self) -> list[list[str]]:
        """Return the labels of each level of columns."""
        return [[entry.label for entry in level] for level in self.columns]

    def cells(self) -> Iterator[tuple[int, int, Cell]]:
        """Yield each cell with the places of its row and column, row by row."""
        for i, row in enumerate(self.rows):
            for j, column in enumerate(product(*self.columns)):
                yield i, j, Cell.of(self, row, column)


class Source(Settings):
    """The tables of one document."""

    name: str
    """Of its files, such as `collabdm`."""
    order: int
    """Its place among the sources."""
    title: str
    """Of the document."""
    cite: str
    """Authors, year, where."""
    about: str
    """What is known of its numbers, in a few sentences."""
    files: tuple[str, ...]
    """Files of published numbers that are this source's own."""
    methods: tuple[str, ...] = ()
    """Methods whose preset ``reference`` is this source's code, so that what it names is compared
    as well."""
    tables: tuple[Table, ...]
    """In the document's order."""

    @model_validator(mode="after")
    def _named_apart(self) -> Self:
        names = [table.name for table in self.tables]
        if len({*names}) < len(names):
            raise ValueError(f"source {self.name!r} has two tables of one name")
        return self


class Cell(Settings):
    """What one cell asks for, its table's, row's and columns' words put together."""

    table: str
    row: str
    column: tuple[str, ...]
    number: Query
    ours: Query
    paper: Query
    metric: str
    published: bool
    absent: str

    @classmethod
    def of(cls, table: Table, row: Entry, column: tuple[Entry, ...]) -> Self:
        """Put a cell's query together."""
        parts: list[Part] = [table, row, *column]
        merged: dict[str, Query] = {"number": {}, "ours": {}, "paper": {}}
        for part in parts:
            says = [*listed(merged["number"].get("says")), *listed(part.number.get("says"))]
            merged["number"] |= part.where | part.number
            if says:
                merged["number"]["says"] = says
            merged["ours"] |= part.where | part.ours
            merged["paper"] |= part.paper
        merged["paper"] = {k: value for k, value in merged["paper"].items() if value is not None}
        entries = (row, *column)
        metrics = [entry.metric for entry in entries if entry.metric]
        return cls(
            metric=metrics[-1] if metrics else table.metric,
            table=table.name,
            row=row.label,
            column=tuple(entry.label for entry in column),
            absent=next((entry.absent for entry in entries if entry.absent), ""),
            published=table.known != "none" and all(entry.published for entry in entries),
            **merged,
        )

    @property
    def place(self) -> str:
        """The cell's name in errors."""
        return f"{self.table}: {self.row}, {', '.join(self.column)}"


def listed(value: Value) -> list[Scalar]:
    """Return one value, several or none as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def tables_folder() -> Path:
    """Return the folder of specifications: in the installed package, or in the checkout."""
    return published_folder() / "tables"


def read_sources(folder: Path | None = None) -> list[Source]:
    """Read all specifications, in the order that they give themselves.

    Raises:
        StoreError: There is none, or one is no YAML.
        SettingsError: One has an unknown key or a wrong value; the message has the file.
    """
    folder = folder or tables_folder()
    found = [read_source(path) for path in sorted(folder.glob("*.yaml"))]
    if not found:
        raise StoreError(f"there are no specifications of tables (*.yaml) in {folder}")
    return sorted(found, key=lambda source: (source.order, source.name))


def read_source(path: Path) -> Source:
    """Read one specification.

    Raises:
        StoreError: It is no YAML, or cannot be read.
        SettingsError: It has an unknown key or a wrong value.
    """
    source = read_settings(Source, path)
    if source.name != path.stem:
        raise SettingsError(f"{path}: `name` is {source.name!r}; call it {path.stem!r}")
    return source


def read_settings(kind: type[S], path: Path) -> S:
    """Read settings of one kind from a file of YAML.

    Raises:
        StoreError: It is no YAML, or cannot be read.
        SettingsError: It has an unknown key or a wrong value; the message has the file.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    try:
        return validate(kind, tree)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
