"""The page over all boards, and the fronts of accuracy against bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedbench.bench.records.about import text
from fedbench.errors import StoreError
from fedbench.report import labels
from fedbench.report.board import Board, read_board
from fedbench.report.columns import percent, size
from fedbench.report.frame import Row, blocks
from fedbench.report.html import render
from fedbench.report.markdown import escape_markdown, table
from fedbench.report.verdict import best_of, front_of

#: Axes of blocks that an overview names, in this order.
_AXES = (
    ("partition.scheme", "split"),
    ("partition.beta", "β"),
    ("partition.clients", "K"),
    ("partition.shards", "shards"),
    ("budget.ipc", "ipc"),
    ("budget.pixels", "pixels"),
    ("precision", "precision"),
)
#: Blocks of which the best contender is named.
_BEST = 8
#: Contending methods that make a board one across methods.
_CROSS = 3


@dataclass(frozen=True)
class Entry:
    """A board in one line.

    Attributes:
        folder: Its name.
        title: Of its suite.
        profile: Its size.
        datasets: By name.
        axes: What its blocks differ in, such as ``β 0.1, 0.5``.
        methods: How many methods it has, controls apart.
        rows: How many rows.
        records: How many records.
        seeds: The fewest and the most of a row.
        best: The best contender of each block, in words.
    """

    folder: str
    title: str
    profile: str
    datasets: str
    axes: str
    methods: int
    rows: int
    records: int
    seeds: str
    best: tuple[str, ...]


def read_boards(folder: Path) -> dict[str, Board]:
    """Read all boards of a folder, by name.

    Raises:
        StoreError: There is none.
    """
    found = {path.parent.name: read_board(path.parent) for path in folder.glob("*/plan.json")}
    if not found:
        raise StoreError(f"there are no boards (*/plan.json) in {folder}")
    return dict(sorted(found.items()))


def entry(folder: str, board: Board) -> Entry:
    """Return a board in one line."""
    views = board.views
    seeds = sorted({int(row.values["n"] or 0) for row in views})
    contenders = {str(row.values["method"]) for row in views if not row.control}
    best = [_best(rows, views) for _, rows in blocks(views)]
    known = [words for words in best if words] or ["no contender"]
    left = len(known) - _BEST
    more = [f"and {left} more block{'s' if left > 1 else ''}"] if left > 0 else []
    return Entry(
        folder=folder,
        title=board.plan.title or board.plan.suite,
        profile=board.plan.profile,
        datasets=", ".join(sorted({str(row.values["dataset"]) for row in views})),
        axes="; ".join(_axes(views)),
        methods=len(contenders),
        rows=len(views),
        records=len(board.good),
        seeds="–".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))) if seeds else "0",
        best=(*known[:_BEST], *more),
    )


def to_markdown(entries: Sequence[Entry]) -> str:
    """Return the page over all boards as Markdown."""
    lines = [
        "# Leaderboards",
        "",
        "Made by `fedbench index` from committed records. Papers' tables beside ours are in "
        "[tables](tables/index.html), and what follows from it all in "
        "[findings](../docs/findings.md).",
        "",
    ]
    body = []
    for each in entries:
        name = f"[{escape_markdown(each.title)}]({each.folder}/table.md) ({each.profile}, "
        cells = [
            f"{name}[page]({each.folder}/index.html))",
            each.datasets,
            escape_markdown(each.axes),
            *map(str, (each.methods, each.rows, each.records, each.seeds)),
            "<br>".join(map(escape_markdown, each.best)),
        ]
        body.append(cells)
    head = ["board", "data", "blocks", "methods", "rows", "records", "seeds"]
    head.append("best contender, accuracy %")
    return "\n".join([*lines, *table("lllrrrrl", head, body), ""])


def page(entries: Sequence[Entry]) -> str:
    """Return the same as a page: no network, no script, everything escaped."""
    return render("fedbench.report.paper", "boards.html.j2", entries=entries)


def _best(rows: Sequence[Row], every: Sequence[Row]) -> str:
    ranked = [row for row in rows if row.ranked]
    if not ranked:
        return ""
    best = best_of(ranked)
    where = _where(best[0], rows, every)
    names = " and ".join(_short(str(row.values["label"])) for row in best)
    words = f"{names} {percent(best[0].values['accuracy_mean'])}"
    return f"{where}: {words}" if where else words


def _where(best: Row, rows: Sequence[Row], every: Sequence[Row]) -> str:
    """Return in what a block differs from others, such as ``β=0.1 ipc=10``."""
    known = dict(best.settings)
    for row in rows:  # a method without a budget stands beside those of one
        known |= {name: v for name, v in row.settings.items() if name.startswith("budget.")}
    names = [(name, short) for name, short in _AXES if len(_values(every, name)) > 1]
    words = [f"{short}={text(known[name])}" for name, short in names if name in known]
    if len(_values(every, "data.name")) > 1:
        words.insert(0, str(known["data.name"]))
    return " ".join([*words, *labels.written(known, _beyond(every))])


def _beyond(every: Sequence[Row]) -> list[str]:
    """Return the fewest further settings that tell apart blocks which are alike in all axes."""
    alike: dict[tuple[object, ...], list[labels.Flat]] = {}
    for row in every:
        known = ("data.name", *(name for name, _ in _AXES if not name.startswith("budget.")))
        place = tuple(row.settings.get(name) for name in known)
        alike.setdefault(place, []).append(labels.of_block(row.settings))
    return sorted({name for flats in alike.values() for name in labels.telling(flats)})


def _axes(views: Sequence[Row]) -> list[str]:
    several = [(short, _values(views, name)) for name, short in _AXES]
    return [
        f"{short} {', '.join(map(text, values))}"
        for short, values in several
        if len(values) > 1 or (values and short in ("split", "β", "K"))
    ]


def _values(views: Sequence[Row], name: str) -> list[str | int | float]:
    found = {row.settings[name] for row in views if name in row.settings}
    return sorted(found, key=lambda value: (isinstance(value, str), value))


def _short(words: str) -> str:
    """Leave out what a long label has in brackets beyond its first words."""
    return re.sub(r"\(([^,()]*),[^()]{40,}\)", r"(\1, ...)", words)


def fronts(boards: dict[str, Board], up: str) -> str:
    """Return, as Markdown, what each cross-method board's contenders give for their bytes.

    A line is the Pareto front of a block: from the cheapest upload on, each row that is better than
    all cheaper ones.

    Args:
        boards: By name; those with three contending methods or more are shown.
        up: Relative link from the document to the folder of boards, with a slash at its end.
    """
    body = []
    for name, board in boards.items():
        views = board.views
        if len({row.values["method"] for row in views if not row.control}) < _CROSS:
            continue
        for _, rows in blocks(views):
            known = [r for r in rows if r.ranked and r.values["bytes_up_per_client"] is not None]
            steps = [
                f"{_short(str(row.values['label']))} {percent(row.values['accuracy_mean'])} "
                f"({size(row.values['bytes_up_per_client'])})"
                for row in front_of(known, "bytes_up_per_client")
            ]
            if not steps:
                continue
            where = _where(rows[0], rows, views)
            cells = map(escape_markdown, (where, " → ".join(steps)))
            body.append([f"[{name}]({up}{name}/table.md)", *cells])
    head = ["board", "block", "from cheap to dear: row, accuracy %, upload of a client"]
    return "\n".join(table("lll", head, body))
