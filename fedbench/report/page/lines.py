"""The page's table: columns, blocks of lines, what can be filtered, and the data behind them.

The lines are those of ``table.md``; numbers for sorting and downloads are the text of
``table.csv`` and ``runs.csv``, so that page and files cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from fedbench.bench.records.about import About, about, leaves, overrides, text
from fedbench.bench.records.record import Record
from fedbench.report import labels, runs, tables
from fedbench.report.board import Board
from fedbench.report.columns import COLUMNS, Column, count, percent, seconds
from fedbench.report.columns import columns as every_column
from fedbench.report.csvs import as_text, plain
from fedbench.report.frame import Row, Value, blocks, metrics
from fedbench.report.marks import Mark, marks

#: Columns of the download of runs: all of ``runs.csv`` but the long one.
RUN_COLUMNS = tuple(name for name in runs.RUN_COLUMNS if name != "all_settings")
#: Drawn points: width and margin, as the template has them.
WIDE, EDGE = 150, 5


@dataclass(frozen=True)
class Points:
    """The drawn accuracies of a row, as horizontal places: mean, ends of the whisker, seeds."""

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """One record of a row, as its details show it."""

    seed: str
    accuracy: str
    balanced: str
    worst: str
    cell_id: str
    link: str


@dataclass(frozen=True)
class Line:
    """A row in one block.

    Attributes:
        number: Its place in ``table.csv``.
        row: What it shows.
        mark: Its place in the block.
        mean: Accuracy in percent.
        std: Its deviation in percent, empty for one seed.
        points: As drawn, or None without an accuracy.
        where: Its setting, as far as settings vary; shown where blocks are not.
        cells: Texts of the columns; None for times.
        runs: One a record.
        privileges: What its method was given that others were not.
        about: Its method in words.
        own: The method's settings: name, value, and the preset's where that is another.
        commits: Of the checkouts that computed it.
    """

    number: int
    row: Row
    mark: Mark
    mean: str
    std: str
    points: Points | None
    where: str
    cells: list[str | None]
    runs: list[Run]
    privileges: str
    about: About
    own: list[tuple[str, str, str]]
    commits: str


@dataclass(frozen=True)
class Block:
    """One table: its title, its budget as the filter has it, contenders and controls."""

    title: str
    budget: str
    contenders: list[Line]
    controls: list[Line]


@dataclass(frozen=True)
class Filter:
    """A setting to choose rows by: its name, its label, and its values with what is shown."""

    name: str
    label: str
    options: list[tuple[str, str]]


def columns(rows: Sequence[Row]) -> tuple[Column, ...]:
    """Return the columns that follow the accuracies of a board's rows."""
    return tuple(column for column in every_column(rows) if column.heading)


def blocks_of(rows: Sequence[Row], records: str) -> list[Block]:
    """Return the leaderboard's blocks as the page shows them.

    Args:
        rows: Of a board, in order.
        records: Link to the folder of record files.
    """
    numbers = {id(row): number for number, row in enumerate(rows)}
    places = _places(rows)
    axis, shown = scale(rows), columns(rows)
    found = []
    for head, members in blocks(rows):
        all_lines = [
            _line(numbers[id(row)], row, mark, places[id(row)], axis, shown, records)
            for row, mark in zip(members, marks(members), strict=True)
        ]
        found.append(
            Block(
                tables.title(head),
                budget_value(head),
                [line for line in all_lines if not line.row.control],
                [line for line in all_lines if line.row.control],
            )
        )
    return found


def _line(
    number: int,
    row: Row,
    mark: Mark,
    where: str,
    axis: tuple[float, float],
    shown: Iterable[Column],
    records: str,
) -> Line:
    values = row.values
    std = values["accuracy_std"]
    privileges = sorted({name for record in row.records for name in record.privileges})
    return Line(
        number,
        row,
        mark,
        percent(values["accuracy_mean"]),
        percent(std) if std is not None else "",
        _drawn(row, axis),
        where,
        [None if column.timing else column.text(values) for column in shown],
        [_run(record, records) for record in row.records],
        "; ".join(privileges),
        about(row.records[0].settings["method"], row.records[0].about),
        _own(row.records[0]),
        ", ".join(sorted({_commit(record) for record in row.records})),
    )


def _own(record: Record) -> list[tuple[str, str, str]]:
    method = record.settings["method"]
    other = overrides(method, record.about)
    return [
        (name, text(value), text(other[name][1]) if name in other else "")
        for name, value in leaves(method)
        if name not in ("name", "preset")
    ]


def _commit(record: Record) -> str:
    commit = str(record.environment.get("commit") or "unknown")[:12]
    return f"{commit} with changes" if record.environment.get("dirty") else commit


def _run(record: Record, records: str) -> Run:
    return Run(
        str(record.settings["seed"]),
        percent(record.metrics.get("accuracy")),
        percent(record.metrics.get("balanced_accuracy")),
        percent(_worst(record)),
        record.cell_id,
        record_link(record.cell_id, records),
    )


def _worst(record: Record) -> float | None:
    """Return the accuracy of the worst client, of whichever kind the record's method has."""
    known = metrics(record)
    worst = known["worst_client"]
    return known["own_worst_client"] if worst is None else worst


def record_link(cell_id: str, records: str) -> str:
    """Return the relative link to a cell's record."""
    return f"{records}{quote(cell_id, safe='')}.json"


def scale(rows: Iterable[Row]) -> tuple[float, float]:
    """Return the ends of the axis that all accuracies are drawn on, multiples of 10 in percent."""
    ends = [end for row in rows for end in _ends(row)]
    if not ends:
        return 0.0, 100.0
    low = max(0.0, 10.0 * math.floor(10 * min(ends)))
    high = min(100.0, 10.0 * math.ceil(10 * max(ends)))
    return (low, high) if high > low else (max(0.0, low - 10), low or 10.0)


