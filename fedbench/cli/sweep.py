"""`fedbench sweep`: compute the cells of a suite that have no record yet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.options import Device, Offline, Plugin, Set, assignments
from fedbench.cli.report import make_report, mirror_of
from fedbench.errors import DataError
from fedbench.files import home
from fedbench.session.console import fail, stderr, warn
from fedbench.session.crew import crew_of
from fedbench.session.lookup import find_suite_file
from fedbench.session.means import load_plugins, runtime
from fedbench.session.sweeping import Done, Sweep, beside_of, carry_out, look_for_data
from fedbench.session.words import count, parse_duration

if TYPE_CHECKING:
    from fedbench.bench.suites.order import Order

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
    from fedbench.bench.suites.order import read_order
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
    found = Sweep.of(order, means, crew, plugins, board=beside_of(beside, order), force=force)
    _warn_of_exclusions(path, order)
    _show(found)
    ready, lacking = look_for_data(found.todo, means)
    if dry_run:
        if lacking:
            warn(lacking)
        return
    if lacking and not ready:
        raise DataError(lacking)
    with mirror_of(order.suite.name, wandb) as live:
        add = None if live is None else live.add
        done = carry_out(found, go_on=_until(begun, limit), add=add)
        make_report(order.suite.name, live=live)
    _end(found, done, time_limit)
    if done.without_data:
        raise typer.Exit(1)


def _warn_of_exclusions(path: Path, order: Order) -> None:
    """Repeat what ``validate`` says of exclusions that leave nothing out."""
    from fedbench.bench.suites.checking import check

    for problem in check(path).problems if order.suite.exclude else ():
        if problem.harmless and problem.place.startswith("exclude"):
            warn(problem.line(path))


def _show(sweep: Sweep) -> None:
    """Say where a sweep stands and what it will take, before anything runs."""
    from fedbench.cli.beside import beside_lines
    from fedbench.cli.survey import print_survey

    survey, board = sweep.survey, sweep.board
    more = () if board is None else tuple(beside_lines(board, survey))
    print_survey(stderr, survey, min(sweep.crew.size, max(len(sweep.todo), 1)), more)
    for message, many in Counter(text for entry in sweep.todo for text in entry.warnings).items():
        warn(f"{count(many, 'cell')}: {message}")
    theirs = {entry.cell_id for entry in board.cells} if board is not None else set()
    if forgotten := sweep.order.forgotten - theirs:
        stderr.print(
            f"note: {count(len(forgotten), 'finished cell')} of the plan before (another profile, "
            "other --set or --beside) are not in this one; their records stay, and that command "
            "shows them again",
            highlight=False,
        )


def _until(begun: float, limit: float | None) -> Callable[[], bool]:
    """Return a function that says whether there is time to begin a cell."""
    return lambda: limit is None or time.monotonic() - begun < limit


def _end(sweep: Sweep, done: Done, limit: str | None) -> None:
    """Say what is left and what has failed.

    Raises:
        Exit: With code 1, if cells have failed.
    """
    from fedbench.bench.survey import failure
    from fedbench.session.labels import labels_of

    same = "the same command (without --force)" if sweep.force else "the same command"
    if done.left:
        over = f"the time limit of {limit} is over: " if limit else ""
        stderr.print(f"{over}{count(done.left, 'cell')} left; {same} goes on", highlight=False)
    failed = [failure(home(), record) for record in done.records if record.status == "failed"]
    if not failed:
        return
    labels = labels_of(sweep.survey)
    fail(f"{count(len(failed), 'cell')} failed; {same} tries them again")
    for item in failed[:_MOST]:
        line = f"  {labels[item.cell_id]} ({item.cell_id}): {item.reason}\n    see {item.log}"
        stderr.print(line, highlight=False, markup=False)
    if len(failed) > _MOST:
        stderr.print(f"  and {len(failed) - _MOST} more", highlight=False)
    raise typer.Exit(1)
