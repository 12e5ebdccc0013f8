"""`fedbench sweep`: compute the cells of a suite that have no record yet."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedbench.cli.console import fail, stderr, warn
from fedbench.cli.crew import Crew, crew_of
from fedbench.cli.lookup import find_suite, find_suite_file
from fedbench.cli.options import Device, Offline, Plugin, Set, assignments, load_plugins, runtime
from fedbench.cli.report import make_report, mirror_of
from fedbench.cli.words import count, parse_duration
from fedbench.errors import DataError, FedbenchError, SettingsError, UnwritableError
from fedbench.files import home, published_boards, sweep_parts
from fedbench.registry import loaded_files

if TYPE_CHECKING:
    from fedbench.bench.cells.runtime import Runtime
    from fedbench.bench.records.record import Record
    from fedbench.bench.suites.order import Order
    from fedbench.bench.suites.plan import Planned
    from fedbench.bench.suites.planfile import Plan
    from fedbench.bench.survey import Survey
    from fedbench.data.settings import Data
    from fedbench.report.beside import Beside

Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PLACE=VALUE,VALUE",
        help="Compute these cells only, such as --only method=fedavg,ensemble; may be "
        "repeated. The report keeps the whole suite.",
    ),
]
BesideBoard = Annotated[
    str | None,
    typer.Option(
        metavar="BOARD",
        help="Show the rows beside those of a published board, such as leaderboards/digits.",
    ),
]
#: Failed cells that are listed at the end.
_MOST = 50


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(sweep)


def sweep(
    suite: Annotated[
        str, typer.Argument(help="Suite file such as benchmarks/digits.yaml, or its name.")
    ],
    profile: Annotated[str | None, typer.Option(help="Size; the suite's own by default.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds, from 0.", min=1)] = None,
    only: Only = None,
    settings: Set = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be computed, and write nothing.")
    ] = False,
    time_limit: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Begin no cell after 170m, 2h, 90s or 1h30m; those in hand end."
        ),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="local: processes of this machine; ray: a cluster.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster; one on this machine by default.")
    ] = None,
    gpus_per_cell: Annotated[
        float | None,
        typer.Option(help="Share of a GPU for each cell of a Ray cluster.", min=0.01, max=1.0),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            help="Cells at once; 0 is one a core, or as many as the GPUs have room for.", min=0
        ),
    ] = 0,
    threads: Annotated[
        int, typer.Option(help="CPU threads of each cell; another number, other bits.", min=1)
    ] = 1,
    force: Annotated[bool, typer.Option("--force", help="Compute again.")] = False,
    device: Device = "auto",
    offline: Offline = False,
    plugin: Plugin = None,
    beside: BesideBoard = None,
    wandb: Annotated[
        bool, typer.Option("--wandb", help="Mirror the records and the leaderboard in W&B.")
    ] = False,
) -> None:
    """Compute every cell of a suite that has no record yet, then print the leaderboard.

    Example: fedbench sweep benchmarks/digits.yaml --profile smoke
    """
    from fedbench.bench.suites.order import outdated, read_order
    from fedbench.bench.suites.selection import parse_only

    begun = time.monotonic()
    limit = parse_duration(time_limit) if time_limit else None
    crew = crew_of(executor, address, device, workers, gpus_per_cell, threads)
    plugins = load_plugins(plugin, suite)
    path = find_suite_file(suite)
    means = runtime(device, threads=threads, offline=offline, refresh=force)
    order = read_order(
        path,
        means.home,
        profile=profile,
        seeds=seeds,
        overrides=assignments(settings),
        wishes=parse_only(only or []),
    )
    board = beside_of(beside, order)
    redo = set(order.chosen) if force else outdated(order, means.home, means.data)
    survey = survey_of(order, means, redo, crew, board)
    crew = crew.shared(survey.estimate)
    _warn_of_exclusions(path, order)
    _show(order, survey, crew, board)
    ready, lacking = look_for_data(_to_compute(order, survey), means)
    if dry_run:
        if lacking:
            warn(lacking)
        return
    if lacking and not ready:
        raise DataError(lacking)
    plan = replace(order.plan, plugins=tuple(loaded_files()))
    if board is not None:
        plan = stand_beside(board, plan, means.home / order.suite.name)
    with mirror_of(order.suite.name, wandb) as live:
        add = None if live is None else live.add
        done = carry_out(
            replace(order, plan=plan),
            survey,
            means,
            crew,
            plugins,
            go_on=_until(begun, limit),
            force=force,
            add=add,
        )
        make_report(order.suite.name, live=live)
    _end(survey, done.records, done.left, time_limit, force=force)
    if done.without_data:
        raise typer.Exit(1)


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
    order: Order,
    survey: Survey,
    means: Runtime,
    crew: Crew,
    plugins: list[str],
    *,
    go_on: Callable[[], bool] = lambda: True,
    force: bool = False,
    add: Callable[[Record], None] | None = None,
) -> Done:
    """Compute what is left of an order, and write its plan.

    Args:
        order: What was asked for.
        survey: Where it stands.
        means: Where and how cells run.
        crew: Who computes them.
        plugins: Loaded by each worker.
        go_on: Asked before a cell is begun.
        force: Compute all chosen cells again.
        add: Called with each record.

    Raises:
        DataError: No cell has its data.
    """
    from fedbench.bench.garbage import delete, finished_scratch
    from fedbench.bench.suites.planfile import plan_path, write_plan

    name, todo = order.suite.name, _to_compute(order, survey)
    write_plan(plan_path(means.home, name), order.plan)
    _clear(order, todo, means, force=force)
    ready = _prepare(todo, means)
    found = []
    with closing(_compute(ready, means, order, survey, crew, plugins, go_on)) as computed:
        for record in computed:
            found.append(record)
            if add is not None:
                add(record)
    delete(finished_scratch(means.home / name))
    return Done(found, len(ready) - len(found), len(todo) - len(ready))


def beside_of(board: str | None, order: Order) -> Beside | None:
    """Look at where the cells of an order meet a published board, by any of its names.

    Raises:
        SettingsError: There is no such board, or no cell can be compared with one of it.
    """
    if board is None:
        return None
    from fedbench.report.beside import beside

    return beside(find_suite(board), order.plan)


def stand_beside(board: Beside, plan: Plan, folder: Path) -> Plan:
    """Return a plan with a board's finished cells in it, and copy their records."""
    from fedbench.report.beside import copy_records, joined

    copy_records(board.folder, board.cells, folder)
    return joined(plan, board.cells)


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
        card=crew.card,
        passes=passes,
        cost=cost,
        beside=published_boards(),
        given=() if board is None else board.records,
    )


