"""`fedbench report`: a suite's leaderboard from its records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.console import stdout
from fedbench.files import home

if TYPE_CHECKING:
    from fedbench.report.board import Board


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(report)


def report(suite: Annotated[str, typer.Argument(help="Name of a suite that has run.")]) -> None:
    """Print a suite's leaderboard and write its files, without computing anything."""
    make_report(suite)


def make_report(suite: str) -> Board:
    """Write a suite's report below the home and print its tables."""
    from fedbench.report import tables
    from fedbench.report.build import build

    folder = home() / suite
    board = build(folder, folder / "report")
    for table in tables.to_terminal(board.rows):
        stdout.print(table)
    stdout.print(
        "† control row. Accuracy at the last step on the whole test set; ± is the "
        "standard deviation over n seeds.",
        highlight=False,
    )
    stdout.print(f"records: {folder}/records, report: {folder}/report", highlight=False)
    return board
