"""`fedbench run`: one cell, or one record again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedbench.bench.memo import Memo
from fedbench.cli.options import AsJson, Device, Offline, Plugin, Set, assignments
from fedbench.errors import SettingsError
from fedbench.session.cell import Wish, cell_of, finished, obtain, refuse_absent
from fedbench.session.console import print_json, stderr, stdout
from fedbench.session.lookup import find_record, find_suite_file
from fedbench.session.means import load_plugins, runtime

if TYPE_CHECKING:
    from fedbench.bench.records.record import Record


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(run)


def run(
    dataset: Annotated[str | None, typer.Option(help="Data set.")] = None,
    method: Annotated[str | None, typer.Option(help="Method.")] = None,
    preset: Annotated[str | None, typer.Option(help="The method's preset.")] = None,
    scheme: Annotated[str | None, typer.Option(help="Partition scheme.")] = None,
    beta: Annotated[float | None, typer.Option(help="Dirichlet concentration.")] = None,
    clients: Annotated[int | None, typer.Option(help="Number of clients.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds, for methods that have them.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Local epochs (in each round).")] = None,
    model: Annotated[str | None, typer.Option(help="Model family.")] = None,
    width: Annotated[int | None, typer.Option(help="The model's width.")] = None,
    ipc: Annotated[int | None, typer.Option(help="Budget in images per class.")] = None,
    train_size: Annotated[int | None, typer.Option(help="Training images to take.")] = None,
    test_size: Annotated[int | None, typer.Option(help="Test images to take.")] = None,
    precision: Annotated[str | None, typer.Option(help="32-true or bf16-mixed.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed.")] = None,
    settings: Set = None,
    suite: Annotated[
        str | None, typer.Option(help="Start from the settings of a suite: its file or its name.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="The suite's profile.")] = None,
    record: Annotated[
        str | None,
        typer.Option(
            help="Reproduce a record (its file, or its cell's id); say whether the numbers agree."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compute again.")] = False,
    device: Device = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.", min=0)] = 0,
    offline: Offline = False,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Run one cell and print its record; a cell that has a record is not computed again.

    Example: fedbench run --dataset digits --method fedavg --beta 0.1 --rounds 5
    """
    plugins = load_plugins(plugin, *([suite] if suite else []))
    start = find_suite_file(suite) if suite else None
    places = {
        "data.name": dataset,
        "data.train_size": train_size,
        "data.test_size": test_size,
        "method.name": method,
        "method.preset": preset,
        "method.rounds": rounds,
        "partition.scheme": scheme,
        "partition.beta": beta,
        "partition.clients": clients,
        "recipe.epochs": epochs,
        "models.name": model,
        "models.width": width,
        "budget.ipc": ipc,
        "precision": precision,
        "seed": seed,
    }
    if record is not None:
        own = {"suite": suite, "profile": profile, "threads": threads or None, "set": settings}
        _refuse_beside(record, {**places, **own, "force": force or None, "json": as_json or None})
        _reproduce(record, device, offline)
        return
    wish = replace(Wish.of(places, start, profile), over=assignments(settings))
    means = runtime(device, threads=threads, offline=offline, refresh=force)
    memo = Memo(means.home, plugins)
    known = None if force else finished(wish, means, memo)
    if known is None:
        known = obtain(cell_of(wish, means, memo), means, force=force)
    path, found = known
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show(found, path)
    if found.status == "failed":
        raise typer.Exit(1)


def show(record: Record, path: Path) -> None:
    """Print a record as a person reads it."""
    from rich.markup import escape
    from rich.table import Table

    from fedbench.report.columns import percent, size
    from fedbench.report.labels import dataset, flatten, with_short_paths

    settings = record.settings
    if record.status != "ok":
        stderr.print(f"[bold red]failed:[/] {escape(record.reason or '')}", highlight=False)
        stderr.print(f"the traceback is in {path}", highlight=False, markup=False)
        return
    metrics, ledger = record.metrics, record.ledger
    own = "own_mix" in metrics  # of `local`: no model is scored on another client's mix
    worst = "worst client's own model on its own label mix" if own else "worst client's label mix"
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    lines = [
        (
            "cell",
            f"{record.method_label()} on {dataset(*with_short_paths([flatten(settings)]))}, "
            f"{_split(settings['partition'])}, seed {settings['seed']}",
        ),
        (
            "accuracy",
            f"{percent(metrics['accuracy'])} % of {record.data['test']:,} test images "
            f"({worst} {percent(metrics['worst_client'])} %)",
        ),
        *_domains(metrics),
        (
            "bytes up",
            f"{size(ledger['bytes_up'])} in all, {size(ledger['bytes_up_per_client'])} a client",
        ),
        (
            "bytes down",
            f"{size(ledger['bytes_down'])} in all, "
            f"{size(ledger['bytes_down_per_client'])} a client",
        ),
        (
            "seconds",
            f"clients {ledger['client_seconds']:.1f}, server {ledger['server_seconds']:.1f} (of "
            f"these {ledger['shared_seconds']:.1f} shared), wall {record.wall_seconds:.1f}",
        ),
        ("record", str(path)),
    ]
    for name, value in lines:
        table.add_row(f"[bold]{name}[/]", escape(value))
    stdout.print(table, highlight=False)


