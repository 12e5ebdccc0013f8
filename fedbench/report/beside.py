"""One's own rows beside a published board: its finished cells join the plan, with their records.

Blocks are formed by settings, not by suites, so a row of another suite stands where it would have
stood had it been part of the board's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedbench.bench.planfile import Entry, Plan, read_plan
from fedbench.bench.records import read_records
from fedbench.errors import SettingsError
from fedbench.files import write_atomic
from fedbench.report import labels


def finished(board: Path) -> tuple[Entry, ...]:
    """Return the cells of a board that have a good record, in the order of its plan.

    Raises:
        StoreError: There is no plan.
        SettingsError: No cell has one.
    """
    good = {one.cell_id for _, one in read_records(board / "records") if one.status == "ok"}
    found = tuple(entry for entry in read_plan(board / "plan.json").cells if entry.cell_id in good)
    if not found:
        raise SettingsError(f"{board} has no finished cell to stand beside")
    return found


def joined(plan: Plan, others: Sequence[Entry]) -> Plan:
    """Return a plan with other cells behind its own."""
    own = {entry.cell_id for entry in plan.cells}
    return replace(plan, cells=(*plan.cells, *(e for e in others if e.cell_id not in own)))


def copy_records(board: Path, others: Sequence[Entry], folder: Path) -> None:
    """Copy the records of cells as they are, without touching those that are there already.

    Args:
        board: Where they are.
        others: The cells.
        folder: Of the suite that they come to.
    """
    for entry in others:
        name = f"{entry.cell_id}.json"
        if not (folder / "records" / name).exists():
            write_atomic(folder / "records" / name, (board / "records" / name).read_bytes())


def apart(plan: Plan, others: Sequence[Entry]) -> list[str]:
    """Return what keeps a plan's cells out of the others' blocks; nothing if any stands in one.

    Returns:
        Settings of the block that comes nearest, such as ``recipe.epochs=5, 20 there``.
    """
    ours = [labels.of_block(labels.flatten(entry.settings)) for entry in plan.cells]
    theirs = [labels.of_block(labels.flatten(entry.settings)) for entry in others]
    pairs = [(one, other, labels.varying([one, other])) for one in ours for other in theirs]
    one, other, names = min(pairs, key=lambda pair: len(pair[2]), default=({}, {}, []))
    return [f"{name}={one.get(name, 'none')}, {other.get(name, 'none')} there" for name in names]
