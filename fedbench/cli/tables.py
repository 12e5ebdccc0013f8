"""`fedbench tables`: the tables of papers with our numbers beside theirs, nothing computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.index import boards_folder
from fedbench.errors import DataError, SettingsError
from fedbench.files import home, published_boards, write_atomic
from fedbench.session.console import stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fedbench.report.paper.build import Made
    from fedbench.report.paper.spec import Source


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(tables)


def tables(
    source: Annotated[
        str | None, typer.Argument(help="One source, such as collabdm; all by default.")
    ] = None,
    boards: Annotated[
        Path | None,
        typer.Option(help="Folder of published boards; leaderboards/ of this checkout by default."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the files go; BOARDS/tables by default.")
    ] = None,
    run: Annotated[
        bool,
        typer.Option("--run", help="First compute what the sources' suites lack at a profile."),
    ] = False,
    profile: Annotated[
        str | None, typer.Option(help="With --run: the suites' size; quick by default.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="With --run: number of seeds; 3 by default.", min=1)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --run: say what it would take, and leave.")
    ] = False,
) -> None:
    """Write the tables of papers with ours beside, from committed records alone.

    Every published cell stands beside the nearest records, with every deviation named. With --run
    the suites of the sources are swept first; their records join those of the published boards, and
    the tables go to tables/ below the home.

    Example: fedbench tables collabdm
    """
    from fedbench.report.paper.build import build, choose
    from fedbench.report.paper.spec import read_sources

    asked = {"--profile": profile, "--seeds": seeds, "--dry-run": dry_run or None}
    if not run and (idle := [name for name, value in asked.items() if value is not None]):
        raise SettingsError(f"{', '.join(idle)} would change nothing without --run; add it")
    own = boards is None and published_boards() is None
    folder = home() if own else boards_folder(boards)
    chosen = choose(read_sources(), source)
    swept: list[Path] = []
    if run:
        swept = _sweep(chosen, folder, profile or "quick", seeds or 3, dry_run=dry_run)
        if dry_run:
            return
    target = out or (home() / "tables" if run else folder / "tables")
    _say(build(folder, target, only=source, more=swept))
    if own:
        stderr.print(
            f"the published boards are not installed: beside the papers' numbers stand the records "
            f"of {folder.resolve()} alone; a checkout of fedbench has them in leaderboards/ "
            "(--boards)",
            highlight=False,
        )


def _sweep(
    sources: Iterable[Source], boards: Path, profile: str, seeds: int, *, dry_run: bool
) -> list[Path]:
    """Sweep the suites of sources, each showing its estimate, and return their folders of results.

    A cell that a published board has is not computed again.
    """
    from fedbench.bench.suites.suite import read_suite
    from fedbench.cli.sweep import sweep

    benchmarks = boards.parent / "benchmarks"
    names = [suite for each in sources for table in each.tables for suite in table.suites]
    folders = []
    for name in dict.fromkeys(names):
        path = benchmarks / f"{name}.yaml"
        if not path.is_file():
            raise SettingsError(f"there is no suite {path}; give --boards of a whole checkout")
        suite = read_suite(path)
        if profile not in suite.profiles:
            stderr.print(f"{path} has no profile {profile!r}; left out", highlight=False)
            continue
        copied = _take_published(boards / suite.name, home() / suite.name)
        stderr.rule(f"{suite.name}, {profile}, {seeds} seeds")
        try:
            sweep(str(path), profile=profile, seeds=seeds, dry_run=dry_run)
        except typer.Exit:
            stderr.print(f"{suite.name}: cells have failed or lack their data; going on")
        except DataError as error:
            stderr.print(f"{suite.name}: {error}\ngoing on", highlight=False, markup=False)
        finally:
            for place in copied if dry_run else ():
                place.unlink()
        folders.append(home() / suite.name)
    return [folder for folder in folders if (folder / "records").is_dir()]


def _take_published(board: Path, folder: Path) -> list[Path]:
    """Copy the records of a published board to the home, where they are not, so that they count.

    Returns:
        The copies.
    """
    copied = []
    for path in sorted((board / "records").glob("*.json")):
        place = folder / "records" / path.name
        if not place.exists():
            write_atomic(place, path.read_bytes())
            copied.append(place)
    return copied


def _say(made: Made) -> None:
    for document in made.documents:
        cells = [filled for sheet in document.sheets for filled in sheet.cells]
        known = [filled for filled in cells if filled.numbers]
        both = sum(filled.ours is not None for filled in known)
        stdout.print(
            f"{document.source.name}: {len(document.sheets)} tables, {len(known)} published cells, "
            f"{both} with ours beside",
            highlight=False,
        )
    stdout.print(f"{made.records} records, tables: {made.folder}", highlight=False, soft_wrap=True)