def _domains(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    from fedbench.report.columns import percent

    if metrics.get("domain_mean") is None:
        return []
    words = f"{percent(metrics['domain_mean'])} %, mean over the clients' views of the test images"
    return [("domains", words)]


def _split(partition: Mapping[str, Any]) -> str:
    """Return a scheme with its concentration, where it has one, and the number of clients."""
    beta = [f"β={partition['beta']:g}"] if "beta" in partition else []
    return ", ".join([partition["scheme"], *beta, f"K={partition['clients']}"])


def _ask_for_plugins(path: Path, old: Record) -> None:
    """Refuse a record whose plugins are not loaded: only whoever types the command runs code.

    Raises:
        SettingsError: With the options to add, where the files stand beside the record.
    """
    from fedbench.bench.records.sources import beside, digests_of, files_of
    from fedbench.registry import loaded_digests

    wanted = {
        what: digest
        for what, digest in digests_of(old.versions).items()
        if digest not in loaded_digests()
    }
    if not wanted:
        return
    found = files_of(wanted.values(), beside(path.parent.parent))
    words = ", ".join(f"{what} (SHA-256 {digest[:12]})" for what, digest in wanted.items())
    options = " ".join(f"--plugin {file}" for file in found.values())
    fix = (
        f"read it, then add {options}"
        if set(wanted.values()) <= found.keys()
        else "add --plugin FILE with the file as it was"
    )
    raise SettingsError(f"{path} was computed with plugins that are not loaded: {words}; {fix}")


def _refuse_beside(text: str, given: Mapping[str, object]) -> None:
    """Refuse options that a record's own settings would pass over in silence."""
    extra = [name for name, value in given.items() if value is not None and value != []]
    if extra:
        raise SettingsError(
            f"--record {text} runs that cell as it was recorded, and {', '.join(extra)} would "
            "change nothing; leave them out, or name the cell by its settings without --record"
        )


def _reproduce(text: str, device: str, offline: bool) -> None:
    """Compute a record's cell anew and compare."""
    from fedbench.bench.records.compare import ACCURACY, compare, surroundings
    from fedbench.config import identity, parse
    from fedbench.session.progress import one_cell

    path, old = find_record(text)
    if old.status != "ok":
        raise SettingsError(f"{path} records a {old.status} cell; there is nothing to reproduce")
    _ask_for_plugins(path, old)
    cell = parse(old.settings)
    if identity(cell)["versions"] != old.versions:
        stderr.print("versions of parts have changed since: numbers may differ for good reason")
    if device == "auto":
        device = old.environment.get("device", "auto")
    means = runtime(
        device, threads=old.environment.get("threads", 0), offline=offline, refresh=True
    )
    refuse_absent(cell, means)
    shutil.rmtree(means.home / "reproduced" / "scratch" / cell.cell_id, ignore_errors=True)
    new = one_cell(cell, means, suite="reproduced")
    if new.status != "ok":
        show(new, path)
        raise typer.Exit(1)
    found = compare(old, new)
    for place, before, after in found[:20]:
        stdout.print(f"  {place}: {before} → {after}", highlight=False, markup=False)
    if found:
        stdout.print(f"{len(found)} values differ from the record.")
        for place, before, after in surroundings(old, new):
            stdout.print(
                f"  environment {place}: {before} → {after}", highlight=False, markup=False
            )
        raise typer.Exit(1)
    exact = old.deterministic and new.deterministic
    how = "every digit" if exact else f"within {100 * ACCURACY:g} points: no equal bits promised"
    stdout.print(
        f"All numbers agree with the record: accuracy "
        f"{100 * new.metrics['accuracy']:.2f} %, {how}.",
        highlight=False,
    )
