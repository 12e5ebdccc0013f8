"""Cells and sweeps from Python: the same settings, records and folders as on the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbench.api.board import Board, load
from fedbench.errors import FedbenchError, SettingsError
from fedbench.settings import validate

if TYPE_CHECKING:
    from fedbench.bench.records.record import Record
    from fedbench.bench.suites.order import Order
    from fedbench.bench.suites.suite import Suite
    from fedbench.config import Cell

#: The exit code that a shell has for Ctrl-C, and that Lightning leaves with.
_INTERRUPTED = 130


class CellError(FedbenchError):
    """A cell has failed.

    Attributes:
        record: What it left: reason, traceback and settings.
    """

    def __init__(self, record: Record) -> None:
        super().__init__(f"cell {record.cell_id} failed: {record.reason}")
        self.record = record


def run(
    cell: Cell | None = None,
    *,
    dataset: str | None = None,
    method: str | None = None,
    preset: str | None = None,
    scheme: str | None = None,
    beta: float | None = None,
    clients: int | None = None,
    rounds: int | None = None,
    epochs: int | None = None,
    model: str | None = None,
    width: int | None = None,
    ipc: int | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    precision: str | None = None,
    seed: int | None = None,
    settings: Mapping[str, object] | None = None,
    suite: str | Path | None = None,
    profile: str | None = None,
    force: bool = False,
    device: str = "auto",
    threads: int = 0,
    offline: bool = False,
    home: str | Path | None = None,
    quiet: bool = False,
) -> Record:
    """Run one cell and return its record; a cell that has a record is not computed again.

    Args:
        cell: A whole cell (``fedbench.cell`` makes one); leave it out to name settings instead.
        dataset: Name of the data set.
        method: Name of the method.
        preset: Of the method.
        scheme: Partition scheme; with ``beta`` alone it is ``dirichlet_capped``.
        beta: Dirichlet concentration, above 0.
        clients: Their number.
        rounds: Of communication, for methods that have rounds.
        epochs: Local epochs, in each round.
        model: Family of the clients' networks.
        width: Of the networks.
        ipc: Budget in images per class.
        train_size: Training images to take.
        test_size: Test images to take.
        precision: ``32-true`` or ``bf16-mixed``.
        seed: Of everything.
        settings: Any other settings by dotted name, such as ``{"recipe.lr": 0.1}``.
        suite: A suite, by its name or file, whose fixed settings are begun with, with its plugins.
        profile: The suite's profile.
        force: Compute again, whatever there is.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: Of the CPU; 0 takes all cores. Numbers are equal for equal threads.
        offline: Never download data.
        home: Where everything is written; ``$FEDBENCH_HOME`` or ``runs`` by default.
        quiet: Say nothing of the progress.

    Raises:
        SettingsError: A setting is unknown or wrong, or the cell cannot run.
        DataError: The data set is not here.
        CellError: The cell has failed; the exception has its record.
        KeyboardInterrupt: It was interrupted; the same call goes on at its last commit.
    """
    from fedbench.bench.memo import Memo
    from fedbench.session.cell import Wish, cell_of, obtain, runnable
    from fedbench.session.lookup import find_suite_file
    from fedbench.session.means import load_plugins, runtime

    means = runtime(device, threads=threads, offline=offline, refresh=force, home=home)
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
    if cell is not None:
        _refuse_beside({**places, "settings": settings, "suite": suite, "profile": profile})
        cell = runnable(cell).cell
    else:
        file = None if suite is None else find_suite_file(str(suite))
        load_plugins([], *([file] if file else []))
        wish = replace(Wish.of(places, file, profile), over=_nested(settings))
        # A method of this session has no file that an answer could be kept for.
        cell = cell_of(wish, means, Memo(means.home, ["session"]))
    with _telling(quiet), _interrupts():
        _, record = obtain(cell, means, force=force)
    if record.status == "failed":
        raise CellError(record)
    return record


def cell(**settings: object) -> Cell:
    """Return a cell of nested settings, as suites and records write them, or dotted ones.

    Example: ``fedbench.cell(data={"name": "digits"}, method={"name": "fedavg"}, seed=1)``

    Raises:
        SettingsError: A setting is unknown or wrong.
    """
    from fedbench.bench.suites.suite import merge
    from fedbench.config import parse

    tree: dict[str, Any] = {}
    for part in _nested(settings):
        tree = merge(tree, part)
    return parse(tree)


def sweep(
    suite: str | Path | Suite | Mapping[str, object],
    *,
    profile: str | None = None,
    seeds: int | None = None,
    only: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    workers: int = 0,
    device: str = "auto",
    force: bool = False,
    offline: bool = False,
    plugins: Sequence[str | Path] = (),
    beside: str | Path | None = None,
    home: str | Path | None = None,
    quiet: bool = False,
) -> Board:
    """Compute the cells of a suite that have no record yet, and return its board.

    Cells run in processes of their own. A script that calls this needs the usual guard
    ``if __name__ == "__main__":``; a notebook does not.

    Args:
        suite: What the command line takes: a name such as ``digits``, a file, or a folder of
            results or of a published board. Or the suite itself, as a file would hold it.
        profile: Its size; the suite's own by default.
        seeds: How many, from 0; the profile's by default.
        only: Compute these cells only, such as ``["method=fedavg,ensemble", "beta=0.1"]``.
        settings: Settings by dotted name, laid over every cell.
        workers: Cells at once; 0 is one a core.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        force: Compute all cells again.
        offline: Never download data.
        plugins: Files or modules with methods and more of your own; those that the suite names are
            loaded as well.
        beside: A published board, by its name or folder, whose finished cells are shown with this
            suite's own.
        home: Where everything is written; ``$FEDBENCH_HOME`` or ``runs`` by default.
        quiet: Say nothing of the progress.

    Returns:
        The board of all records that there are; ``board.failed`` are those of failed cells.

    Raises:
        SettingsError: The file or a setting is wrong; or a cell's method was typed into this
            session, where the workers cannot find it.
        DataError: No cell has its data.
        KeyboardInterrupt: It was interrupted; the same call goes on.
    """
    from fedbench.bench.suites.order import read_order
    from fedbench.bench.suites.selection import parse_only
    from fedbench.bench.suites.suite import Suite
    from fedbench.session.crew import crew_of
    from fedbench.session.lookup import find_suite_file
    from fedbench.session.means import load_plugins, runtime
    from fedbench.session.sweeping import Sweep, beside_of, carry_out

    given = [str(plugin) for plugin in plugins]
    source: Path | Suite
    if isinstance(suite, str | Path):
        source = find_suite_file(str(suite))
        targets = load_plugins(given, source)
    else:
        source = suite if isinstance(suite, Suite) else validate(Suite, dict(suite))
        targets = load_plugins([*given, *source.plugins])
    means = runtime(device, offline=offline, refresh=force, home=home)
    crew = crew_of("local", None, device, workers)
    order = read_order(
        source,
        means.home,
        profile=profile,
        seeds=seeds,
        overrides=_nested(settings),
        wishes=parse_only(list(only)),
    )
    _refuse_typed(order)
    board = beside_of(None if beside is None else str(beside), order)
    found = Sweep.of(order, means, crew, targets, board=board, force=force)
    with _telling(quiet), _interrupts():
        carry_out(found)
    return load(means.home / order.suite.name)


def _refuse_beside(given: Mapping[str, object]) -> None:
    extra = [name for name, value in given.items() if value is not None]
    if extra:
        raise SettingsError(
            f"run() was given a whole cell, and {', '.join(extra)} would change nothing; put these "
            "into the cell, or name all settings and give no cell"
        )


def _nested(settings: Mapping[str, object] | None) -> list[dict[str, Any]]:
    """Return settings by dotted name as nested ones."""
    from fedbench.bench.suites.suite import nest

    return [nest(place, value) for place, value in (settings or {}).items()]


def _refuse_typed(order: Order) -> None:
    """Refuse cells of methods that other processes cannot import."""
    from fedbench.methods import METHODS
    from fedbench.registry import is_typed

    for name in sorted({entry.cell.method.name for entry in order.cells.values()}):
        if is_typed(METHODS.get(name)):
            raise SettingsError(
                f"method {name!r} was typed into this session, and the workers of a sweep are "
                "other processes; put it into a file and give plugins=['FILE.py']"
            )


@contextmanager
def _telling(quiet: bool) -> Iterator[None]:
    """Keep the progress to ourselves where it is not wanted."""
    from fedbench.session.console import stderr

    before, stderr.quiet = stderr.quiet, quiet or stderr.quiet
    try:
        yield
    finally:
        stderr.quiet = before


@contextmanager
def _interrupts() -> Iterator[None]:
    """Raise what Lightning makes an exit of as what it was: an interruption from the keyboard."""
    try:
        yield
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            raise KeyboardInterrupt from stop
        raise FedbenchError(f"the computation was ended with code {stop.code}") from stop