def _warn_of_exclusions(path: Path, order: Order) -> None:
    """Repeat what ``validate`` says of exclusions that leave nothing out."""
    from fedbench.bench.suites.checking import check

    for problem in check(path).problems if order.suite.exclude else ():
        if problem.harmless and problem.place.startswith("exclude"):
            warn(problem.line(path))


def _show(order: Order, survey: Survey, crew: Crew, board: Beside | None) -> None:
    from fedbench.cli.beside import beside_lines
    from fedbench.cli.survey import print_survey

    to_compute = _to_compute(order, survey)
    more = () if board is None else tuple(beside_lines(board, survey))
    print_survey(stderr, survey, min(crew.size, max(len(to_compute), 1)), more)
    for message, many in Counter(text for entry in to_compute for text in entry.warnings).items():
        warn(f"{count(many, 'cell')}: {message}")
    theirs = {entry.cell_id for entry in board.cells} if board is not None else set()
    if forgotten := order.forgotten - theirs:
        stderr.print(
            f"note: {count(len(forgotten), 'finished cell')} of the plan before (another profile, "
            "other --set or --beside) are not in this one; their records stay, and that command "
            "shows them again",
            highlight=False,
        )


def _to_compute(order: Order, survey: Survey) -> list[Planned]:
    """Return the cells for the workers, also those that others have in hand and may yet lose."""
    names = {*survey.todo, *(beat.cell_id for beat in survey.running)} & order.chosen
    from fedbench.bench.suites.plan import arrange

    return arrange(order.cells[name] for name in order.cells if name in names)


def _clear(order: Order, todo: Sequence[Planned], means: Runtime, *, force: bool) -> None:
    """Take away what is in the way: parts of killed processes, and what is computed anew."""
    from fedbench.bench.cells.lookup import good_record

    folder = means.home / order.suite.name
    for part in ("records", "outputs"):
        sweep_parts(folder / part)
    for entry in todo:
        if force:
            shutil.rmtree(folder / "scratch" / entry.cell_id, ignore_errors=True)
        else:  # moves a record of other data files aside, and says so
            good_record(means.home, order.suite.name, entry.cell, means.data)


