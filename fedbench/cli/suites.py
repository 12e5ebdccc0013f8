"""`fedbench suites`, `validate`, `status` and `schema`: suites, looked at."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.listing import listed
from fedbench.cli.options import AsJson, Plugin
from fedbench.errors import SettingsError
from fedbench.session.console import print_json, stderr, stdout
from fedbench.session.lookup import PLAN, SUITES, find_suite, find_suite_file, suite_files
from fedbench.session.means import load_plugins
from fedbench.session.words import count

if TYPE_CHECKING:
    from fedbench.bench.survey import Survey

#: Seconds between two looks of `status --watch`.
_PACE = 2.0


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (suites, validate, status, schema):
        app.command()(command)


def suites(as_json: AsJson = False) -> None:
    """List the suites that have a name here: of this folder, and below benchmarks/.

    Example: fedbench suites
    """
    from fedbench.bench.suites.suite import inspect_suite

    found = []
    for name, path in sorted(suite_files().items()):
        suite, _, problems = inspect_suite(path)
        if suite is not None:  # another YAML file of this folder is no suite
            sizes = list(suite.profiles) or [suite.profile]
            about = {"title": suite.title, "profiles": sizes, "faults": len(problems) or None}
            found.append({"name": name, **about, "file": str(path if as_json else _short(path))})
    if not found:
        stderr.print("no suite here: `fedbench new-suite PATH` writes one for your own images")
        return
    listed(found, as_json, "Suites; `fedbench sweep NAME --dry-run` says what one comes to")


def _short(path: Path) -> Path:
    """Return a path from here, where it is below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def validate(
    files: Annotated[
        list[str],
        typer.Argument(metavar="SUITE...", help="Suite files, or names of benchmarks/."),
    ],
    plugin: Plugin = None,
) -> None:
    """Check suite files to the last combination of every profile; each fault has its line.

    The exit code is 2 if a file cannot be used. What is only suspicious is a warning.

    Example: fedbench validate mine.yaml
    """
    from fedbench.bench.suites.checking import check

    load_plugins(plugin, *files)
    paths = [find_suite_file(name) for name in files]
    good = True
    for path in paths:
        checked = check(path)
        good = good and checked.usable
        for problem in checked.problems:
            kind, style = ("warning", "yellow") if problem.harmless else ("error", "red")
            stderr.print(
                f"{kind}: {problem.line(path)}", style=style, highlight=False, markup=False
            )
        if checked.usable:
            sizes = f"{path}: {_sizes(checked.cells)}"
            stdout.print(sizes, highlight=False, markup=False, soft_wrap=True)
    if not good:
        raise typer.Exit(2)


def status(
    suite: Annotated[str, typer.Argument(help=f"{SUITES[0].upper()}{SUITES[1:]}.")],
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every two seconds, until all is done.")
    ] = False,
    plugin: Plugin = None,
) -> None:
    """Show how far a suite is, while it runs or after: from its plan and records alone.

    Example: fedbench status digits --watch
    """
    from rich.live import Live

    from fedbench.cli.survey import print_survey, survey_json, survey_table

    load_plugins(plugin)
    if as_json and watch:
        raise SettingsError("--json prints one look, and --watch goes on looking; drop one")
    if as_json:
        print_json(survey_json(_look(suite)))
        return
    found = _look(suite)
    if not watch:
        print_survey(stdout, found)
        return
    with Live(survey_table(found), console=stdout, auto_refresh=False) as live:
        while found.todo or found.running:
            time.sleep(_PACE)
            found = _look(suite)
            live.update(survey_table(found), refresh=True)


def schema() -> None:
    """Print the JSON schema of suite files, for editors; benchmarks/suite.schema.json has it.

    Example: fedbench schema > suite.schema.json
    """
    from fedbench.bench.suites.schema import schema_text

    sys.stdout.write(schema_text())


def _look(suite: str) -> Survey:
    from fedbench.bench.suites.planfile import read_plan
    from fedbench.bench.survey import survey

    folder = find_suite(suite)
    return survey(folder.parent, read_plan(folder / PLAN))


def _sizes(cells: dict[str, tuple[int, int, int]]) -> str:
    """Return ``smoke 14 cells, quick 28 cells (2 skipped)``."""
    words = []
    for name, (many, skipped, excluded) in cells.items():
        apart = [
            f"{number} {word}"
            for number, word in ((skipped, "skipped"), (excluded, "excluded"))
            if number
        ]
        words.append(
            f"{name} {count(many, 'cell')}".strip() + (f" ({', '.join(apart)})" if apart else "")
        )
    return ", ".join(words)
