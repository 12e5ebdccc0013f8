"""Options that several commands share, and how they become settings."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import yaml

from fedbench.errors import SettingsError

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