def look_for_data(todo: Sequence[Planned], means: Runtime) -> tuple[list[Planned], str]:
    """Return the cells whose data are here as far as a look can tell, and what others lack."""
    from fedbench.bench.cells.lookup import absent, needed

    faults = absent((entry.cell for entry in todo), means.data, offline=means.offline)
    ready = [entry for entry in todo if not faults.keys() & {*needed(entry.cell)}]
    return ready, _without_data(len(todo) - len(ready), faults.values())


def _without_data(cells: int, faults: Iterable[str]) -> str:
    """Return in words that some cells cannot begin; nothing where there is no fault."""
    words = "\n".join(dict.fromkeys(faults))
    return f"{count(cells, 'cell')} cannot begin for want of data; {words}" if words else ""


def _prepare(todo: Sequence[Planned], means: Runtime) -> list[Planned]:
    """Read each data set once before the workers need it, and leave out cells that lack theirs.

    Decoding is cached for the workers. A cell without its data is no failure of that cell: nothing
    is recorded of it, and the same command computes it when the data are there.

    Raises:
        DataError: No cell has its data.
    """
    from fedbench.bench.cells.datasets import load_data
    from fedbench.bench.cells.lookup import needed
    from fedbench.bench.cells.reasons import reason

    there, lacking = look_for_data(todo, means)
    if lacking and there:
        warn(lacking)
    faults: dict[Data, str] = {}
    asked: set[Data] = set()
    ready = []
    for entry in there:
        wanted = needed(entry.cell)
        for settings in (each for each in wanted if each not in asked):
            asked.add(settings)
            try:
                load_data(settings, means)
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
    todo: Sequence[Planned],
    means: Runtime,
    order: Order,
    survey: Survey,
    crew: Crew,
    plugins: list[str],
    go_on: Callable[[], bool],
) -> Generator[Record, None, None]:
    """Compute cells, showing how far they are, and yield their records."""
    from fedbench.bench.executors import execute
    from fedbench.cli.eta import Eta
    from fedbench.cli.progress import SweepDisplay
    from fedbench.cli.survey import labels_of

    expected = {entry.cell_id: survey.estimate.seconds.get(entry.cell_id) for entry in todo}
    methods = {entry.cell_id: entry.cell.method.name for entry in todo}
    eta = Eta(expected, methods, min(crew.size, len(todo)))
    display = SweepDisplay(labels_of(survey), eta, len(todo))
    records = execute(
        todo,
        means,
        suite=order.suite.name,
        profile=order.suite.profile,
        workers=crew.workers,
        executor=crew.executor,
        address=crew.address,
        gpus_per_cell=crew.gpus_per_cell,
        plugins=plugins,
        devices=crew.devices,
        on_event=display.event,
        go_on=go_on,
    )
    with display.showing(), closing(records):
        for record in records:
            display.finished(record)
            yield record


def _until(begun: float, limit: float | None) -> Callable[[], bool]:
    """Return a function that says whether there is time to begin a cell."""
    return lambda: limit is None or time.monotonic() - begun < limit


def _end(
    survey: Survey, found: Sequence[Record], left: int, limit: str | None, *, force: bool
) -> None:
    """Say what is left and what has failed.

    Raises:
        Exit: With code 1, if cells have failed.
    """
    from fedbench.bench.survey import failure
    from fedbench.cli.survey import labels_of

    same = "the same command (without --force)" if force else "the same command"
    if left:
        over = f"the time limit of {limit} is over: " if limit else ""
        stderr.print(f"{over}{count(left, 'cell')} left; {same} goes on", highlight=False)
    failed = [failure(home(), record) for record in found if record.status == "failed"]
    if not failed:
        return
    labels = labels_of(survey)
    fail(f"{count(len(failed), 'cell')} failed; {same} tries them again")
    for item in failed[:_MOST]:
        line = f"  {labels[item.cell_id]} ({item.cell_id}): {item.reason}\n    see {item.log}"
        stderr.print(line, highlight=False, markup=False)
    if len(failed) > _MOST:
        stderr.print(f"  and {len(failed) - _MOST} more", highlight=False)
    raise typer.Exit(1)
