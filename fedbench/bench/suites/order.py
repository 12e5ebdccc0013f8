"""What a sweep is asked for: the whole plan of a suite, and which of its cells to compute now.

The plan and the report keep the whole suite. `--only`, and fewer seeds than the suite has, narrow
what one call computes. More seeds make the plan larger, and it stays so: a later call with fewer
does not forget what is finished. Settings laid over all cells make another plan, which says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedbench.bench.cells.lookup import changed_files
from fedbench.bench.records.record import Record, read_records
from fedbench.bench.suites.plan import Expansion, Planned, expand, to_file
from fedbench.bench.suites.planfile import Plan, plan_path, read_plan
from fedbench.bench.suites.selection import Wish, select
from fedbench.bench.suites.suite import Suite, Tree, read_suite
from fedbench.data.settings import Data
from fedbench.errors import SettingsError, StoreError
from fedbench.federation.resources import Folders


@dataclass(frozen=True)
class Order:
    """What a sweep is asked for.

    Attributes:
        suite: With its profile merged in.
        cells: Of the whole plan, by id, in the order of computing.
        plan: The same as it is written.
        chosen: Ids of the cells that this call may compute.
        forgotten: Ids of the finished cells of the plan before that are not in this one.
    """

    suite: Suite
    cells: dict[str, Planned]
    plan: Plan
    chosen: frozenset[str]
    forgotten: frozenset[str]


def read_order(
    source: Path | Suite,
    home: Path,
    *,
    profile: str | None,
    seeds: int | None,
    overrides: Sequence[Tree],
    wishes: Sequence[Wish],
) -> Order:
    """Expand a suite.

    Args:
        source: Its file, or the suite itself.
        home: The folder of all results, where an earlier plan may be.
        profile: The suite's own where None.
        seeds: How many are to be computed; all of the suite's where None.
        overrides: Settings laid over every cell.
        wishes: See ``selection.parse_only``.

    Raises:
        SettingsError: The file, a combination or a wish is wrong; faults of the file have lines.
    """
    if seeds is not None and seeds < 1:
        raise SettingsError(f"seeds = {seeds}; ask for 1 at least")
    for tree in overrides:
        if "seed" in tree:
            raise SettingsError(
                f"seed = {tree['seed']} cannot be laid over all cells, which differ in it; ask for "
                f"a number of seeds and for only those with seed={tree['seed']}, or list seeds on "
                "an axis of the suite"
            )
    whole, path = (source, None) if isinstance(source, Suite) else (read_suite(source), source)
    suite = whole.sized(profile)
    finished = {record.cell_id for record in _good(home / suite.name)}
    before = _plan_before(home, suite.name)
    found = _expand(path, suite, seeds, overrides, finished, before)
    cells = {entry.cell_id: entry for entry in found.cells}
    if not cells:
        raise SettingsError(f"suite {suite.name!r} has no cell left; look at its exclusions")
    plan = to_file(suite, found.cells, found.excluded, overrides)
    dumps = [entry.settings for entry in plan.cells]
    met = select(dumps, wishes, suite=suite.name) if wishes else [True] * len(dumps)
    chosen = frozenset(
        entry.cell_id
        for entry, wanted in zip(plan.cells, met, strict=True)
        if wanted and (seeds is None or entry.settings["seed"] < seeds)
    )
    gone = {entry.cell_id for entry in before.cells} - cells.keys() if before else set()
    return Order(suite, cells, plan, chosen, frozenset(gone & finished))


def outdated(order: Order, home: Path, root: Path, given: Iterable[Record] = ()) -> set[str]:
    """Return the cells whose good records were made from other data files than are here now.

    Files of pictures and public images count, too.

    Args:
        order: What was asked for.
        home: The folder of all results.
        root: The data root.
        given: Further records that would count as the suite's own, such as a board's.
    """
    folders = Folders(root, home)
    seen: dict[Data | str, str | None] = {}
    found = set()
    for record in (*given, *_good(home / order.suite.name)):
        entry = order.cells.get(record.cell_id)
        if entry is None:
            continue
        if changed_files(record, entry.cell.data, folders, seen):
            found.add(record.cell_id)
    return found


def _good(folder: Path) -> list[Record]:
    return [record for _, record in read_records(folder / "records") if record.status == "ok"]


def _plan_before(home: Path, suite: str) -> Plan | None:
    try:
        return read_plan(plan_path(home, suite))
    except StoreError:  # there is none, or the sweep writes it anew
        return None


def _expand(
    path: Path | None,
    suite: Suite,
    seeds: int | None,
    overrides: Sequence[Tree],
    finished: set[str],
    before: Plan | None,
) -> Expansion:
    """Expand a suite to all its seeds, and to more that are asked for or finished."""
    named = "seed" in suite.axes
    count = max(seeds or 0, suite.seeds)
    try:
        found = expand(suite, seeds=seeds if named else count, overrides=overrides)
        top = _seeds_of(before, to_file(suite, found.cells, overrides=overrides))
        if named or top <= count:
            return found
        more = expand(suite, seeds=top, overrides=overrides).cells
        kept = [entry for entry in more if entry.cell.seed < count or entry.cell_id in finished]
        return Expansion(kept, found.excluded)
    except SettingsError as error:
        raise (error if path is None else _with_lines(path, error)) from error


def _seeds_of(before: Plan | None, plan: Plan) -> int:
    """Return the seeds of an earlier plan of the same profile and overrides; 0 of another one."""
    if before is None or (before.profile, before.overrides) != (plan.profile, plan.overrides):
        return 0
    return max((entry.settings["seed"] for entry in before.cells), default=-1) + 1


def _with_lines(path: Path, error: SettingsError) -> SettingsError:
    """Return what is wrong with a suite file, line by line, if the file is to blame."""
    from fedbench.bench.suites.checking import check

    faults = [problem.line(path) for problem in check(path).problems if not problem.harmless]
    return SettingsError("\n".join(faults)) if faults else error
