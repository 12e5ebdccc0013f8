"""`fedbench methods`: the list, and what there is to know of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel
from rich.text import Text

from fedbench.bench.memo import Memo
from fedbench.bench.records.about import STAR, method_label
from fedbench.cli.listing import listed, yaml_value
from fedbench.cli.options import AsJson, Plugin
from fedbench.files import home
from fedbench.methods import METHODS
from fedbench.registry import describe
from fedbench.session.console import print_json, stdout
from fedbench.session.means import load_plugins

if TYPE_CHECKING:
    from rich.table import Table

    from fedbench.bench.facts import Facts, Variant


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(methods)


def methods(
    name: Annotated[
        str | None, typer.Argument(help="One of them: what it does, sends and can be set.")
    ] = None,
    as_json: AsJson = False,
    plugin: Plugin = None,
) -> None:
    """List the methods, or say all of one.

    Example: fedbench methods feddf
    """
    load_plugins(plugin)
    memo = Memo(home(), plugin)
    if name is not None:
        brought = "".join(f" --plugin {target}" for target in plugin or ())
        _page(name, memo, as_json, brought)
        return
    question = {"methods": METHODS.names()}
    found = memo.answer(question, lambda: {"methods": _methods()})["methods"]
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "name": entry["name"],
            "what": entry["what"],
            "control": entry["control"],
            "a client sends": entry["up"],
            "is sent": entry["down"],
            "presets": list(entry["presets"]),
        }
        for entry in found
    ]
    listed(rows, as_json, "Methods; `fedbench methods NAME` says more of one")


def _methods() -> list[dict[str, Any]]:
    found = []
    for name in METHODS.names():
        method = METHODS.get(name)
        fields = {
            key: _plain(field.get_default(call_default_factory=True))
            for key, field in method.Config.model_fields.items()
            if key not in ("name", "preset")
        }
        found.append(
            {
                "name": name,
                "what": describe(method),
                "version": method.version,
                "control": method.control,
                "uses_budget": method.uses_budget,
                "up": method.course.up if method.course else "",
                "down": method.course.down if method.course else "",
                "settings": fields,
                "presets": {key: dict(value) for key, value in method.presets.items()},
            }
        )
    return found


def _plain(default: object) -> object:
    """Return a default as JSON values: settings of their own as a mapping."""
    return default.model_dump(mode="json") if isinstance(default, BaseModel) else default


def _page(name: str, memo: Memo, as_json: bool, brought: str) -> None:
    """Print what there is to know of one method; its example names what brought it."""
    if name not in METHODS.names():
        METHODS.get(name)  # raises, and names the nearest

    def work_out() -> dict[str, Any]:
        from fedbench.bench.facts import facts

        return facts(name).model_dump(mode="json")

    answer = memo.answer({"facts": name}, work_out)
    if as_json:
        print_json(answer)
        return
    from rich.table import Table

    from fedbench.bench.facts import Facts

    found = Facts.model_validate(answer)
    head = f"{found.name}{' (control: to compare with, not ranked)' if found.control else ''}"
    stdout.print(head, style="bold", highlight=False, markup=False)
    for line in filter(None, (found.what, found.paper)):
        stdout.print(line, highlight=False, markup=False)
    about = Table.grid(padding=(0, 2))
    about.add_column(style="bold", no_wrap=True)
    about.add_column(overflow="fold")
    for key, text in about_lines(found):
        about.add_row(key, Text(text))
    stdout.print()
    stdout.print(about)
    stdout.print()
    stdout.print(_settings_table(found))
    stdout.print(
        f"\nExample: {found.example}{brought}", highlight=False, markup=False, soft_wrap=True
    )


def about_lines(found: Facts) -> list[tuple[str, str]]:
    """Return what is said of a method above its settings, name by name."""
    course, plain = found.course, found.plain
    passing = [
        ("server → client", course.get("down", "")),
        ("client", course.get("client", "")),
        ("client → server", course.get("up", "")),
        ("server", course.get("server", "")),
        ("in the end", course.get("leaves", "")),
    ]
    several = {"yes": "may differ between clients", "no": "the same for all clients"}
    budget = "of as many pixels as the cell's budget says" if found.uses_budget else "none"
    lines = [
        *passing,
        ("rounds", _by_variant(found, lambda each: str(each.rounds))),
        ("BatchNorm", _by_variant(found, _batch_norm)),
        ("networks", several.get(found.mixed, f"may differ between clients{found.mixed[3:]}")),
        ("server has", _by_variant(found, lambda each: "; ".join(each.resources) or "nothing")),
        ("privileges", "; ".join(plain.privileges)),
        ("shares images", budget),
        ("skips", found.refusal),
        *((f"preset {each.preset}", each.note) for each in found.variants[1:] if each.note),
    ]
    return [(key, text) for key, text in lines if text]


def _batch_norm(each: Variant) -> str:
    unless = f", unless {each.unless}".replace("`", "") if each.unless else ""
    words = {"any": "networks with and without", "needed": "needed", "refused": "refused"}
    return words[each.batch_norm] + unless


def _by_variant(found: Facts, say: Callable[[Variant], str]) -> str:
    """Return what is said without a preset, and of the presets of which something else is."""
    plain = say(found.plain)
    others = [f"{each.preset}: {say(each)}" for each in found.variants[1:] if say(each) != plain]
    return "; ".join([plain, *others])


def _settings_table(found: Facts) -> Table:
    """Return the settings, with the value of each preset that has another one, and sources."""
    from rich.table import Table

    presets = [
        each.preset
        for each in found.variants[1:]
        if any(each.preset in setting.presets for setting in found.settings)
    ]
    same = [each.preset for each in found.variants[1:] if each.preset not in presets]
    title = (
        "Settings, as --set method.NAME=VALUE; a row without a preset has the defaults, or a star, "
        f"{method_label(found.name, STAR)}, and names what is other"
    )
    if same:
        title += f"; preset {' and '.join(map(str, same))}: the defaults"
    table = Table(title=title, title_justify="left")
    table.add_column("setting", no_wrap=True)
    for name in ("default", *presets, "source", "what"):
        table.add_column(str(name), overflow="fold")
    for setting in found.settings:
        values = [
            yaml_value(setting.presets[name]) if name in setting.presets else ""
            for name in map(str, presets)
        ]
        default = yaml_value(setting.default)
        cells = (setting.name, default, *values, setting.source, setting.what)
        table.add_row(*map(Text, cells))
    return table
