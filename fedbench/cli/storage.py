"""`fedbench gc`: what may be deleted below the home, and its deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedbench.cli.options import AsJson
from fedbench.errors import SettingsError, did_you_mean
from fedbench.files import home
from fedbench.session.console import fail, print_json, stderr, stdout

if TYPE_CHECKING:
    from fedbench.bench.garbage import Garbage, Item, Kept


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(gc)


def gc(
    what: Annotated[
        str | None,
        typer.Option(metavar="KIND,...", help="Only these kinds, such as scratch,artefacts."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; needs --what.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what may go below FEDBENCH_HOME, with sizes; delete it if asked.

    Records that a plan names are never deleted, nor anything that a running sweep uses.

    Example: fedbench gc --what scratch,artefacts --yes
    """
    from fedbench.bench.garbage import delete, look

    kinds = _kinds(what)
    if yes and what is None:
        raise SettingsError(f"--yes deletes by kind: add --what {','.join(kinds)}, or some of them")
    found = look(home()).of(kinds)
    gone: list[Item] = []
    if yes:
        gone, late = delete(found.items)
        found.kept.extend(late)
    if as_json:
        print_json({"found": _plain(found.items), "deleted": _plain(gone), **_reasons(found.kept)})
    else:
        _show(found, gone, yes)
    if yes and found.kept:
        raise typer.Exit(1)


def _kinds(what: str | None) -> list[str]:
    from fedbench.bench.garbage import KINDS

    chosen = [word.strip() for word in what.split(",")] if what else list(KINDS)
    for word in chosen:
        if word not in KINDS:
            raise SettingsError(
                f"there is no kind {word!r} to delete{did_you_mean(word, KINDS)}; "
                f"there are: {', '.join(KINDS)}"
            )
    return chosen


def _plain(items: list[Item]) -> list[dict[str, Any]]:
    return [
        {"kind": item.kind, "path": str(item.path), "bytes": item.size, "reason": item.reason}
        for item in items
    ]


def _reasons(kept: list[Kept]) -> dict[str, Any]:
    rows = [{"kind": one.kind, "path": str(one.path), "reason": one.reason} for one in kept]
    return {"kept": rows}


def _show(found: Garbage, gone: list[Item], deleted: bool) -> None:
    from rich.filesize import decimal
    from rich.markup import escape
    from rich.table import Table

    table = Table("kind", "where", "why", title="Deleted" if deleted else "May go")
    for name in ("files", "size"):
        table.add_column(name, justify="right")
    groups: dict[tuple[str, str, str], list[Item]] = {}
    for item in gone if deleted else found.items:
        place = item.path.parent.relative_to(home())
        groups.setdefault((item.kind, str(place), item.reason), []).append(item)
    for key, items in groups.items():
        sizes = sum(item.size for item in items)
        table.add_row(*(escape(word) for word in key), str(len(items)), decimal(sizes))
    stdout.print(table if groups else "Nothing to delete.", highlight=False)
    kinds_kept: dict[tuple[str, str], list[str]] = {}
    for one in found.kept:
        kinds_kept.setdefault((str(one.path), one.reason), []).append(one.kind)
    for (path, reason), kinds in kinds_kept.items():
        line = f"{', '.join(kinds)} of {path} stay: {reason}"
        if deleted:
            fail(line)
        else:
            stderr.print(f"note: {line}", highlight=False, markup=False)
    if groups and not deleted:
        total = decimal(sum(item.size for item in found.items))
        wanted = ",".join(dict.fromkeys(item.kind for item in found.items))
        stdout.print(f"{total} in all. To delete: fedbench gc --what {wanted} --yes", markup=False)
