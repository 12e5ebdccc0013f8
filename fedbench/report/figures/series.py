"""What is drawn, before it is drawn: series of rows, and the panels and pages they stand in.

Unlike the blocks of the tables, which compare in one setting, series follow a method through
settings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fedbench.bench.records.about import STAR, method_label
from fedbench.bench.records.record import Record
from fedbench.report import labels
from fedbench.report.board import Board
from fedbench.report.figures.style import Look, looks
from fedbench.report.frame import Row, Value, joined_labels

#: What tells one series from another.
Key = tuple[tuple[str, str | int | float], ...]


#: Settings of rows that vary along a series: the budget, and the number of draws, which changes no
#: partition and which not every scheme has.
_OF_POINTS = ("budget.", "partition.max_tries")


#: So many facts, at most, tell the panels of a page apart.
_FACTS = 4


class Cast:
    """All series of a board, each with its look, which is the same in all figures.

    Args:
        board: Whose rows are drawn.

    Attributes:
        board: The same.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self._keys: dict[int, Key] = {}
        self._records = {record.cell_id: record for record in board.good}
        named: dict[tuple[str, str], list[Row]] = {}
        self._presets: dict[Key, set[str]] = {}
        for row in board.views:
            own = str(row.values["preset_label"] or "").split("+")
            self._presets.setdefault(self.key(row), set()).update(own)
        for row in board.views:
            preset = self._preset(row).replace(STAR, "")  # a preset and its variants are told apart
            named.setdefault((str(row.values["method"]), preset), []).append(row)
        self._looks: dict[Key, Look] = {}
        self._place(named)

    def _preset(self, row: Row) -> str:
        return joined_labels(self._presets[self.key(row)] - {""}) or ""

    def key(self, row: Row) -> Key:
        """Return what a row shares with those that are points of the same series."""
        if id(row) not in self._keys:
            self._keys[id(row)] = key(row)
        return self._keys[id(row)]

    def _place(self, named: dict[tuple[str, str], list[Row]]) -> None:
        found: list[tuple[str, str, bool, Key]] = []
        for (method, _), members in named.items():
            # By the same settings in all figures, also where one varies along a series of this.
            settings = [dict(key(row)) for row in members]
            telling = labels.telling(settings)
            usual = labels.usual(settings, telling).items()
            most = labels.besides(settings, telling)
            for own, row in {self.key(row): row for row in members}.items():
                said = dict(item for item in own if item not in usual)
                names = sorted({*telling, *labels.beside_most(said, most)})
                written = labels.written(said, names)
                shown = [name for name in names if name in said]
                preset = labels.starred(self._preset(row) or None, row.overridden, shown)
                label = method_label(method, preset, written)
                found.append((method, label, row.control, own))
        found.sort(key=lambda series: (series[2], labels.natural(series[1]), str(series[3])))
        given = looks((method, label, control) for method, label, control, _ in found)
        self._looks = {own: look for (*_, own), look in zip(found, given, strict=True)}

    def look(self, row: Row) -> Look:
        """Return how a row's series is drawn."""
        return self._looks[self.key(row)]

    def records(self, row: Row) -> list[Record]:
        """Return what a row is the mean of, in order of seed."""
        return [self._records[name] for name in str(row.values["record_ids"]).split()]

    def series(self, rows: Iterable[Row]) -> dict[Look, list[Row]]:
        """Return rows by series, contenders before controls, each by label, 20 before 100."""
        members: dict[Look, list[Row]] = {}
        for row in rows:
            members.setdefault(self.look(row), []).append(row)
        return {look: members[look] for look in self._looks.values() if look in members}


def ranked(series: Mapping[Look, Sequence[Row]]) -> list[Look]:
    """Return series from best to worst, contenders first; those without a number last of each."""

    def place(look: Look) -> tuple[bool, float, str]:
        means = [number(row.values["accuracy_mean"]) for row in series[look]]
        known = [mean for mean in means if math.isfinite(mean)]
        return look.control, -(sum(known) / len(known) if known else 0.0), look.label

    return sorted(series, key=place)


