"""One cell: what is wished for, the cell that this means, and its record."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fedbench.errors import DataError, SettingsError
from fedbench.imports import heavy_imports
from fedbench.methods import METHODS
from fedbench.session.console import stderr, warn

if TYPE_CHECKING:
    from fedbench.bench.cells.runtime import Runtime
    from fedbench.bench.memo import Memo
    from fedbench.bench.records.record import Record
    from fedbench.bench.suites.plan import Planned
    from fedbench.config import Cell

#: The folder below the home for cells that belong to no suite.
SUITE = "run"


@dataclass(frozen=True)
class Wish:
    """What is asked for by single settings, before any method is looked at.

    Attributes:
        tree: Settings that were named, and those of a suite, nested.
        epochs: Those that were named, which some methods have as a setting of their own.
        over: Settings that are laid over all others.
    """

    tree: dict[str, Any]
    epochs: int | None
    over: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        places: Mapping[str, Any],
        suite: Path | None = None,
        profile: str | None = None,
    ) -> Self:
        """Return the wish of some settings, with nothing laid over them yet.

        Args:
            places: Values by the place of a setting; None of what was not named.
            suite: A suite file, whose fixed settings are begun with.
            profile: The suite's profile.

        Raises:
            SettingsError: The suite cannot be read, or there is a profile of none.
        """
        from fedbench.bench.suites.suite import merge, nest, read_suite

        tree: dict[str, Any] = {}
        if suite is not None:
            tree = merge(tree, read_suite(suite).sized(profile).fixed)
        elif profile is not None:
            raise SettingsError("a profile belongs to a suite; name the suite as well")
        for place, value in places.items():
            if value is not None:
                tree = merge(tree, nest(place, value))
        return cls(tree, places.get("recipe.epochs"))

    @property
    def whole(self) -> dict[str, Any]:
        """Its settings with those laid over them."""
        from fedbench.bench.suites.suite import merge

        return reduce(merge, self.over, self.tree)


def check_wish(wish: Wish, means: Runtime) -> None:
    """Refuse at once, before torch is imported, what lacks a method or its data.

    Data that are not here are no fault where a record of them is: it may be the cell's.

    Raises:
        SettingsError: With a line for each thing that is missing.
        DataError: The data are not here, as far as a look can tell.
    """
    from fedbench.bench.cells.lookup import has_record_of, why_absent
    from fedbench.data.settings import Data
    from fedbench.settings import validate

    tree, faults, data = wish.whole, list[str](), None
    if "method" not in tree:
        faults.append("no method is named; name one (`fedbench methods` lists them)")
    try:
        data = validate(Data, tree.get("data", {}), "data")
    except SettingsError as error:
        faults.append(str(error))
    if faults or data is None:
        raise SettingsError("\n".join(faults))
    why = why_absent(data, means.data, offline=means.offline)
    if why is not None and not has_record_of(means.home / SUITE, data):
        raise DataError(why)


def finished(wish: Wish, means: Runtime, memo: Memo) -> tuple[Path, Record] | None:
    """Return a good record of a wish that was granted before, without importing its method."""
    from fedbench.bench.cells.lookup import record_of
    from fedbench.data.settings import Data
    from fedbench.federation.resources import Folders, digests

    known = memo.recall(asdict(wish))
    if known is None:
        return None
    if known["resources"] != digests(known["resources"], Folders(means.data, means.home)):
        return None
    data = Data.model_validate(known["data"])
    found = record_of(means.home, SUITE, known["cell_id"], data, means.data)
    if found is not None:
        for message in known["warnings"]:
            warn(message)
        stderr.print("this cell has a record, which is taken; force computes it again")
    return found


def cell_of(wish: Wish, means: Runtime, memo: Memo) -> Cell:
    """Return the cell that a wish means, and keep in mind which one it is.

    Raises:
        SettingsError: A setting is missing or wrong.
        DataError: See ``check_wish``.
    """
    check_wish(wish, means)
    with heavy_imports():
        return _build(wish, means, memo)


def _build(wish: Wish, means: Runtime, memo: Memo) -> Cell:
    from fedbench.bench.suites.suite import merge
    from fedbench.config import parse
    from fedbench.federation.resources import Folders, digests

    tree, over = wish.tree, [_with_method_named(assignment) for assignment in wish.over]
    if wish.epochs is not None:
        method = _with_method_named(wish.whole)["method"]
        name = method.get("name") if isinstance(method, Mapping) else None
        if isinstance(name, str) and METHODS.get(name).Config.has_local_epochs():
            tree = merge(tree, {"method": {"name": name, "epochs": wish.epochs}})
    for assignment in over:
        tree = merge(tree, assignment)
    entry = runnable(parse(tree))
    cell, method = entry.cell, METHODS.get(entry.cell.method.name)
    if method.__module__.startswith("fedbench."):
        names = method(cell.method).resources(cell)
        answer = {
            "cell_id": cell.cell_id,
            "data": cell.data.model_dump(mode="json"),
            # Whether a cell can run may depend on a picture, so its digest is asked for again.
            "resources": digests(names, Folders(means.data, means.home)),
            "warnings": list(entry.warnings),
        }
        memo.keep(asdict(wish), answer)
    return cell


def _with_method_named(tree: dict[str, Any]) -> dict[str, Any]:
    """Return settings with a method that is a name alone as one that has it."""
    method = tree.get("method")
    return {**tree, "method": {"name": method}} if isinstance(method, str) else tree


def runnable(cell: Cell) -> Planned:
    """Return a cell as a plan has it, without a budget or a recipe that its method does not use.

    Raises:
        SettingsError: It cannot run.
    """
    from fedbench.bench.suites.plan import planned

    entry = planned(cell)
    if entry.skip:
        raise SettingsError(f"this cell cannot run: {entry.skip}{_budget_option(entry.cell)}")
    for message in entry.warnings:
        warn(message)
    return entry


def _budget_option(cell: Cell) -> str:
    """Return how to give a budget, where a cell lacks one that its method needs."""
    if cell.budget is not None or not METHODS.get(cell.method.name).uses_budget:
        return ""
    return "; set ipc, such as 10, or budget.pixels, such as 100000"


def obtain(cell: Cell, means: Runtime, *, force: bool) -> tuple[Path, Record]:
    """Return a cell's record and its place, computing it unless there is a good one.

    Raises:
        DataError: It has to be computed, and its data are not here.
    """
    from fedbench.bench.cells.lookup import good_record
    from fedbench.bench.records.record import record_path
    from fedbench.session.progress import one_cell

    found = good_record(means.home, SUITE, cell, means.data)
    if found is not None and not force:
        stderr.print("this cell has a record, which is taken; force computes it again")
        return found
    refuse_absent(cell, means)
    if force:
        shutil.rmtree(means.home / SUITE / "scratch" / cell.cell_id, ignore_errors=True)
    record = one_cell(cell, means, suite=SUITE)
    return record_path(means.home, SUITE, cell.cell_id), record


def refuse_absent(cell: Cell, means: Runtime) -> None:
    """Refuse a cell whose data are not here, as far as a look can tell.

    Raises:
        DataError: With a line for each data set.
    """
    from fedbench.bench.cells.lookup import absent

    if faults := absent([cell], means.data, offline=means.offline):
        raise DataError("\n".join(faults.values()))
