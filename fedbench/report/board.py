"""A leaderboard's content: the plan, the records that belong to it, and the rows made of them.

This is where pandas is imported; what only asks for plans or records does without.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from fedbench.bench.records.completed import filled
from fedbench.bench.records.record import Record, read_records
from fedbench.bench.suites.planfile import Plan, read_plan
from fedbench.bench.suites.selection import Wish, select
from fedbench.report import labels, runs
from fedbench.report.frame import Row, Value, records_frame, rows_frame, views


@dataclass(frozen=True)
class Board:
    """What every table, figure and page of a suite is made of.

    Attributes:
        plan: What was asked for.
        good: The good records of the plan's cells, in the order they were given in.
        failed: The failed ones, likewise.
        records: A line for each good record (see ``frame.records_frame``).
        rows: A line for each method and setting, sorted (see ``frame.rows_frame``).
        views: The same as objects, for what prints and draws them.
    """

    plan: Plan
    good: tuple[Record, ...]
    failed: tuple[Record, ...]
    records: pd.DataFrame
    rows: pd.DataFrame
    views: list[Row]

    @cached_property
    def runs(self) -> list[dict[str, Value]]:
        """A line for every cell of the plan, as ``runs.csv`` has it and with seconds, by column."""
        return runs.values(self.plan, self.views, self.failed)

    @staticmethod
    def of(plan: Plan, records: Iterable[Record]) -> Board:
        """Return the board of a plan and its records; skipped ones have no place in it.

        Settings that a record is too old to name, under which its cell is the same, are the plan's:
        rows that differ in nothing else are one row.
        """
        planned = {entry.cell_id: entry.settings for entry in plan.cells}
        found = tuple(
            each.model_copy(
                update={"settings": filled(each.settings, planned.get(each.cell_id, {}))}
            )
            for each in records
        )
        frame = records_frame(found, [labels.flatten(entry.settings) for entry in plan.cells])
        rows = rows_frame(frame)
        return Board(
            plan=plan,
            good=tuple(record for record in found if record.status == "ok"),
            failed=tuple(record for record in found if record.status == "failed"),
            records=frame,
            rows=rows,
            views=views(rows),
        )

    def only(self, wishes: Sequence[Wish]) -> Board:
        """Return the board of some cells; one without a budget stays whatever budget is wished.

        Args:
            wishes: See ``selection.parse_only``; without any, the board stays as it is.

        Raises:
            SettingsError: No cell has a value that is wished, or none has all of them.
        """
        if not wishes:
            return self
        cells = self.plan.cells
        chosen = select([e.settings for e in cells], wishes, suite=self.plan.suite, budgetless=True)
        kept = tuple(entry for entry, wanted in zip(cells, chosen, strict=True) if wanted)
        ids = {entry.cell_id for entry in kept}
        found = (record for record in (*self.good, *self.failed) if record.cell_id in ids)
        return Board.of(replace(self.plan, cells=kept), found)


def read_board(folder: Path) -> Board:
    """Read a suite's folder, ``runs/SUITE`` or ``leaderboards/SUITE``.

    Raises:
        StoreError: There is no plan, or it is damaged. A damaged record is named and left out.
    """
    plan = read_plan(folder / "plan.json")
    ids = {entry.cell_id for entry in plan.cells}
    found = (record for _, record in read_records(folder / "records") if record.cell_id in ids)
    return Board.of(plan, found)