def key(row: Row) -> Key:
    """Return the settings of a row, budgets apart, that its block's other rows may not share."""
    own = labels.of_row(row.settings)
    return tuple(sorted(item for item in own.items() if not item[0].startswith(_OF_POINTS)))


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        facts: What is fixed in it, as text by setting.
        rows: What is drawn in it.
        title: The facts in which it differs from the others of its page.
    """

    facts: dict[str, str]
    rows: list[Row]
    title: str = ""


@dataclass(frozen=True)
class Page:
    """What becomes one figure.

    Attributes:
        name: The file's stem.
        dataset: Name of the data set, and which of several pages it is.
        header: The facts that all panels share.
        panels: In order.
        columns: How many panels stand side by side.
    """

    name: str
    dataset: str
    header: str
    panels: list[Panel]
    columns: int

    @property
    def rows(self) -> list[Row]:
        """All rows of its panels."""
        return [row for panel in self.panels for row in panel.rows]


def panels(
    rows: Sequence[Row], free: Sequence[str] = (), budgets: bool = True, split_only: bool = False
) -> list[Panel]:
    """Group rows into panels.

    Args:
        rows: Of a board, sorted.
        free: Settings that vary within a panel, by dotted name.
        budgets: Whether each budget has a panel; rows without a budget stand in all of them.
        split_only: Whether panels differ by data and partition alone, not by models or recipe.
    """
    beyond = labels.beyond_title(labels.varying(labels.of_block(row.settings) for row in rows))
    groups: dict[tuple[tuple[str, Value], ...], list[Row]] = {}
    for row in rows:
        own = [
            item
            for item in row.block
            if item[0] not in free
            and (not split_only or item[0].startswith(("data.", "partition.")))
        ]
        groups.setdefault(tuple(own), []).append(row)
    found = []
    for members in groups.values():
        facts = _facts(members[0], beyond, free, split_only)
        known = {row.budget for row in members if row.budget[0] is not None}
        if not budgets or not known:
            found.append(Panel(facts, members))
            continue
        for pixels, scope in sorted(known, key=str_after_number):
            inside = [row for row in members if row.budget in ((pixels, scope), (None, None))]
            text = f"budget {pixels:,} px {scope}"
            found.append(Panel({**facts, "budget": text}, inside))
    return found


def str_after_number(budget: tuple[Value, ...]) -> tuple[float, str]:
    """Return a key that sorts budgets by their pixels."""
    return float(budget[0] or 0), str(budget[1])


def _facts(row: Row, beyond: list[str], free: Sequence[str], split_only: bool) -> dict[str, str]:
    flat = row.settings
    own = sorted(
        labels.scheme_parameters(flat), key=lambda text: (not text.startswith("beta="), text)
    )
    facts = {"data.name": labels.dataset(flat), "partition.scheme": str(flat["partition.scheme"])}
    for text in own:
        facts[f"partition.{text.split('=')[0]}"] = text.replace("beta=", "β=")
    facts["partition.clients"] = f"K={flat['partition.clients']}"
    if not split_only:
        facts["models"] = str(row.values["model"])
    for name in beyond:
        written = labels.written(flat, [name])
        if written and (not split_only or name.startswith(("data.", "partition."))):
            facts[name] = written[0]
    return {name: text for name, text in facts.items() if name not in free}


def pages(
    stem: str,
    found: Iterable[Panel],
    *,
    most_rows: Callable[[int], int],
    apart: Callable[[Panel], str] | None = None,
    widest: int = 4,
) -> list[Page]:
    """Lay panels out on pages, one or more for each data set.

    Args:
        stem: What file names begin with.
        found: The panels, in order.
        most_rows: How many rows of panels fit on a page with that many columns.
        apart: Panels of which this differs do not share a page.
        widest: Most panels side by side.
    """
    groups: dict[tuple[str, str], list[Panel]] = {}
    for panel in found:
        own = apart(panel) if apart else ""
        groups.setdefault((panel.facts["data.name"], own), []).append(panel)
    result: list[Page] = []
    taken: set[str] = set()
    for (dataset, own), panels_of in groups.items():
        parts = []
        for members in _akin(panels_of):
            columns = _columns(members, widest)
            many = columns * max(1, most_rows(columns))
            starts = range(0, len(members), many)
            parts += [(members[start : start + many], columns) for start in starts]
        for place, (part, columns) in enumerate(parts, start=1):
            name = free_name(_slug(stem, dataset, own), taken)
            which = f" ({place} of {len(parts)})" if len(parts) > 1 else ""
            result.append(_page(name, dataset + which, part, columns))
    return result


def _akin(members: list[Panel]) -> list[list[Panel]]:
    """Split panels that differ in more facts than a title can hold, by what tells most at once."""
    for name in ("partition.scheme", "models"):
        groups: dict[str | None, list[Panel]] = {}
        for panel in members:
            groups.setdefault(panel.facts.get(name), []).append(panel)
        if len(groups) > 1 and len(_varying(members)) > _FACTS:
            return [part for group in groups.values() for part in _akin(group)]
    return [members]


def _varying(members: list[Panel]) -> list[str]:
    names = list(dict.fromkeys(name for panel in members for name in panel.facts))
    return [name for name in names if len({panel.facts.get(name) for panel in members}) > 1]


def _page(name: str, dataset: str, members: list[Panel], columns: int) -> Page:
    varying = _varying(members)
    titled = [
        replace(
            panel, title=" · ".join(text for name, text in panel.facts.items() if name in varying)
        )
        for panel in members
    ]
    header = " · ".join(text for name, text in members[0].facts.items() if name not in varying)
    return Page(name, dataset, header, titled, min(columns, len(members)))


def _columns(members: list[Panel], widest: int) -> int:
    """Return how many panels to put side by side: a full cross of settings keeps its last one."""
    count = len(members)
    sizes = [len({panel.facts.get(name) for panel in members}) for name in _varying(members)]
    if len(sizes) > 1 and math.prod(sizes) == count:
        last = sizes[-1]
        if 1 < last <= widest:
            return last
    if count == 4:
        return min(2, widest)
    return min(count, 3 if count < 10 else 4, widest)


def _slug(*parts: str) -> str:
    words = (re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)
    return "-".join(word for word in words if word)


def free_name(name: str, taken: set[str]) -> str:
    """Return a name, numbered where it is taken, and take it."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free


def number(value: Value) -> float:
    """Return a value as a number, NaN for what is missing."""
    return float(value) if isinstance(value, int | float) else math.nan


def seeds(rows: Iterable[Row]) -> str:
    """Say over how many seeds rows are means: ``n = 3 seeds`` or ``n = 1 to 3 seeds``."""
    counts = sorted({int(number(row.values["n"])) for row in rows})
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"n = {many} seed{'' if counts == [1] else 's'}"


def bars(rows: Sequence[Row]) -> str:
    """Say what error bars are, or that there are none, and n."""
    if all(row.values["accuracy_std"] is None for row in rows):
        return f"No error bars: {seeds(rows)}."
    return f"Error bars: standard deviation over seeds, {seeds(rows)}."
