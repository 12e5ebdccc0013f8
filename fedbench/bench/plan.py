"""From a suite to cells: every combination validated, skips named, equal cells merged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedbench.bench.planfile import Entry, Plan
from fedbench.bench.suite import Suite, Tree, merge
from fedbench.config import Cell, parse
from fedbench.errors import SettingsError
from fedbench.registry import DATASETS, METHODS


@dataclass(frozen=True)
class Planned:
    """One cell of a plan.

    Attributes:
        cell: Its settings.
        cell_id: Its identity.
        skip: Why it cannot run, or None.
        group: Cells of one group share client trainings.
    """

    cell: Cell
    cell_id: str
    skip: str | None
    group: str


def skip_reason(cell: Cell) -> str | None:
    """Return why a cell cannot run, or None; knows settings only, no data."""
    from fedbench.models.families import why_not

    size = cell.data.image_size or DATASETS.get(cell.data.name).size
    for model in cell.models:
        if size is not None and (reason := why_not(model, size)) is not None:
            return reason
    return METHODS.get(cell.method.name)(cell.method).skip(cell)


def planned(cell: Cell) -> Planned:
    """Return one cell with its identity and skip reason.

    A budget that its method does not use is dropped.
    """
    if cell.budget is not None and not METHODS.get(cell.method.name).uses_budget:
        cell = cell.model_copy(update={"budget": None})
    part = cell.model_dump(
        mode="json", include={"data", "partition", "models", "recipe", "seed", "precision"}
    )
    return Planned(cell, cell.cell_id, skip_reason(cell), json.dumps(part, sort_keys=True))


def plan(
    suite: Suite,
    *,
    seeds: int | None = None,
    overrides: Sequence[Tree] = (),
    only: Callable[[Cell], bool] = lambda _: True,
) -> list[Planned]:
    """Expand a suite that has its profile merged in (see ``Suite.sized``).

    Args:
        suite: What to expand.
        seeds: Number of seeds instead of the suite's.
        overrides: Settings laid over every cell.
        only: Which cells to keep.

    Returns:
        Cells in an order in which several workers seldom want the same client training at once:
        the first of every group, then the second of every group, and so on.

    Raises:
        SettingsError: A combination is not valid; the message names it.
    """
    found: dict[str, Planned] = {}
    for tree in suite.trees(seeds):
        if suite.excluded(tree) is not None:
            continue
        for override in overrides:
            tree = merge(tree, override)
        cell = _parse(suite, tree)
        if only(cell):
            entry = planned(cell)
            found.setdefault(entry.cell_id, entry)
    ranks: dict[str, int] = {}
    keyed = []
    for place, entry in enumerate(found.values()):
        rank = ranks[entry.group] = ranks.get(entry.group, -1) + 1
        keyed.append((rank, place, entry))
    return [entry for _, _, entry in sorted(keyed, key=lambda item: item[:2])]


def to_file(suite: Suite, cells: Sequence[Planned]) -> Plan:
    """Return what a report needs to know of a plan, to be written."""
    entries = (
        Entry(entry.cell_id, entry.skip, entry.cell.model_dump(mode="json")) for entry in cells
    )
    return Plan(suite.name, suite.title, suite.profile, tuple(entries))


def _parse(suite: Suite, tree: Tree) -> Cell:
    try:
        return parse(tree)
    except SettingsError as error:
        raise SettingsError(
            f"suite {suite.name!r}, combination {json.dumps(tree)}: {error}"
        ) from error
