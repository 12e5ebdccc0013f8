"""A board by one axis: methods down, the axis's values across, mean ± std (n) in the cells.

The axis may be any setting that varies, by its dotted name or the end of it: ``beta``, ``clients``,
``ipc``, ``method.iterations``. Where other settings of blocks vary, each has lines of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup

from fedbench.bench.records.about import STAR, method_label
from fedbench.bench.suites.selection import PRINTED
from fedbench.bench.suites.suite import SHORT_NAMES
from fedbench.errors import SettingsError, did_you_mean
from fedbench.report import csvs, labels
from fedbench.report.board import Board
from fedbench.report.frame import Row, Value
from fedbench.report.latex import booktabs, escape
from fedbench.report.markdown import escape_markdown, table
from fedbench.report.tables import CONTROL

if TYPE_CHECKING:
    from rich.table import Table

#: Metrics of boards; of the last three they have no deviation over seeds.
METRICS = ("accuracy", "balanced_accuracy", "domain", "worst_client", "nll", "ece")
#: Short names of axes that people type: those of suites, what boards print, and more.
ALIASES = {
    **SHORT_NAMES,
    **PRINTED,
    "dataset": "data.name",
    "images": "data.train_size",
    "preset": "method.preset",
}
_BUDGET = "budget."
_PERCENT = ("accuracy", "balanced_accuracy", "domain", "worst_client", "ece")


@dataclass(frozen=True)
class Cell:
    """A mean over seeds.

    Attributes:
        mean: Of the metric.
        std: Standard deviation; None where there is one seed, or the metric has none.
        n: Seeds.
        records: Ids.
    """

    mean: float
    std: float | None
    n: int
    records: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A method in one setting, over the axis.

    Attributes:
        label: The method with what tells it from others.
        setting: What varies besides, such as ``clients=5``; empty where nothing does.
        control: Whether it is a row to compare with.
        cells: By value of the axis; None where nothing ran.
    """

    label: str
    setting: str
    control: bool
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Pivot:
    """A board by one axis.

    Attributes:
        axis: The setting's dotted name.
        metric: What is in the cells.
        values: Of the axis, in order.
        lines: Contenders by their best mean, then controls.
    """

    axis: str
    metric: str
    values: tuple[Value, ...]
    lines: tuple[Line, ...]

    @property
    def name(self) -> str:
        """The end of the axis's dotted name."""
        return self.axis.rpartition(".")[2]

    def frame(self) -> pd.DataFrame:
        """Return the pivot as a frame: columns by value and ``mean``, ``std``, ``n``; in shares."""
        index = pd.MultiIndex.from_tuples(
            [(line.label, line.setting) for line in self.lines], names=["method", "setting"]
        )
        columns = pd.MultiIndex.from_product(
            [self.values, ["mean", "std", "n"]], names=[self.axis, "statistic"]
        )
        rows = [[part for cell in line.cells for part in _parts(cell)] for line in self.lines]
        frame = pd.DataFrame(rows, index=index, columns=columns, dtype=float)
        return frame if any(line.setting for line in self.lines) else frame.droplevel("setting")

    def text(self, cell: Cell | None) -> str:
        """Return a cell as it is read: in per cent where it is a share."""
        if cell is None:
            return "–"
        scale, digits = (100, 2) if self.metric in _PERCENT else (1, 3)
        spread = "" if cell.std is None else f" ± {scale * cell.std:.{digits}f}"
        return f"{scale * cell.mean:.{digits}f}{spread} ({cell.n})"

    def grid(self) -> list[list[str]]:
        """Return head and lines as text: method, setting where any has one, then the cells."""
        settings = any(line.setting for line in self.lines)
        head = [f"{self.name}={_written(value)}" for value in self.values]
        found = [["method", *(["setting"] if settings else []), *head]]
        for line in self.lines:
            first = [f"{line.label} {CONTROL}" if line.control else line.label]
            found.append(
                [*first, *([line.setting] if settings else []), *map(self.text, line.cells)]
            )
        return found

    @property
    def caption(self) -> str:
        """What the cells are."""
        unit = ", %" if self.metric in _PERCENT else ""
        starred = any(STAR in line.label for line in self.lines)
        star = f" {STAR} the suite overrides settings of the preset or method." if starred else ""
        return (
            f"{self.metric.replace('_', ' ')} by {self.axis}: mean ± standard deviation over n "
            f"seeds (n){unit}. {CONTROL} control row.{star}"
        )


