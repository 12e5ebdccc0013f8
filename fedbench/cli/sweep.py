"""`fedbench sweep`: compute the cells of a suite that have no record yet."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.bench.environment import available_cores, resolve_device
from fedbench.cli.console import fail, stderr
from fedbench.cli.options import Device, Offline, Plugin, Set, assignments, load_plugins, runtime
from fedbench.cli.report import make_report
from fedbench.errors import SettingsError
from fedbench.files import sweep_parts
from fedbench.registry import SCHEMES

if TYPE_CHECKING:
    from fedbench.bench.plan import Planned
    from fedbench.bench.records import Record
    from fedbench.bench.runtime import Runtime
    from fedbench.bench.suite import Suite
    from fedbench.config import Cell

#: Parameters of partitions that a label shows only where they are not the default.
_MINOR = ("min_size", "max_tries", "sigma", "filling")


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(sweep)


def sweep(
    suite: Annotated[Path, typer.Argument(help="Suite file, such as benchmarks/digits.yaml.")],
    profile: Annotated[str | None, typer.Option(help="Size; the suite's own by default.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds, from 0.", min=1)] = None,
    workers: Annotated[
        int, typer.Option(help="Worker processes; 0 is one a core, or one a GPU.", min=0)
    ] = 0,
    settings: Set = None,
    force: Annotated[bool, typer.Option("--force", help="Compute all cells again.")] = False,
    device: Device = "auto",
    offline: Offline = False,
    plugin: Plugin = None,
) -> None:
    """Compute every cell of a suite that has no record yet, then print the leaderboard.

    Example: fedbench sweep benchmarks/digits.yaml --profile smoke
    """
    from fedbench.bench.lookup import good_record
    from fedbench.bench.plan import plan, to_file
    from fedbench.bench.planfile import plan_path, write_plan
    from fedbench.bench.suite import read_suite

    plugins = load_plugins(plugin)
    sized = read_suite(suite).sized(profile)
    cells = plan(sized, seeds=seeds, overrides=assignments(settings))
    if not cells:
        raise SettingsError(f"suite {sized.name!r} has no cell left; look at its exclusions")
    means = runtime(device, offline=offline, refresh=force)
    devices = _devices(device)
    folder = means.home / sized.name
    write_plan(plan_path(means.home, sized.name), to_file(sized, cells))
    for part in ("records", "outputs"):
        sweep_parts(folder / part)
    wanted = [entry for entry in cells if entry.skip is None]
    todo = [
        entry
        for entry in wanted
        if force or good_record(means.home, sized.name, entry.cell, means.data) is None
    ]
    count = workers or (available_cores() if devices == ["cpu"] else len(devices))
    stderr.print(
        f"suite {sized.name}, profile {sized.profile}: {len(cells)} cells, "
        f"{len(wanted) - len(todo)} done, {len(cells) - len(wanted)} skipped, {len(todo)} to do "
        f"with {min(count, max(len(todo), 1))} workers",
        highlight=False,
    )
    for entry in cells:
        if entry.skip is not None:
            stderr.print(f"  skipped {label(entry.cell)}: {entry.skip}", highlight=False)
    if force:
        for entry in todo:
            shutil.rmtree(folder / "scratch" / entry.cell_id, ignore_errors=True)
    _prepare(todo, means)
    failed = _compute(todo, means, sized, count, devices, plugins)
    make_report(sized.name)
    for record in failed:
        fail(f"cell {record.cell_id} failed: {record.reason}")
    if failed:
        raise typer.Exit(1)


def label(cell: Cell) -> str:
    """Return what to call a cell on a progress line, with the parameters that its scheme uses."""
    method, partition = cell.method, cell.partition
    words = [f"{method.name} ({method.preset})" if method.preset else method.name]
    scheme = SCHEMES.get(partition.scheme)
    for name, field in type(partition).model_fields.items():
        value = getattr(partition, name)
        if name in scheme.parameters and (name not in _MINOR or value != field.default):
            text = f"{value:g}" if isinstance(value, float) else value
            words.append(f"{'β' if name == 'beta' else name}={text}")
    return " ".join([*words, f"seed {cell.seed}"])


def _devices(asked: str) -> list[str]:
    """Return what the workers are to use in turn: every GPU, or the one device that was named.

    Raises:
        SettingsError: The device is not here.
    """
    if asked == "cpu":
        return [asked]  # without importing torch
    device = resolve_device(asked)
    if device != "cuda":
        return [device]
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def _prepare(todo: list[Planned], means: Runtime) -> None:
    """Read each data set once before the workers need it: decoding is cached for them."""
    from fedbench.bench.datasets import load_data

    for settings in dict.fromkeys(entry.cell.data for entry in todo):
        try:
            load_data(settings, means)
        except Exception as error:  # its cells fail, each with a record; others can do without it
            stderr.print(
                f"warning: data set {settings.name} cannot be loaded: {error}",
                highlight=False,
                markup=False,
            )


def _compute(
    todo: list[Planned],
    means: Runtime,
    suite: Suite,
    workers: int,
    devices: list[str],
    plugins: list[str],
) -> list[Record]:
    """Compute cells, showing how far they are, and return the records of those that failed."""
    from fedbench.bench.executors import execute
    from fedbench.cli.progress import SweepDisplay

    display = SweepDisplay(len(todo), {entry.cell_id: label(entry.cell) for entry in todo})
    records = execute(
        todo,
        means,
        suite=suite.name,
        profile=suite.profile,
        workers=workers,
        plugins=plugins,
        devices=devices,
        on_event=display.event,
    )
    failed = []
    with display.showing(), closing(records):
        for record in records:
            display.finished(record)
            if record.status == "failed":
                failed.append(record)
    return failed
