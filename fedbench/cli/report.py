"""`fedbench report` and `fedbench publish`: leaderboards from records, nothing computed."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.index import write_index
from fedbench.errors import SettingsError
from fedbench.files import home
from fedbench.session.console import stderr, stdout
from fedbench.session.lookup import SUITES, find_suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedbench.report.board import Board
    from fedbench.report.publish import Publication
    from fedbench.report.tracking import Mirror

Suite = Annotated[str, typer.Argument(help=f"{SUITES[0].upper()}{SUITES[1:]}.")]


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (report, publish):
        app.command()(command)


def report(
    suite: Suite,
    paired: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Add paired differences over shared seeds to this row: a method, or a label.",
        ),
    ] = None,
    pivot: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS",
            help="Add methods by the values of a setting, such as beta or ipc; may be repeated.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE=VALUE,VALUE",
            help="Show these cells only, such as --only clients=5; may be repeated. Files are "
            "written only where --out says.",
        ),
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write the figures as PDF as well.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where the files go.")] = None,
    wandb: Annotated[
        bool, typer.Option("--wandb", help="Mirror the records and the leaderboard in W&B.")
    ] = False,
) -> None:
    """Print a suite's leaderboard and write its files, without computing anything.

    A published board, such as leaderboards/digits, is made again in its place.

    Example: fedbench report digits --paired ensemble
    """
    with mirror_of(find_suite(suite).name, wandb) as live:
        make_report(
            suite, paired=paired, pivots=pivot or (), only=only or (), pdf=pdf, out=out, live=live
        )


def publish(
    suite: Suite,
    boards: Annotated[Path, typer.Option(help="Folder of the published boards.")] = Path(
        "leaderboards"
    ),
    min_seeds: Annotated[int, typer.Option(help="Seeds that a row needs.", min=1)] = 3,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Take records of changed checkouts as well.")
    ] = False,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(help="File of a plugin that records were computed with; it is not run."),
    ] = None,
) -> None:
    """Copy the records that have enough seeds to leaderboards/, and make the board there.

    Example: fedbench publish digits
    """
    from fedbench.report.publish import publish as copy

    folder = find_suite(suite)
    done = copy(
        folder,
        boards / folder.name,
        min_seeds=min_seeds,
        allow_dirty=allow_dirty,
        plugins=plugin or (),
    )
    _say(done)
    write_index(boards)


def mirror_of(suite: str, wanted: bool) -> Mirror | nullcontext[None]:
    """Return the W&B mirror of a suite, kept below the home, or a block of nothing.

    Raises:
        SettingsError: It is wanted, and wandb is missing or too old.
    """
    if not wanted:
        return nullcontext()
    from fedbench.report.tracking import Mirror

    return Mirror(home() / suite)


def make_report(
    suite: str,
    *,
    paired: str | None = None,
    pivots: Sequence[str] = (),
    only: Sequence[str] = (),
    pdf: bool = False,
    out: Path | None = None,
    live: Mirror | None = None,
) -> Board:
    """Write a suite's report and print its tables.

    Args:
        suite: See ``lookup.find_suite``.
        paired: The row that the others are compared with over shared seeds.
        pivots: Settings whose values stand across in a table of their own.
        only: What cells must have to be shown, ``place=value,value``; then files are written only
            where ``out`` says, and no board is replaced by a part of it.
        pdf: Write figures as PDF as well.
        out: Where the files go; by default beside a suite's records, or into a published board.
        live: The W&B mirror that takes the leaderboard, and the records that it lacks.

    Returns:
        What it was made of.
    """
    from fedbench.bench.suites.selection import parse_only
    from fedbench.report import pivot, tables
    from fedbench.report.board import read_board
    from fedbench.report.build import build
    from fedbench.report.paired import check_reference

    folder, wishes = find_suite(suite), parse_only(only)
    if wishes and live is not None:
        raise SettingsError(
            "--only shows a part of a board, and --wandb mirrors all of it; drop one"
        )
    if wishes and pdf and out is None:
        raise SettingsError(
            "--only writes no files unless --out says where; --pdf would do nothing"
        )
    board = read_board(folder).only(wishes)
    if paired is not None:
        check_reference(board.views, paired)
    published = folder.parent.resolve() != home().resolve()
    target = out or (folder if published else folder / "report")
    turned = [pivot.pivot(board, axis) for axis in pivots]
    for table in tables.to_terminal(board.views, stdout.width, paired):
        stdout.print(table, "")
    stdout.print(tables.note(board.views), style="dim", highlight=False)
    if stars := tables.overridden(board.views):
        words = [tables.OVERRIDDEN, *(f"  {name}: {found}" for name, found in stars)]
        stdout.print("\n".join(words), style="dim", highlight=False, markup=False)
    for found in turned:
        stdout.print(pivot.to_terminal(found), "")
    _print_verdict(board)
    made = None
    if not wishes or out is not None:
        with stderr.status("drawing the figures, writing the page"):
            made = build(
                folder,
                target,
                records=_link(target, folder),
                pdf=pdf,
                against=paired,
                pivots=turned,
                board=board,
            )
    if live is not None and made is not None:
        outcome = live.finish(board, made.figures, made.comparisons)
        stderr.print(str(outcome), highlight=False, markup=False)
    if board.failed:
        stderr.print(f"{len(board.failed)} failed cells have no row; runs.csv says why")
    lines = [f"records: {folder / 'records'}"]
    if made is not None:
        lines.append(f"page: {target.absolute() / 'index.html'}")
    for line in lines:
        stdout.print(line, highlight=False, markup=False, soft_wrap=True)
    return board


def _print_verdict(board: Board) -> None:
    """Print what the board says."""
    from rich.text import Text

    from fedbench.report.verdict import HEADING, verdict

    sayings = verdict(board)
    if sayings:
        stdout.print(Text(HEADING, "bold"))
    for saying in sayings:
        if saying.about:
            stdout.print(Text(saying.about, "italic"))
        for sentence in saying.sentences:
            stdout.print(f"- {sentence}", highlight=False, markup=False)
    if sayings:
        stdout.print()


def _link(out: Path, folder: Path) -> str:
    """Return the link from a page in ``out`` to the records of ``folder``."""
    import os

    return Path(os.path.relpath(folder / "records", out)).as_posix() + "/"


def _say(done: Publication) -> None:
    """Print what a publication did."""
    from fedbench.report.columns import percent

    for name, old, new in done.changed:
        stdout.print(
            f"changed: {name}: {percent(old)} % → {percent(new)} %", highlight=False, markup=False
        )
    for name in done.removed:
        stdout.print(
            f"removed: {name}: its row or block was computed by other versions or from other data",
            highlight=False,
            markup=False,
        )
    for name in done.left_out:
        stdout.print(f"left out: {name}", highlight=False, markup=False)
    board = done.board
    stdout.print(
        f"{len(board.views)} rows of {len(board.good)} records in {done.folder}, "
        f"{done.added} records new, {len(done.changed)} accuracies changed, "
        f"{len(done.left_out)} left out",
        highlight=False,
        soft_wrap=True,
    )
