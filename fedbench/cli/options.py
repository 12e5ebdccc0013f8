"""Options that several commands share, and how they become settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from fedbench.errors import SettingsError

if TYPE_CHECKING:
    from fedbench.bench.cells.runtime import Runtime

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PLACE=VALUE",
        help="Any setting, such as --set recipe.lr=0.1; may be repeated.",
    ),
]
Plugin = Annotated[
    list[str] | None,
    typer.Option(
        help="A Python file or module with methods, data sets or more of your own; may be repeated."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never download data.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def assignments(words: list[str] | None) -> list[dict[str, Any]]:
    """Return ``PLACE=VALUE`` words as nested settings; values are read as YAML.

    Raises:
        SettingsError: A word has no `=`, or no place before it.
    """
    from fedbench.bench.suites.located import read_value
    from fedbench.bench.suites.suite import nest, resolve
    from fedbench.cli.hints import check_place

    found = []
    for word in words or []:
        place, equals, value = word.partition("=")
        if not equals or not place:
            raise SettingsError(
                f"--set {word!r} is no assignment; write --set place=value, such "
                "as --set recipe.epochs=5"
            )
        check_place(resolve(place), value)
        try:
            found.append(nest(place, read_value(value)))
        except yaml.YAMLError as error:
            raise SettingsError(f"--set {word!r}: the value is not YAML: {error}") from error
    return found


def load_plugins(targets: list[str] | None, *suites: Path | str) -> list[str]:
    """Load plugins, those that suites name as well, and return their targets.

    Args:
        targets: Of the options; they are loaded first.
        suites: Files, or other words for them (see ``lookup.find_suite_file``).
    """
    from fedbench.bench.suites.suite import plugins_of
    from fedbench.cli.lookup import find_suite_file
    from fedbench.plugins import load_plugin

    loaded = dict.fromkeys(targets or [])
    for target in loaded:
        load_plugin(target)
    files = [find_suite_file(str(suite)) for suite in suites]
    for target in (name for file in files for name in plugins_of(file)):
        load_plugin(target)
        loaded[target] = None
    return list(loaded)


def runtime(
    device: str = "auto",
    *,
    threads: int = 0,
    offline: bool = False,
    refresh: bool = False,
    home: Path | None = None,
) -> Runtime:
    """Return where and how cells run, from options and the environment."""
    from fedbench.bench.cells.runtime import Runtime
    from fedbench.cli.console import stderr
    from fedbench.files import data_root
    from fedbench.files import home as default_home

    return Runtime(
        home=home or default_home(),
        data=data_root(),
        device=device,
        threads=threads,
        offline=offline,
        refresh=refresh,
        say=lambda line: stderr.print(line, markup=False),
    )
