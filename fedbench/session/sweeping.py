"""A sweep: where a suite's cells stand, and the computing of those that are left."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fedbench.errors import DataError, FedbenchError, SettingsError, UnwritableError
from fedbench.files import published_boards, sweep_parts
from fedbench.registry import loaded_files
from fedbench.session.console import warn
from fedbench.session.lookup import find_suite
from fedbench.session.words import count

if TYPE_CHECKING:
    from fedbench.bench.cells.runtime import Runtime
    from fedbench.bench.records.record import Record
    from fedbench.bench.suites.order import Order
    from fedbench.bench.suites.plan import Planned
    from fedbench.bench.suites.planfile import Plan
    from fedbench.bench.survey import Survey
    from fedbench.data.settings import Data
    from fedbench.report.beside import Beside
    from fedbench.session.crew import Crew


@dataclass(frozen=True)
class Sweep:
    """A sweep that can begin.

    Attributes:
        order: What was asked for.
        means: Where and how cells run.
        crew: Who computes them.
        plugins: Loaded by each worker.
        board: Shown beside the suite's own rows.
        force: Compute all chosen cells again.
        survey: Where the order stands.
        todo: The cells for the workers, also those that others have in hand and may yet lose.
    """

    order: Order
    means: Runtime
    crew: Crew
    plugins: list[str]
    board: Beside | None
    force: bool
    survey: Survey
    todo: list[Planned]

    @classmethod
    def of(
        cls,
        order: Order,
        means: Runtime,
        crew: Crew,
        plugins: list[str],
        *,
        board: Beside | None = None,
        force: bool = False,
    ) -> Self:
        """Look at where an order stands; the crew takes the size that what is left leaves it."""
        from fedbench.bench.suites.order import outdated
        from fedbench.bench.suites.plan import arrange

        theirs = [r for _, r in (board.records if board else ()) if r.status == "ok"]
        redo = set(order.chosen) if force else outdated(order, means.home, means.data, theirs)
        survey = survey_of(order, means, redo, crew, board)
        crew = crew.shared(survey.estimate)
        names = {*survey.todo, *(beat.cell_id for beat in survey.running)} & order.chosen
        todo = arrange(order.cells[name] for name in order.cells if name in names)
        return cls(order, means, crew, plugins, board, force, survey, todo)


@dataclass(frozen=True)
class Done:
    """What a sweep has computed.

    Attributes:
        records: Of this sweep.
        left: Cells that it has not begun.
        without_data: Cells that could not begin for want of data.
    """

    records: list[Record]
    left: int
    without_data: int


def carry_out(
    sweep: Sweep,
    *,
    go_on: Callable[[], bool] = lambda: True,
    add: Callable[[Record], None] | None = None,
) -> Done:
    """Compute what is left of a sweep, and write its plan.

    Args:
        sweep: Which.
        go_on: Asked before a cell is begun.
        add: Called with each record.

    Raises:
        DataError: No cell has its data.
    """
    from fedbench.bench.garbage import delete, finished_scratch
    from fedbench.bench.suites.planfile import plan_path, write_plan

    home, name = sweep.means.home, sweep.order.suite.name
    plan = replace(sweep.order.plan, plugins=tuple(loaded_files()))
    if sweep.board is not None:
        plan = _stand_beside(sweep.board, plan, home / name)
    write_plan(plan_path(home, name), plan)
    _clear(sweep)
    ready = _prepare(sweep)
    found = []
    with closing(_compute(sweep, ready, go_on)) as computed:
        for record in computed:
            found.append(record)
            if add is not None:
                add(record)
    delete(finished_scratch(home / name))
    return Done(found, len(ready) - len(found), len(sweep.todo) - len(ready))


def beside_of(board: str | None, order: Order) -> Beside | None:
    """Look at where the cells of an order meet a published board, by any of its names.

    Raises:
        SettingsError: There is no such board, or no cell can be compared with one of it.
    """
    if board is None:
        return None
    from fedbench.report.beside import beside

    return beside(find_suite(board), order.plan)


def survey_of(
    order: Order, means: Runtime, redo: set[str], crew: Crew, board: Beside | None = None
) -> Survey:
    """Look at where an order stands, and estimate what is left of it.

    Args:
        order: What was asked for.
        means: Where and how cells run.
        redo: Cells whose good records do not count.
        crew: Who computes.
        board: Whose records count as the suite's own.
    """
    from fedbench.bench.suites.plan import cost_of, planned
    from fedbench.bench.survey import survey
    from fedbench.config import parse

    def cost(settings: Mapping[str, Any]) -> float | None:
        """Work out what an image costs; an older record may name a network that is no more."""
        try:
            return cost_of(settings)
        except FedbenchError:
            return None

    def passes(record: Record) -> float | None:
        """Work out what an older plan knew; a record of settings that are no more says nothing."""
        try:
            return planned(parse(record.settings)).passes
        except SettingsError:
            return None

    return survey(
        means.home,
        order.plan,
        redo=redo,
        chosen=order.chosen,
        device=crew.device,
        gpu=crew.gpu,
        passes=passes,
        cost=cost,
        beside=published_boards(),
        given=() if board is None else board.records,
    )


def look_for_data(todo: Sequence[Planned], means: Runtime) -> tuple[list[Planned], str]:
    """Return the cells whose data are here as far as a look can tell, and what others lack."""
    from fedbench.bench.cells.lookup import absent, needed

    faults = absent((entry.cell for entry in todo), means.data, offline=means.offline)
    ready = [entry for entry in todo if not faults.keys() & {*needed(entry.cell)}]
    return ready, _without_data(len(todo) - len(ready), faults.values())


def _stand_beside(board: Beside, plan: Plan, folder: Path) -> Plan:
    """Return a plan with a board's finished cells in it, and copy their records."""
    from fedbench.report.beside import copy_records, joined

    copy_records(board.folder, board.cells, folder)
    return joined(plan, board.cells)


