"""Two suites side by side: which rows' means differ, matched by settings.

``bench.compare`` compares single records; this module compares what tables show of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan

from fedbench.report.board import Board
from fedbench.report.frame import Row
from fedbench.report.tables import COLUMNS

#: Numbers of rows that are compared; seconds are not.
COMPARED = tuple(
    name
    for name in COLUMNS[COLUMNS.index("n") :]
    if name not in ("gap_to_centralised", "resources", "record_ids")
)


@dataclass(frozen=True)
class RowChange:
    """A row of two suites whose numbers differ.

    Attributes:
        label: The method, with what tells it apart.
        partition: Data set and partition.
        values: The numbers that differ: name, in A, in B.
    """

    label: str
    partition: str
    values: dict[str, tuple[float | None, float | None]]


def row_changes(one: Board, other: Board) -> list[RowChange]:
    """Return the rows that both boards have, by equal settings, and whose numbers differ.

    Rows come in the order of the first board.
    """
    theirs = {_key(row): row for row in other.views}
    pairs = ((row, theirs[_key(row)]) for row in one.views if _key(row) in theirs)
    changes = (_change(left, right) for left, right in pairs)
    return [change for change in changes if change.values]


def rows_only_in(one: Board, other: Board) -> list[str]:
    """Return the names of rows that the first board has and the second has not."""
    known = {_key(row) for row in other.views}
    return _names(row for row in one.views if _key(row) not in known)


def same(one: float | None, other: float | None) -> bool:
    """Return whether two numbers are equal; two NaNs are."""
    return one == other or (one is not None and other is not None and isnan(one) and isnan(other))


def _names(rows: Iterable[Row]) -> list[str]:
    return [f"{row.values['label']}, {_place(row)}" for row in rows]


def _change(one: Row, other: Row) -> RowChange:
    values = {
        name: (_number(one, name), _number(other, name))
        for name in COMPARED
        if not same(_number(one, name), _number(other, name))
    }
    return RowChange(str(one.values["label"]), _place(one), values)


def _place(row: Row) -> str:
    budget = f", {row.values['budget_pixels']:,} px" if row.values["budget_pixels"] else ""
    return f"{row.values['dataset']} {row.values['partition']}, K={row.values['clients']}{budget}"


def _number(row: Row, name: str) -> float | None:
    value = row.values[name]
    return None if value is None else float(value)


def _key(row: Row) -> str:
    return json.dumps(row.settings, sort_keys=True)
