"""The `fedbench` command: collects the groups of commands and turns errors into one message."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from fedbench import __version__
from fedbench.cli import (
    diff,
    export,
    index,
    inspect,
    methods,
    new_method,
    new_suite,
    pretrain,
    report,
    run,
    show,
    storage,
    suites,
    sweep,
    system,
    tables,
)
from fedbench.errors import FedbenchError, UnwritableError
from fedbench.session.console import fail, stderr

_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
_USAGE = 2  # the exit code of a command line that typer refuses
_SAFE = (
    "interrupted; finished cells have their records, and the same command (without --force) goes "
    "on, a cell in hand at its last commit"
)

app = typer.Typer(
    name="fedbench",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Benchmarks federated learning that shares knowledge as data instead of weights.",
)
for group in (
    run,
    sweep,
    suites,
    new_suite,
    report,
    tables,
    index,
    show,
    export,
    diff,
    methods,
    inspect,
    new_method,
    pretrain,
    storage,
    system,
):
    group.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log details.")] = False,
) -> None:
    from rich.logging import RichHandler

    handler = RichHandler(console=stderr, show_path=False, show_time=False)
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[handler],
        force=True,
    )


def main() -> None:
    """Run the command line.

    A mendable error is one message and exit code 2, or 1 if the disk is full; Ctrl-C and SIGTERM
    are one message and the codes 130 and 143 of the shell.
    """
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except FedbenchError as error:
        fail(str(error))
        sys.exit(1 if isinstance(error, UnwritableError) else 2)
    except SystemExit as stop:
        if stop.code in _STOPPED:  # typer has made an exit of KeyboardInterrupt
            fail(_SAFE)
        elif stop.code == _USAGE:
            _hint(sys.argv[1:])
        raise


def _hint(words: list[str]) -> None:
    """Say what to write instead of an option that is none, where that is known."""
    from fedbench.cli.hints import option_hint

    commands = getattr(typer.main.get_command(app), "commands", {})
    command = commands.get(words[0]) if words else None
    options = [name for each in command.params for name in each.opts] if command else []
    if (hint := option_hint(words, options)) is not None:
        stderr.print(f"hint: {hint}", highlight=False, markup=False)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