def pivot(board: Board, axis: str, metric: str = "accuracy") -> Pivot:
    """Set a board's methods against the values of one axis.

    A method without a budget stands under every budget where the axis is one.

    Args:
        board: Plan, records and rows.
        axis: A setting that varies, by its dotted name, the end of it, or an alias.
        metric: One of ``METRICS``.

    Raises:
        SettingsError: The axis does not vary, or there is no such metric.
    """
    if metric not in METRICS:
        raise SettingsError(
            f"there is no metric {metric!r}{did_you_mean(metric, METRICS)}; "
            f"known: {', '.join(METRICS)}"
        )
    rows = [row for row in board.views if row.values[f"{metric}_mean"] is not None]
    flats = [_flat(row) for row in rows]
    name = _axis(axis, flats)
    known = {flat[name] for flat in flats if name in flat}
    values = tuple(sorted(known, key=lambda value: (isinstance(value, str), value)))
    names = _names(rows, flats, name)
    cells: dict[tuple[str, str, bool], dict[Value, Cell]] = {}
    for row, flat, own in zip(rows, flats, names, strict=True):
        under = [flat[name]] if name in flat else list(values)
        if name not in flat and not name.startswith((_BUDGET, "method.")):
            continue
        line = cells.setdefault((*own, row.control), {})
        for value in under:
            line[value] = _cell(row, metric)
    lines = [
        Line(label, setting, control, tuple(found.get(value) for value in values))
        for (label, setting, control), found in cells.items()
    ]
    down = metric in ("nll", "ece")
    lines.sort(
        key=lambda line: (labels.natural(line.setting), line.control, _best(line, down), line.label)
    )
    return Pivot(name, metric, tuple(labels.said(name, value) for value in values), tuple(lines))


def files(several: Sequence[Pivot], suite: str) -> dict[str, str]:
    """Return the files of pivots, ``pivot-AXIS.md``, ``.tex`` and ``.csv``, by name."""
    written: dict[str, str] = {}
    for found, name in zip(several, names(several), strict=True):
        stem = f"pivot-{name}"
        written |= {
            f"{stem}.md": to_markdown(found),
            f"{stem}.tex": to_latex(found, suite),
            f"{stem}.csv": to_csv(found),
        }
    return written


def names(several: Sequence[Pivot]) -> list[str]:
    """Return what each is called: the end of its axis, or all of it where two have one end."""
    ends = Counter(found.name for found in {found.axis: found for found in several}.values())
    return [found.name if ends[found.name] == 1 else found.axis for found in several]


def to_terminal(found: Pivot) -> Table:
    """Return a pivot for the terminal."""
    from rich.table import Table
    from rich.text import Text

    head, *lines = found.grid()
    shown = Table(caption=found.caption, title=f"by {found.axis}")
    for name in head:
        shown.add_column(Text(name), justify="left" if name in ("method", "setting") else "right")
    for line in lines:
        shown.add_row(*map(Text, line))
    return shown


def to_markdown(found: Pivot) -> str:
    """Return a pivot as Markdown."""
    head, *lines = found.grid()
    body = [[escape_markdown(cell) for cell in line] for line in (head, *lines)]
    return "\n".join(
        [*table(_shape(head), body[0], body[1:]), "", escape_markdown(found.caption), ""]
    )


def to_latex(found: Pivot, suite: str) -> str:
    """Return a pivot as a booktabs table."""
    head, *lines = found.grid()
    rows = [" & ".join(["{}" + _marked(line[0]), *map(escape, line[1:])]) for line in lines]
    return "\n".join(
        [
            r"% Made by fedbench from records. In the preamble: \usepackage{booktabs,graphicx}",
            booktabs(
                f"Suite {escape(suite)}: {_marked(found.caption)}",
                _shape(head),
                [" & ".join(map(escape, head)) + r" \\"],
                [[row + r" \\" for row in rows]],
            ),
        ]
    )


def _shape(head: Sequence[str]) -> str:
    return "".join("l" if name in ("method", "setting") else "r" for name in head)


def _marked(text: str) -> str:
    return r"$^\dagger$ ".join(escape(part) for part in text.split(CONTROL)).rstrip()


