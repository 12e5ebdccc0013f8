"""A leaderboard's content: the plan, the records that belong to it, and the rows made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedbench.bench.planfile import Plan, read_plan
from fedbench.bench.records import Record, read_records
from fedbench.report.frame import Row, rows


@dataclass(frozen=True)
class Board:
    """What every table, figure and page of a suite is made of.

    Attributes:
        plan: What was asked for.
        records: The good ones of the plan's cells, in order of their ids.
        failed: The failed ones, likewise.
        rows: One for each method and setting, sorted (see ``frame.rows``).
    """

    plan: Plan
    records: tuple[Record, ...]
    failed: tuple[Record, ...]
    rows: list[Row]


def read_board(folder: Path) -> Board:
    """Read a suite's folder, ``runs/SUITE`` or ``leaderboards/SUITE``.

    Raises:
        StoreError: There is no plan, or it is damaged. A damaged record is named and left out.
    """
    plan = read_plan(folder / "plan.json")
    ids = {entry.cell_id for entry in plan.cells}
    found = [record for _, record in read_records(folder / "records") if record.cell_id in ids]
    good = tuple(record for record in found if record.status == "ok")
    failed = tuple(record for record in found if record.status == "failed")
    return Board(plan, good, failed, rows(good))
