"""One's own rows beside a published board: its finished cells join the plan, with their records.

Blocks are formed by settings, not by suites, so a row of another suite stands where it would have
stood had it been part of the board's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedbench.bench.records.record import Record, read_records
from fedbench.bench.suites.planfile import Entry, Plan, read_plan
from fedbench.errors import SettingsError
from fedbench.files import write_atomic
from fedbench.report import labels, tables
from fedbench.report.frame import rows, setting

#: What tells one block from another; budgets apart, of which each block may have several.
_Block = tuple[tuple[str, str | int | float], ...]


@dataclass(frozen=True)
class Meeting:
    """A block where cells of a suite and rows of a board stand together.

    Attributes:
        title: What all of them share.
        cells: How many cells of the suite come there.
        rows: How many rows of the board stand there, those apart that the suite has as well.
        records: How many records these are made of.
    """

    title: str
    cells: int
    rows: int
    records: int


@dataclass(frozen=True)
class Beside:
    """A board, as a suite's cells meet it.

    Attributes:
        folder: Of the board.
        cells: Its finished cells that stand beside some of the suite, in the order of its plan.
        records: Theirs, with the files that they are in.
        meetings: The blocks that have both.
        apart: How many cells of the suite stand in no block of the board.
        same: The suite's cells that are finished on the board.
    """

    folder: Path
    cells: tuple[Entry, ...]
    records: tuple[tuple[Path, Record], ...]
    meetings: tuple[Meeting, ...]
    apart: int
    same: frozenset[str]


def beside(board: Path, plan: Plan) -> Beside:
    """Look at where a plan's cells meet a board's rows.

    Args:
        board: The folder of its plan and records.
        plan: Of one's own suite; cells that are skipped come nowhere.

    Raises:
        StoreError: The board has no plan.
        SettingsError: It has no finished cell, or the two have no block in common; the message
            names the nearest block and what differs.
    """
    others = finished(board)
    if differing := apart(plan, others):
        profile = read_plan(board / "plan.json").profile
        raise SettingsError(
            f"no cell of suite {plan.suite!r}, profile {plan.profile}, can be compared with one of "
            f"{board}, whose profile is {profile}; the nearest block, {_nearest(plan, others)}, "
            f"differs in {'; '.join(differing)}; take the board's profile, or set these alike"
        )
    ours = [entry for entry in plan.cells if entry.skip is None]
    others = _near(others, ours)
    names = {entry.cell_id for entry in others}
    found = tuple(pair for pair in read_records(board / "records") if pair[1].cell_id in names)
    meetings = _meetings(ours, others, [record for _, record in found])
    return Beside(
        board,
        others,
        found,
        tuple(meetings),
        len(ours) - sum(each.cells for each in meetings),
        frozenset(entry.cell_id for entry in ours if entry.cell_id in names),
    )


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
    one, other = _closest(plan, others)
    return [
        f"{name}={_written(one, name)}, {_written(other, name)} there"
        for name in labels.varying([one, other])
    ]


def _written(flat: labels.Flat, name: str) -> str:
    value = flat.get(name, "none")
    return str(labels.said(name, value))


def _closest(plan: Plan, others: Sequence[Entry]) -> tuple[labels.Flat, labels.Flat]:
    """Return the settings of the two blocks that differ least, one of a plan, one of others."""
    wanted = [entry for entry in plan.cells if entry.skip is None] or plan.cells
    ours, theirs = _distinct(wanted), _distinct(others)
    pairs = [(one, other) for one in ours for other in theirs]
    return min(pairs, key=lambda pair: len(labels.varying(pair)), default=({}, {}))


def _distinct(cells: Iterable[Entry]) -> list[labels.Flat]:
    return [dict(key) for key in dict.fromkeys(_block(entry.settings) for entry in cells)]


def _nearest(plan: Plan, others: Sequence[Entry]) -> str:
    """Return the title of the others' block that comes nearest to a plan's cells."""
    block = tuple(sorted(_closest(plan, others)[1].items()))
    first = next(entry for entry in others if _block(entry.settings) == block)
    return _title(first.settings, ())


def _near(others: Sequence[Entry], ours: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return those of others' cells that stand in a block of ours, under a budget of ours."""
    cells = _by_block(ours)

    def stands(entry: Entry) -> bool:
        budgets = [_budget(each.settings) for each in cells.get(_block(entry.settings), ())]
        return bool(budgets) and _meets(_budget(entry.settings), budgets)

    return tuple(entry for entry in others if stands(entry))


def _by_block(cells: Iterable[Entry]) -> dict[_Block, list[Entry]]:
    found: dict[_Block, list[Entry]] = {}
    for entry in cells:
        found.setdefault(_block(entry.settings), []).append(entry)
    return found


def _meetings(
    ours: Sequence[Entry], near: Sequence[Entry], good: Sequence[Record]
) -> list[Meeting]:
    """Return the blocks that cells have in common with those near them, by title."""
    settings = {entry.cell_id: entry.settings for entry in near}
    cells = _by_block(ours)
    theirs: dict[_Block, list[Record]] = {}
    for record in good:
        theirs.setdefault(_block(settings[record.cell_id]), []).append(record)
    beyond = labels.beyond_title(labels.varying(map(dict, theirs)))
    found = []
    for block, members in theirs.items():
        own = {entry.cell_id for entry in cells[block]}
        rivals = [each for each in members if each.cell_id not in own]
        title = _title(settings[members[0].cell_id], beyond)
        found.append(Meeting(title, len(cells[block]), len(rows(rivals)), len(rivals)))
    return sorted(found, key=lambda each: labels.natural(each.title))


def _block(settings: Mapping[str, object]) -> _Block:
    return tuple(sorted(labels.of_block(labels.flatten(settings)).items()))


def _budget(settings: Mapping[str, object]) -> dict[str, object]:
    flat = labels.flatten(settings)
    return {name: value for name, value in flat.items() if name.startswith("budget.")}


def _meets(budget: dict[str, object], others: Sequence[dict[str, object]]) -> bool:
    """Say whether a row stands beside any of a block; without a budget it does under every one."""
    return not budget or any(not other or other == budget for other in others)


def _title(settings: Mapping[str, object], beyond: Iterable[str]) -> str:
    """Return what stands above a block (see ``tables.title``), without its budgets."""
    flat = labels.flatten(settings)
    return tables.title(
        {
            **setting(settings, flat, {}),
            "parameters": " · ".join(labels.scheme_parameters(flat)) or None,
            "settings": " · ".join(labels.written(flat, beyond)) or None,
            "budget_pixels": None,
        }
    )