def _ends(row: Row) -> list[float]:
    """Return a row's seeds and the ends of its whisker, in [0, 1]."""
    mean, std = row.values["accuracy_mean"], row.values["accuracy_std"] or 0.0
    if mean is None:
        return []
    return [float(mean) - float(std), float(mean) + float(std), *_by_seed(row)]


def _by_seed(row: Row) -> list[float]:
    return list(row.accuracies.values())


def _drawn(row: Row, axis: tuple[float, float]) -> Points | None:
    if row.values["accuracy_mean"] is None:
        return None
    low, high = axis
    places = []
    for value in [float(row.values["accuracy_mean"]), *_ends(row)]:
        share = (min(max(100 * value, low), high) - low) / (high - low)
        places.append(round(EDGE + share * (WIDE - 2 * EDGE), 1))
    return Points(places[0], places[1], places[2], tuple(places[3:]))


def _places(rows: Sequence[Row]) -> dict[int, str]:
    """Return each row's setting in words, without what all rows have in common; by ``id``."""
    parts: dict[int, list[str]] = {}
    for head, members in blocks(rows):
        for row in members:
            values = row.values
            parts[id(row)] = [
                str(values["dataset"]),
                str(values["scheme"]),
                *(greek(text) for text in labels.scheme_parameters(row.settings)),
                f"K={values['clients']}",
                str(values["model"]),
                *([str(head["settings"])] if head["settings"] else []),
                *([budget_text(values)] if values["budget_pixels"] is not None else []),
            ]
    common = set.intersection(*map(set, parts.values())) if parts else set()
    return {
        row: " · ".join(word for word in words if word not in common)
        for row, words in parts.items()
    }


def greek(text: str) -> str:
    """Return settings as titles write them."""
    return text.replace("beta=", "β=")


def budget_value(values: dict[str, Value]) -> str:
    """Return a budget as the filter names it."""
    if values["budget_pixels"] is None:
        return "–"
    return f"{values['budget_pixels']} {values['budget_scope']}"


def budget_text(values: dict[str, Value]) -> str:
    """Return a budget for people."""
    if values["budget_pixels"] is None:
        return "none"
    return f"{count(values['budget_pixels'])} px {values['budget_scope']}"


def filters(rows: Sequence[Row]) -> list[Filter]:
    """Return what rows can be chosen by: the settings of which there are several values."""
    named = (
        ("dataset", "Data set"),
        ("scheme", "Split"),
        ("beta", "β"),
        ("clients", "K"),
        ("budget", "Budget"),
        ("method", "Method"),
        ("profile", "Profile"),
        ("kind", "Rows"),
    )
    found = [Filter(name, label, _options(rows, name)) for name, label in named]
    return [one for one in found if len(one.options) > 1]


def _options(rows: Sequence[Row], name: str) -> list[tuple[str, str]]:
    if name == "kind":
        kinds = {row.control for row in rows}
        both = (("contenders", "Contenders", False), ("controls", "Controls", True))
        return [(value, text) for value, text, control in both if control in kinds]
    if name == "budget":
        heads = [head for head, _ in blocks(rows)]
        pairs = {(head["budget_pixels"], head["budget_scope"]): head for head in heads}
        ordered = sorted(pairs, key=lambda pair: (float(pair[0] or 0), str(pair[1])))
        return [(budget_value(pairs[pair]), budget_text(pairs[pair])) for pair in ordered]
    values = {row.values[name] for row in rows}
    ordered_values = sorted(
        values,
        key=lambda value: (
            value is None,
            float(value) if isinstance(value, int | float) else 0.0,
            str(value),
        ),
    )
    return [(plain(name, value) or "–", plain(name, value) or "none") for value in ordered_values]


def data(board: Board) -> dict[str, object]:
    """Return what the page's script sorts, filters and downloads, as text; no seconds.

    ``rows`` has the lines of ``table.csv``, ``runs`` those of ``runs.csv`` that belong to a row,
    each behind the number of its row; both as ``_packed`` has them, for much is said often.
    """
    table = as_text(tables.COLUMNS, (row.values for row in board.views))
    good = (line for line in board.runs if line["status"] == "ok")
    owner = {
        record.cell_id: number for number, row in enumerate(board.views) for record in row.records
    }
    return {
        "suite": board.plan.suite,
        "columns": tables.COLUMNS,
        "rows": _packed([list(row.values()) for row in table]),
        "labels": [row.values["label"] for row in board.views],
        "runColumns": RUN_COLUMNS,
        "runs": _packed(
            [
                [owner[run["cell_id"]], *(run[name] for name in RUN_COLUMNS)]
                for run in as_text(runs.RUN_COLUMNS, good)
            ]
        ),
    }


def _packed(rows: Sequence[Sequence[str | int]]) -> dict[str, list[object]]:
    """Return a table as each column's values, and for each row which of them it has."""
    columns = [list(dict.fromkeys(column)) for column in zip(*rows, strict=True)]
    places = [{value: place for place, value in enumerate(column)} for column in columns]
    numbered = [[own[value] for own, value in zip(places, row, strict=True)] for row in rows]
    return {"values": list(columns), "rows": list(numbered)}


def times(rows: Iterable[Row]) -> dict[str, list[list[str]]]:
    """Return the columns of seconds: for each row its number for sorting and its text."""
    rows = list(rows)
    return {
        key: [[plain(key, row.values[key]), seconds(row.values[key])] for row in rows]
        for key in (column.key for column in COLUMNS if column.timing)
    }
