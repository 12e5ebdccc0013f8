"""`fedbench sweep` and `fedbench report`: a suite's cells, and its leaderboard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.console import fail, stderr, stdout
from fedbench.cli.options import Device, Offline, Plugin, Set, assignments, load_plugins, runtime
from fedbench.errors import SettingsError
from fedbench.files import home, sweep_parts

if TYPE_CHECKING:
    from fedbench.bench.plan import Planned
    from fedbench.config import Cell


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(sweep)
    app.command()(report)


def sweep(
    suite: Annotated[Path, typer.Argument(help="Suite file, such as benchmarks/digits.yaml.")],
    profile: Annotated[str | None, typer.Option(help="Size; the suite's own by default.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds, from 0.", min=1)] = None,
    workers: Annotated[int, typer.Option(help="Worker processes; 0 is one a core.", min=0)] = 0,
    settings: Set = None,
    device: Device = "auto",
    offline: Offline = False,
    plugin: Plugin = None,
) -> None:
    """Compute every cell of a suite that has no record yet, then print the leaderboard.

    Example: fedbench sweep benchmarks/digits.yaml --profile smoke
    """
    from fedbench.bench.executors import execute
    from fedbench.bench.lookup import good_record
    from fedbench.bench.plan import plan, write_plan
    from fedbench.bench.suite import read_suite
    from fedbench.cli.progress import SweepDisplay

    plugins = load_plugins(plugin)
    sized = read_suite(suite).sized(profile)
    cells = plan(sized, seeds=seeds, overrides=assignments(settings))
    if not cells:
        raise SettingsError(f"suite {sized.name!r} has no cell left; look at its exclusions")
    means = runtime(device, offline=offline)
    write_plan(means.home / sized.name / "plan.json", sized, cells)
    for part in ("records", "outputs"):
        sweep_parts(means.home / sized.name / part)
    done = {
        entry.cell_id
        for entry in cells
        if good_record(means.home, sized.name, entry.cell, means.data) is not None
    }
    todo = [entry for entry in cells if entry.skip is None and entry.cell_id not in done]
    skipped = [entry for entry in cells if entry.skip is not None]
    count = workers or os.cpu_count() or 1
    stderr.print(
        f"suite {sized.name}, profile {sized.profile}: {len(cells)} cells, "
        f"{len(done)} done, {len(skipped)} skipped, {len(todo)} to do with "
        f"{min(count, max(len(todo), 1))} workers",
        highlight=False,
    )
    for entry in skipped:
        stderr.print(f"  skipped {label(entry.cell)}: {entry.skip}", highlight=False)
    _prepare(todo, offline)
    display = SweepDisplay(len(todo), {entry.cell_id: label(entry.cell) for entry in cells})
    failed = []
    with display.showing():
        for record in execute(
            todo,
            means,
            suite=sized.name,
            profile=sized.profile,
            workers=count,
            plugins=plugins,
            on_event=display.event,
        ):
            display.finished(record)
            if record.status == "failed":
                failed.append(record)
    _leaderboard(sized.name, {entry.cell_id for entry in cells})
    for record in failed:
        fail(f"cell {record.cell_id} failed: {record.reason}")
    if failed:
        raise typer.Exit(1)


def report(suite: Annotated[str, typer.Argument(help="Name of a suite that has run.")]) -> None:
    """Print a suite's leaderboard from its records, without computing anything."""
    import json

    path = home() / suite / "plan.json"
    if not path.is_file():
        raise SettingsError(
            f"there is no plan {path}; run `fedbench sweep` first, or set FEDBENCH_HOME"
        )
    _leaderboard(suite, {entry["cell_id"] for entry in json.loads(path.read_text())["cells"]})


def label(cell: Cell) -> str:
    """Return what to call a cell on a progress line."""
    method = cell.method
    name = f"{method.name} ({method.preset})" if method.preset else method.name
    return f"{name} β={cell.partition.beta:g} seed {cell.seed}"


def _prepare(todo: list[Planned], offline: bool) -> None:
    """Read each data set once before the workers need it: decoding is cached for them."""
    from fedbench.bench.cell import load_data

    means = runtime(offline=offline)
    for settings in dict.fromkeys(entry.cell.data for entry in todo):
        load_data(settings, means)


def _leaderboard(suite: str, ids: set[str]) -> None:
    """Print the leaderboard of a plan's cells and write its files."""
    from fedbench.bench.records import read_records
    from fedbench.files import write_atomic
    from fedbench.report import tables
    from fedbench.report.frame import rows

    folder = home() / suite
    found = rows(record for _, record in read_records(folder / "records") if record.cell_id in ids)
    write_atomic(folder / "report" / "table.csv", tables.to_csv(found))
    write_atomic(folder / "report" / "table.md", tables.to_markdown(found))
    for table in tables.to_terminal(found):
        stdout.print(table)
    stdout.print(
        "† control row. Accuracy at the last step on the whole test set; ± is the "
        "standard deviation over n seeds.",
        highlight=False,
    )
    stdout.print(f"records, tables: {folder}/", highlight=False, soft_wrap=True)