def to_html(found: Pivot) -> Markup:
    """Return a pivot as an HTML table, everything escaped."""
    head, *lines = found.grid()
    top = Markup("").join(Markup('<th scope="col">{}</th>').format(cell) for cell in head)
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>\n').format(
            line[0], Markup("").join(Markup("<td>{}</td>").format(cell) for cell in line[1:])
        )
        for line in lines
    )
    return Markup(
        '<table class="pivot"><caption>{}</caption>\n<thead><tr>{}</tr></thead>\n'
        "<tbody>\n{}</tbody></table>"
    ).format(found.caption, top, body)


def to_csv(found: Pivot) -> str:
    """Return a pivot as CSV, one line a cell, in shares."""
    lines = [
        {
            "method": line.label,
            "setting": line.setting or None,
            "control": line.control,
            found.axis: value,
            f"{found.metric}_mean": cell.mean,
            f"{found.metric}_std": cell.std,
            "n": cell.n,
            "record_ids": " ".join(cell.records),
        }
        for line in found.lines
        for value, cell in zip(found.values, line.cells, strict=True)
        if cell is not None
    ]
    return csvs.to_csv(list(lines[0]) if lines else ["method"], lines)


def _flat(row: Row) -> labels.Flat:
    preset = row.values["preset"]
    return row.settings if preset is None else {**row.settings, "method.preset": str(preset)}


def _axis(asked: str, flats: Sequence[labels.Flat]) -> str:
    """Return the dotted name that an axis means."""
    varying = [
        name
        for name in labels.varying(flats)
        if len({flat[name] for flat in flats if name in flat}) > 1
    ]
    name = ALIASES.get(asked, asked)
    ends = [each for each in varying if each.endswith(f".{asked}")]
    if name in varying:
        return name
    if name == "budget.ipc" and "budget.pixels" in varying:
        return "budget.pixels"
    if name == "data.name" and "data.path" in varying:
        return "data.path"
    if len(ends) == 1:
        return ends[0]
    many = f"; {asked!r} may be {' or '.join(ends)}" if ends else ""
    raise SettingsError(
        f"{asked!r} has no two values on this board{did_you_mean(asked, varying)}{many}; "
        f"what varies: {', '.join(varying) or 'nothing'}"
    )


def _names(rows: Sequence[Row], flats: Sequence[labels.Flat], axis: str) -> list[tuple[str, str]]:
    """Return each row's method label, and the settings beyond it that tell its lines apart."""
    alike: dict[tuple[Value, Value], list[labels.Flat]] = {}
    for row, flat in zip(rows, flats, strict=True):
        alike.setdefault(_named(row), []).append(flat)
    methods = {
        key: [name for name in labels.varying(map(_of_method, group)) if name != axis]
        for key, group in alike.items()
    }
    around = [name for name in labels.varying(map(_around, flats)) if name != axis]
    # A budget is written only where it varies for those that have one.
    around = [n for n in around if len({flat[n] for flat in flats if n in flat}) > 1]
    names = []
    for row, flat in zip(rows, flats, strict=True):
        said = methods[_named(row)]
        preset = None if axis == "method.preset" else row.values["preset_label"]
        star = labels.starred(str(preset) if preset else None, row.overridden, [*said, axis])
        label = method_label(str(row.values["method"]), star, labels.written(flat, said))
        names.append((label, " ".join(labels.written(flat, around))))
    return names


def _named(row: Row) -> tuple[Value, Value]:
    """Return what rows are named by, whose further settings tell them apart."""
    preset = row.values["preset_label"]
    return row.values["method"], None if preset == STAR else preset


def _of_method(flat: labels.Flat) -> labels.Flat:
    own = labels.of_row(flat)
    return {name: value for name, value in own.items() if not name.startswith(_BUDGET)}


def _around(flat: labels.Flat) -> labels.Flat:
    budget = {name: value for name, value in flat.items() if name.startswith(_BUDGET)}
    return labels.of_block(flat) | budget


def _cell(row: Row, metric: str) -> Cell:
    mean, std = row.values[f"{metric}_mean"], row.values.get(f"{metric}_std")
    assert isinstance(mean, float)
    ids = tuple(str(row.values["record_ids"]).split())
    n = int(row.values["n"] or 0)
    return Cell(mean, std if isinstance(std, float) else None, n, ids)


def _best(line: Line, down: bool) -> float:
    means = [cell.mean for cell in line.cells if cell is not None]
    return min(means) if down else -max(means)


def _parts(cell: Cell | None) -> Iterable[float | None]:
    return (None, None, None) if cell is None else (cell.mean, cell.std, cell.n)


def _written(value: Value) -> str:
    return json.dumps(value) if isinstance(value, float) else str(value)
