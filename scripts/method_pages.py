"""What is generated on the pages of methods: facts, settings, results, a diagram of who sends what.

``generated.py`` writes it into ``docs/methods/``; the facts are those of ``fedbench methods NAME``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedbench.bench.facts import Facts, Variant
    from fedbench.report.board import Board

CONTROL = "†"
NOTHING = "nothing"

#: Of a diagram: width of all and of a box, height of a line, and how many letters fill a line.
_WIDTH, _BOX, _LINE = 760, 236, 19
_IN_BOX, _ON_ARROW = 26, 27
_STYLE = """
.flow { --ink: #24292f; --soft: #57606a; --box: #eef3fb; --edge: #4c6fb1; --aside: #8a6d3b; }
@media (prefers-color-scheme: dark) {
  .flow { --ink: #e6e9ee; --soft: #a8b0bb; --box: #263246; --edge: #86a6e3; --aside: #d8b573; }
}
.flow text { font: 14px system-ui, sans-serif; fill: var(--ink); }
.flow .head { font-weight: 600; }
.flow .soft { fill: var(--soft); }
.flow rect { fill: var(--box); stroke: var(--edge); }
.flow .aside { fill: none; stroke: var(--aside); stroke-dasharray: 4 3; }
.flow line { stroke: var(--edge); stroke-width: 2; }
.flow path { fill: var(--edge); }
"""


def table_of(several: Iterable[Facts], link: str, boards: Iterable[Board]) -> str:
    """Return the table of methods as Markdown: what passes, and what each asks for.

    Args:
        several: Of all methods.
        link: The folder of their pages, with a slash at its end.
        boards: The published ones, which say what servers had there.
    """
    ran = _resources(boards)
    head = ["method", "a client sends", "is sent", "rounds", "BatchNorm"]
    head += ["networks may differ", "server has"]
    lines = [_line(head), _line(["---"] * len(head))]
    for found in sorted(several, key=lambda each: (each.control, each.name)):
        name = f"[`{found.name}`]({link}{found.name}.md)" + (f" {CONTROL}" if found.control else "")
        cells = [
            name,
            found.course["up"],
            found.course["down"],
            _rounds(found),
            _batch_norm(found.plain),
            found.mixed,
            _server_has(found, ran.get(found.name, {})),
        ]
        lines.append(_line(cells))
    return "\n".join(lines)


def _resources(boards: Iterable[Board]) -> dict[str, dict[str, None]]:
    """Return by method the resources of its rows on boards, in words; nothing is ``NOTHING``."""
    from fedbench.bench.facts import resource_words

    found: dict[str, dict[str, None]] = {}
    for record in (record for board in boards for record in board.good):
        words = "; ".join(map(resource_words, record.resources)) or NOTHING
        found.setdefault(record.settings["method"]["name"], {})[words] = None
    return found


def _server_has(found: Facts, ran: Mapping[str, None]) -> str:
    """Return what the server has without further settings, or else what it had on boards."""
    usual = "; ".join(found.plain.resources) or NOTHING
    others = " or ".join(sorted(words for words in ran if words != usual))
    if others:
        return f"{usual}; or, on published boards, {others}"
    return "–" if usual == NOTHING else usual


def facts_block(found: Facts) -> str:
    """Return what the top of a method's page says, with its diagram."""
    words = " ".join(f"{key}: {found.course[key]}." for key in ("down", "client", "up", "server"))
    lines = [
        f"**{found.what}**" + (" A control: there to compare with, not ranked." * found.control)
    ]
    lines += ["", f"![Who sends what. {escape(words)}]({found.name}.svg)", ""]
    rows = [
        ("paper", found.paper),
        ("rounds", _by_variant(found, lambda each: str(each.rounds))),
        ("BatchNorm", _by_variant(found, _batch_norm)),
        ("clients' networks may differ", found.mixed),
        ("the server has", _by_variant(found, lambda each: "; ".join(each.resources) or NOTHING)),
        ("named as a privilege", "; ".join(found.plain.privileges)),
        ("takes part", "all clients, whatever `participation`" if found.everyone else ""),
        ("budget", "of the shared images, in pixels" if found.uses_budget else ""),
        ("skips", found.refusal),
        ("version", str(found.version)),
    ]
    lines += ["| | |", "| --- | --- |", *(_line([key, _cell(text)]) for key, text in rows if text)]
    return "\n".join([*lines, "", "```", found.example, "```"])


def settings_block(found: Facts) -> str:
    """Return a method's presets and settings, with the values of presets and the sources."""
    from fedbench.cli.listing import yaml_value

    named = [str(each.preset) for each in found.variants[1:]]
    differ = [name for name in named if any(name in each.presets for each in found.settings)]
    lines = []
    for each in found.variants[1:]:
        lines.append(f"- `{found.name} ({each.preset})`: {_cell(each.note)}")
    lines += [
        "",
        "As `--set method.NAME=VALUE`. Where a source begins with `fedbench` the default is ours,",
        "and what follows says why, or what the paper has; short names are in",
        "[sources](../methods.md#sources).",
        "",
    ]
    head = ["setting", "default", *(f"`{name}`" for name in differ), "source", "what"]
    lines += [_line(head), _line(["---"] * len(head))]
    for setting in found.settings:
        values = [
            f"`{yaml_value(setting.presets[name])}`" if name in setting.presets else ""
            for name in differ
        ]
        cells = [f"`{setting.name}`", f"`{yaml_value(setting.default)}`", *values]
        lines.append(_line([*cells, _cell(setting.source), _cell(setting.what)]))
    return "\n".join(lines).strip()


def results_block(name: str, boards: dict[str, Board], up: str) -> str:
    """Return a method's rows on all published boards.

    Args:
        name: The method's.
        boards: By name.
        up: Relative link from the page to the folder of boards, with a slash at its end.
    """
    from fedbench.report.columns import percent, size
    from fedbench.report.frame import blocks
    from fedbench.report.markdown import escape_markdown

    head = ("board", "data, split, K, network", "row", "accuracy %", "behind centralised", "sends")
    lines = [_line(head), "| --- | --- | --- | ---: | ---: | ---: |"]
    seen: set[tuple[str, object]] = set()  # what has no budget stands in the blocks of all
    for board_name, board in boards.items():
        for title, rows in blocks(board.views):
            for row in rows:
                values = row.values
                ids = (board_name, values["record_ids"])
                if values["method"] != name or ids in seen:
                    continue
                seen.add(ids)
                gap = values["gap_to_centralised"]
                spread = f" ± {percent(values['accuracy_std'])}" if values["accuracy_std"] else ""
                cells = [
                    f"[{board_name}]({up}{board_name}/table.md)",
                    escape_markdown(_setting(title, budget=bool(row.budget[0]))),
                    escape_markdown(str(values["label"])),
                    f"{percent(values['accuracy_mean'])}{spread} ({values['n']})",
                    "" if gap is None else f"{100 * float(gap):.2f}",
                    size(values["bytes_up_per_client"]),
                ]
                lines.append(_line(cells))
    return "\n".join(lines) if len(lines) > 2 else "No published board has a row of it yet."


def _setting(title: Mapping[str, object], *, budget: bool) -> str:
    """Return a block's title in short, with its budget or without."""
    parts = [str(title["dataset"]), str(title["scheme"])]
    parts += [str(title["parameters"]).split(" · ")[0]] if title["parameters"] else []
    parts += [f"K={title['clients']}", str(title["model"]).split("-")[0]]
    if title["settings"]:
        parts.append(str(title["settings"]))
    if budget and title["budget_pixels"]:
        scope = " each" if title["budget_scope"] == "per_client" else ""
        parts.append(f"{title['budget_pixels']} pixels{scope}")
    return ", ".join(parts)


def _rounds(found: Facts) -> str:
    """Return the rounds without a preset, and those of presets of more."""
    more = sorted({each.rounds for each in found.variants} - {found.plain.rounds})
    return f"{found.plain.rounds}" + (f" ({', '.join(map(str, more))})" if more else "")


def _batch_norm(each: Variant) -> str:
    words = {"any": "any", "needed": "needed", "refused": "refused"}[each.batch_norm]
    return f"{words}, unless {each.unless}" if each.unless else words


def _by_variant(found: Facts, say: Callable[[Variant], str]) -> str:
    plain = say(found.plain)
    others = [f"`{each.preset}`: {say(each)}" for each in found.variants[1:] if say(each) != plain]
    return "; ".join([plain, *others])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def diagram(found: Facts) -> str:
    """Return who sends what as SVG: light or dark as the reader has it, without network."""
    course, server = found.course, 1
    inside = _wrapped(course["server"], _IN_BOX)
    client = _wrapped(course["client"], _IN_BOX)
    lines = max(len(inside), len(client), 3)
    aside = _wrapped("; ".join(found.plain.resources), _IN_BOX) if found.plain.resources else []
    top = 34 + (len(aside) + 1) * _LINE if aside else 12
    height = 46 + lines * _LINE
    left, right = server, _WIDTH - _BOX - 13
    down, up = course["down"], course["up"]
    parts = [
        *_aside(left, aside),
        *(_box(right + 12, top + 12, height, "", []) + _box(right + 6, top + 6, height, "", [])),
        *_box(right, top, height, "each of K clients", client),
        *_box(left, top, height, "server", inside),
        *_arrow(left + _BOX, right, top + height * 0.36, down),
        *_arrow(right, left + _BOX, top + height * 0.86, up),
    ]
    rounds = _by_variant(found, lambda each: str(each.rounds)).replace("`", "")
    said = f"rounds: {rounds}" if found.plain.rounds else "no communication"
    foot = top + height + 34
    parts.append(_text(left, foot, f"{said}    ·    in the end: {course['leaves']}", "soft"))
    name = escape(found.name)
    title = f"{name}: down, {escape(down)}; up, {escape(up)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="flow" viewBox="0 0 {_WIDTH} '
        f'{foot + 10:.0f}" role="img">\n<title>{title}</title>\n<style>{_STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    of = f' class="{kind}"' if kind else ""
    space = ' xml:space="preserve"' if "  " in text else ""
    return f'<text x="{x:g}" y="{y:g}"{of} text-anchor="{anchor}"{space}>{escape(text)}</text>'


def _box(x: float, y: float, height: float, head: str, lines: Sequence[str]) -> list[str]:
    found = [f'<rect x="{x:g}" y="{y:g}" width="{_BOX}" height="{height:g}" rx="8"/>']
    if head:
        found.append(_text(x + 14, y + 25, head, "head"))
    found += [_text(x + 14, y + 48 + place * _LINE, line) for place, line in enumerate(lines)]
    return found


def _aside(x: float, lines: Sequence[str]) -> list[str]:
    """Return what the server has beside uploads, above its box."""
    if not lines:
        return []
    height = 14 + (len(lines) + 1) * _LINE
    found = [f'<rect class="aside" x="{x}" y="1" width="{_BOX}" height="{height}" rx="8"/>']
    found.append(_text(x + 14, 20, "beside uploads", "soft"))
    return found + [_text(x + 14, 20 + (n + 1) * _LINE, line) for n, line in enumerate(lines)]


def _arrow(start: float, end: float, y: float, text: str) -> list[str]:
    """Return an arrow with what it carries above it; none where nothing passes."""
    middle = (start + end) / 2
    if text == NOTHING:
        return [_text(middle, y, NOTHING, "soft", "middle")]
    way = 1 if end > start else -1
    begin, tip = start + 8 * way, end - 8 * way
    back = tip - 9 * way
    lines = _wrapped(text, _ON_ARROW)
    found = [
        _text(middle, y - 8 - (len(lines) - 1 - place) * 17, line, "", "middle")
        for place, line in enumerate(lines)
    ]
    found.append(f'<line x1="{begin:g}" y1="{y:g}" x2="{back:g}" y2="{y:g}"/>')
    found.append(f'<path d="M{tip:g} {y:g} L{back:g} {y - 5:g} L{back:g} {y + 5:g} Z"/>')
    return found
