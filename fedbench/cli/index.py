"""`fedbench index`: the page over all published boards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedbench.errors import SettingsError
from fedbench.files import published_boards, write_atomic
from fedbench.session.console import stdout


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(index)


def index(
    boards: Annotated[
        Path | None,
        typer.Argument(help="Folder of published boards; leaderboards/ of this checkout."),
    ] = None,
) -> None:
    """Write the page over all published boards, index.html and index.md, from records alone.

    Example: fedbench index leaderboards
    """
    write_index(boards_folder(boards))


def write_index(folder: Path) -> None:
    """Write the page over the boards of a folder, and say so."""
    from fedbench.report import overview

    entries = [overview.entry(*each) for each in overview.read_boards(folder).items()]
    write_atomic(folder / "index.md", overview.to_markdown(entries))
    write_atomic(folder / "index.html", overview.page(entries))
    stdout.print(f"{len(entries)} boards in {folder / 'index.html'}", highlight=False)


def boards_folder(given: Path | None) -> Path:
    """Return the folder of published boards: as given, or that of this checkout.

    Raises:
        SettingsError: There is none.
    """
    folder = given or published_boards()
    if folder is None or not folder.is_dir():
        raise SettingsError(
            f"there are no published boards in {folder or 'leaderboards'}; "
            "name their folder, or run this from a checkout"
        )
    return folder
