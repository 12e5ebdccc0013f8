"""`fedbench data` and `fedbench doctor`: what is here, what is missing, and what would help."""

from __future__ import annotations

import netrc
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedbench.cli.options import AsJson, Plugin
from fedbench.files import data_root, home
from fedbench.session.console import print_json, stderr, stdout
from fedbench.session.means import load_plugins

if TYPE_CHECKING:
    from fedbench.data.specs import DatasetSpec

_OK, _BAD, _NOTE = "[green]✓[/]", "[red]✗[/]", "[yellow]–[/]"


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(data)
    app.command()(doctor)


def data(
    fetch: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Download a data set first; may be repeated."),
    ] = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Show which data sets are found where, what is missing, and the command that fetches it.

    Example: fedbench data --fetch mnist
    """
    from rich.markup import escape
    from rich.table import Table

    from fedbench.data.sources import locate
    from fedbench.data.specs import DATASETS

    load_plugins(plugin)
    for name in fetch or []:
        _fetch(DATASETS.get(name))
    found = [
        locate(DATASETS.get(name), data_root(), cache=home() / "cache")
        for name in DATASETS.names()
        if not DATASETS.get(name).takes_path
    ]
    if as_json:
        print_json(
            [
                {
                    "name": item.name,
                    "found": item.found,
                    "folder": str(item.folder or ""),
                    "layout": item.layout.name if item.layout else None,
                    "bytes": sum(file.size for file in item.files),
                    "missing": list(item.missing),
                    "cached": item.cached,
                    "help": item.help,
                }
                for item in found
            ]
        )
        return
    title = f"Data below {data_root()} (FEDBENCH_DATA)"  # a path to copy: not to be folded
    stdout.print(title, highlight=False, markup=False, soft_wrap=True)
    table = Table()
    for name in ("", "data set", "where", "layout", "MB", "decoded"):
        table.add_column(name, justify="right" if name == "MB" else "left", overflow="fold")
    for item in found:
        size = sum(file.size for file in item.files) / 1e6
        table.add_row(
            _OK if item.found else _BAD,
            escape(item.name),
            escape(str(item.folder or ("built in" if item.found else "missing"))),
            item.layout.name if item.layout and item.found else "",
            f"{size:.1f}" if item.files else "",
            "yes" if item.cached else "",
        )
    stdout.print(table)
    for item in found:
        if not item.found:
            stdout.print(item.help, highlight=False, markup=False, soft_wrap=True)


def _fetch(spec: DatasetSpec) -> None:
    from fedbench.data.download import download
    from fedbench.data.sources import locate

    if locate(spec, data_root()).found:
        stderr.print(f"{spec.name} is here already")
    else:
        download(spec, data_root(), lambda line: stderr.print(line, markup=False))


def doctor(as_json: AsJson = False, plugin: Plugin = None) -> None:
    """Check versions, devices, data, write access and the W&B login.

    Example: fedbench doctor
    """
    from rich.markup import escape

    load_plugins(plugin)
    found = [*_versions(), *_devices(), *_places(), *_data(), *_tracking()]
    if as_json:
        print_json(
            [{"check": name, "state": state, "detail": detail} for name, state, detail in found]
        )
    else:
        signs = {"ok": _OK, "bad": _BAD, "note": _NOTE}
        for name, state, detail in found:
            stdout.print(f"{signs[state]} [bold]{name}[/] {escape(detail)}", highlight=False)
    if any(state == "bad" for _, state, _ in found):
        raise typer.Exit(1)


Check = tuple[str, str, str]


def _versions() -> list[Check]:
    from fedbench.bench.cells.environment import package_versions

    supported = (3, 11) <= sys.version_info[:2] <= (3, 12)
    checks = []
    for name, version in package_versions().items():
        bad = version == "not installed" or (name == "python" and not supported)
        hint = "; Python 3.11 and 3.12 are supported" if bad and name == "python" else ""
        checks.append((name, "bad" if bad else "ok", version + hint))
    return checks


def _devices() -> list[Check]:
    import torch

    checks = [("cpu", "ok", f"{os.cpu_count()} cores")]
    for number in range(torch.cuda.device_count()):
        checks.append((f"cuda:{number}", "ok", torch.cuda.get_device_name(number)))
    if len(checks) == 1:
        checks.append(("cuda", "note", "no accelerator; everything runs on the CPU"))
    return checks


def _places() -> list[Check]:
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return [
            (
                "results",
                "bad",
                f"{folder} cannot be written ({error.strerror}); set "
                "FEDBENCH_HOME to a folder that you may write",
            )
        ]
    return [("results", "ok", f"{folder.resolve()} can be written")]


def _data() -> list[Check]:
    from fedbench.data.sources import locate
    from fedbench.data.specs import DATASETS

    found: dict[bool, list[str]] = {True: [], False: []}
    for name in DATASETS.names():
        spec = DATASETS.get(name)
        if not spec.takes_path:
            found[locate(spec, data_root(), cache=home() / "cache").found].append(name)
    checks = [("data", "ok", f"{', '.join(found[True])}")]
    if found[False]:
        checks.append(
            (
                "data",
                "note",
                f"not below {data_root()}: {', '.join(found[False])}; "
                "`fedbench data` says how to get them",
            )
        )
    return checks


def _tracking() -> list[Check]:
    """Look for a W&B login without importing wandb or asking the network."""
    from importlib.util import find_spec

    if find_spec("wandb") is None:
        return [("wandb", "note", "not installed; records and tables work without it")]
    if os.environ.get("WANDB_API_KEY"):
        return [("wandb", "ok", "logged in by WANDB_API_KEY")]
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].strip("/")
    try:
        known: Any = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        known = None
    if known:
        return [("wandb", "ok", f"logged in to {host}")]
    return [("wandb", "note", "not logged in (`wandb login`); runs are kept offline")]