def _clear(sweep: Sweep) -> None:
    """Take away what is in the way: parts of killed processes, and what is computed anew."""
    from fedbench.bench.cells.lookup import good_record

    home, name, data = sweep.means.home, sweep.order.suite.name, sweep.means.data
    for part in ("records", "outputs"):
        sweep_parts(home / name / part)
    for entry in sweep.todo:
        if sweep.force:
            shutil.rmtree(home / name / "scratch" / entry.cell_id, ignore_errors=True)
        else:  # moves a record of other data files aside, and says so
            good_record(home, name, entry.cell, data)


def _without_data(cells: int, faults: Iterable[str]) -> str:
    """Return in words that some cells cannot begin; nothing where there is no fault."""
    words = "\n".join(dict.fromkeys(faults))
    return f"{count(cells, 'cell')} cannot begin for want of data; {words}" if words else ""


def _prepare(sweep: Sweep) -> list[Planned]:
    """Read each data set once before the workers need it, and leave out cells that lack theirs.

    Decoding is cached for the workers. A cell without its data is no failure of that cell: nothing
    is recorded of it, and the same command computes it when the data are there.

    Raises:
        DataError: No cell has its data.
    """
    from fedbench.bench.cells.datasets import client_data, load_data
    from fedbench.bench.cells.lookup import needed
    from fedbench.bench.cells.reasons import reason

    there, lacking = look_for_data(sweep.todo, sweep.means)
    if lacking and there:
        warn(lacking)
    faults: dict[Data, str] = {}
    asked: set[tuple[Data, bool]] = set()
    ready = []
    for entry in there:
        wanted = needed(entry.cell)
        for settings in wanted:
            own = settings == entry.cell.data
            if (settings, own) in asked:
                continue
            asked.add((settings, own))
            try:
                (client_data if own else load_data)(settings, sweep.means)
            except UnwritableError:
                raise  # nothing could be kept, either
            except Exception as error:  # a plugin's reader may raise anything
                why = str(error) if isinstance(error, FedbenchError) else reason(error)
                faults[settings] = f"data set {settings.name} cannot be loaded: {why}"
        if not faults.keys() & {*wanted}:
            ready.append(entry)
    unread = _without_data(len(there) - len(ready), faults.values())
    if (lacking or unread) and not ready:
        raise DataError("\n".join(filter(None, (lacking, unread))))
    if unread:
        warn(unread)
    return ready


def _compute(
    sweep: Sweep, todo: Sequence[Planned], go_on: Callable[[], bool]
) -> Generator[Record, None, None]:
    """Compute cells, showing how far they are, and yield their records."""
    from fedbench.bench.executors import execute
    from fedbench.session.eta import Eta
    from fedbench.session.labels import labels_of
    from fedbench.session.progress import SweepDisplay

    crew, estimate = sweep.crew, sweep.survey.estimate
    expected = {entry.cell_id: estimate.seconds.get(entry.cell_id) for entry in todo}
    methods = {entry.cell_id: entry.cell.method.name for entry in todo}
    eta = Eta(expected, methods, min(crew.size, len(todo)))
    display = SweepDisplay(labels_of(sweep.survey), eta, len(todo))
    records = execute(
        todo,
        sweep.means,
        suite=sweep.order.suite.name,
        profile=sweep.order.suite.profile,
        workers=crew.workers,
        executor=crew.executor,
        address=crew.address,
        gpus_per_cell=crew.gpus_per_cell,
        plugins=sweep.plugins,
        devices=crew.devices,
        on_event=display.event,
        go_on=go_on,
    )
    with display.showing(), closing(records):
        for record in records:
            display.finished(record)
            yield record
