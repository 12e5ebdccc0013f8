"""Tables that people read: in the terminal and as Markdown; ``table.csv``; how numbers are written.

``latex`` sets the same columns for papers. Seconds stand in the terminal only: files are to be the
same on a slow machine as on a fast one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from fedbench.bench.records.about import STAR, method_label
from fedbench.report import csvs, markdown
from fedbench.report.columns import LACKS_SEEDS, Column, accuracy, columns, tells_balanced
from fedbench.report.csvs import signless_zero
from fedbench.report.frame import SETTING, Row, Value, blocks
from fedbench.report.markdown import escape_markdown
from fedbench.report.marks import Mark, marks
from fedbench.report.paired import Paired, paired, reference

if TYPE_CHECKING:
    from rich.table import Table

#: Columns of ``table.csv``, in order.
COLUMNS = (
    *SETTING,
    "profile",
    "method",
    "preset",
    "overrides",
    "settings",
    "control",
    "n",
    "accuracy_mean",
    "accuracy_std",
    "balanced_accuracy_mean",
    "balanced_accuracy_std",
    "domain_mean",
    "domain_std",
    "gap_to_centralised",
    "worst_client_mean",
    "own_worst_client_mean",
    "nll_mean",
    "ece_mean",
    "bytes_up_per_client",
    "bytes_down_per_client",
    "bytes_total",
    "rounds",
    "shared_pixels",
    "resources",
    "record_ids",
)
#: Characters up to which the terminal keeps a name on one line, and down to which it does so where
#: columns that always stay need the room.
LONGEST, SHORTEST = 40, 12
CONTROL = "†"
NEAR = "≈"
NOTE = (
    f"{CONTROL} control row, not ranked. Accuracy at the last step on the whole test set, mean ± "
    f"standard deviation over n seeds. Of the others, the best is bold, the second underlined, and "
    f"{NEAR} marks those within a pooled standard deviation of the best. {LACKS_SEEDS} lacks seeds "
    f"that half of the block's rows or more have, and is not ranked."
)
BALANCED_NOTE = (
    "Balanced accuracy is the mean recall over classes, where each class counts alike however few "
    "test samples it has; it is not ranked."
)
OVERRIDDEN = (
    f"{STAR} settings that the suite overrides, with the value of the preset, or without one the "
    "method's default, in brackets:"
)


@dataclass(frozen=True)
class Line:
    """A row of a block as tables show it.

    Attributes:
        row: What it shows.
        mark: What its accuracy is marked as.
        gap: Its paired difference to the reference, where one was asked for.
    """

    row: Row
    mark: Mark
    gap: Paired | None = None


def figures(rows: Sequence[Row]) -> tuple[Column, ...]:
    """Return the columns that follow the accuracies of these rows and their paired differences."""
    return tuple(column for column in columns(rows) if column.plain)


def note(rows: Sequence[Row]) -> str:
    """Return what has to be known to read the tables of these rows."""
    balanced = [BALANCED_NOTE] if tells_balanced(rows) else []
    return " ".join([NOTE, *balanced, *unsaid(rows)])


def unsaid(rows: Iterable[Row]) -> list[str]:
    """Return, for each method and preset, what names of rows say only where it is otherwise."""
    found = {
        (method_label(str(row.values["method"]), _preset(row), ()), row.values["usual"])
        for row in rows
    }
    return [
        f"Where its name does not say otherwise, {name} has {words}."
        for name, words in sorted(found, key=str)
        if words
    ]


def _preset(row: Row) -> str | None:
    preset = row.values["preset"]
    return None if preset is None else str(preset)


def overridden(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Return what a star in a name stands for: each such name, and what is overridden in it."""
    found = ((str(row.values["label"]), row.values["overrides"]) for row in rows)
    return sorted({(name, str(words)) for name, words in found if words and STAR in name})


def to_csv(rows: Iterable[Row]) -> str:
    """Return the table as CSV, one line a row, accuracies in [0, 1]."""
    return csvs.to_csv(COLUMNS, (row.values for row in rows))


def shown(rows: Sequence[Row], against: str | None = None) -> Iterator[tuple[str, list[Line]]]:
    """Yield each block's title and lines.

    Args:
        rows: Of a suite, in order.
        against: The row that all are compared with over shared seeds (see ``paired.reference``).

    Raises:
        SettingsError: ``against`` means several rows of a block.
    """
    for head, members in blocks(rows):
        other = reference(members, against) if against else None
        gaps = [paired(row, other) if other and other is not row else None for row in members]
        lines = zip(members, marks(members), gaps, strict=True)
        yield title(head), [Line(row, mark, gap) for row, mark, gap in lines]


def to_markdown(rows: Sequence[Row], against: str | None = None, records: str = "records/") -> str:
    """Return the leaderboard as Markdown, a table for each block, without seconds.

    Args:
        rows: Of a suite, in order.
        against: As in ``shown``.
        records: Link to the folder of record files.
    """
    shown_columns = [column for column in figures(rows) if not column.timing]
    headings = ["method", "accuracy %", *gap_heading(against), *(c.plain for c in shown_columns)]
    head = [escape_markdown(heading) for heading in [*headings, "records"]]
    parts = []
    for name, lines in shown(rows, against):
        body = [_markdown_line(line, shown_columns, against, records) for line in lines]
        found = markdown.table("l" + "r" * len(headings), head, body)
        parts.append("\n".join([f"### {escape_markdown(name)}\n", *found]) + "\n")
    if not parts:
        return "No cell has a result yet.\n"
    parts.append(escape_markdown(note(rows)) + "\n")
    if stars := overridden(rows):
        items = [f"- {escape_markdown(name)}: {escape_markdown(words)}" for name, words in stars]
        parts.append("\n".join([escape_markdown(OVERRIDDEN) + "\n", *items]) + "\n")
    return "\n".join(parts)


def _markdown_line(
    line: Line, columns: Iterable[Column], against: str | None, records: str
) -> list[str]:
    score = written_accuracy(line)
    if line.mark.place == 1:
        score = f"**{score}**"
    if line.mark.place == 2:
        score = f"<u>{score}</u>"
    gap = [written_gap(line.gap)] if against else []
    ids = [record.cell_id for record in line.row.records]
    links = " ".join(f"[{escape_markdown(i[:8])}]({records}{quote(i)}.json)" for i in ids)
    return [escape_markdown(label(line.row)), score, *gap, *_figures(line.row, columns), links]


def to_terminal(
    rows: Sequence[Row], width: int | None = None, against: str | None = None
) -> list[Table]:
    """Return the leaderboard as rich tables of equal widths, one for each block.

    Args:
        rows: Of a suite, in order.
        width: Characters that a table may take; the least important columns are left out, and the
            last table says which.
        against: As in ``shown``.
    """
    from rich.table import Table
    from rich.text import Text

    found = list(shown(rows, against))
    texts = [["method", *map(label, rows)], ["accuracy %", *(f"{accuracy_of(r)} ≈" for r in rows)]]
    for heading in gap_heading(against):
        texts.append([heading, *(written_gap(line.gap) for _, lines in found for line in lines)])
    widths = [max(map(len, column)) for column in texts]
    widths[2:] = [max(10, *map(len, column[1:])) for column in texts[2:]]  # its heading may wrap
    widths[0] = min(widths[0], LONGEST, max(SHORTEST, _room(rows, width, widths[1:])))
    columns = _fitting(rows, width, sum(widths) + 3 * len(widths) + 1)
    tables = []
    for name, lines in found:
        table = Table(title=Text(_wrapped(name, width), "bold"), title_justify="left")
        table.add_column(texts[0][0], min_width=widths[0], overflow="fold")
        for (heading, *_), wide in zip(texts[1:], widths[1:], strict=True):
            table.add_column(heading, justify="right", width=wide)
        for column in columns:
            wide = _width(column, rows)
            table.add_column(column.plain, justify="right", min_width=wide, no_wrap=True)
        _fill(table, lines, columns, against)
        tables.append(table)
    spared = ", ".join(column.plain for column in figures(rows) if column not in columns)
    if spared and tables:
        tables[-1].caption = Text(f"left out for want of width: {spared}", "dim")
        tables[-1].caption_justify = "left"
    return tables


def _wrapped(name: str, width: int | None) -> str:
    """Break a title between its parts only."""
    parts = name.split(" · ")
    joined = " · ".join(part.replace(" ", "\u00a0") for part in parts)
    return name if width is None else textwrap.fill(joined, width, break_on_hyphens=False)


def _fill(
    table: Table, lines: Sequence[Line], columns: Sequence[Column], against: str | None
) -> None:
    from rich.text import Text

    ranked = [line for line in lines if not line.row.control]
    styles = {1: "bold green", 2: "underline"}
    for line in lines:
        style = "dim" if line.row.control else ""
        score = Text(accuracy_of(line.row), styles.get(line.mark.place or 0, ""))
        score.append(f" {NEAR}" if line.mark.near else "  ", "not underline")
        gap = [Text(written_gap(line.gap))] if against else []
        texts = [Text(text) for text in _figures(line.row, columns)]
        last = bool(ranked) and line is ranked[-1]
        table.add_row(Text(label(line.row)), score, *gap, *texts, style=style, end_section=last)


def _room(rows: Sequence[Row], width: int | None, taken: Sequence[int]) -> int:
    """Return how wide names may be beside what is taken and the columns that always stay."""
    wide = [*taken, *(_width(column, rows) for column in figures(rows) if not column.rank)]
    return LONGEST if width is None else width - sum(wide) - 3 * (len(wide) + 1) - 1


def _fitting(rows: Sequence[Row], width: int | None, taken: int) -> list[Column]:
    """Return the columns that fit beside what is taken, the least important left out first."""
    columns = list(figures(rows))
    while width is not None and taken + sum(_width(c, rows) + 3 for c in columns) > width:
        spare = [column for column in columns if column.rank]
        if not spare:
            break
        columns.remove(min(spare, key=lambda column: column.rank))
    return columns


def _width(column: Column, rows: Iterable[Row]) -> int:
    return max(len(column.plain), *(len(column.text(row.values)) for row in rows), 0)


def _figures(row: Row, columns: Iterable[Column]) -> list[str]:
    return [column.text(row.values) for column in columns]


def gap_heading(against: str | None) -> list[str]:
    """Return the heading of paired differences, in a list, where they are asked for."""
    return [f"Δ to {against} (n)"] if against else []


def label(row: Row) -> str:
    """Return a row's name, with a dagger for a control row."""
    return str(row.values["label"]) + (f" {CONTROL}" if row.control else "")


def written_accuracy(line: Line) -> str:
    """Return a line's accuracy in percent, with the sign of those near the best."""
    return accuracy_of(line.row) + (f" {NEAR}" if line.mark.near else "")


def accuracy_of(row: Row) -> str:
    """Return a row's accuracy in percent, with its deviation."""
    return accuracy(row.values["accuracy_mean"], row.values["accuracy_std"])


def written_gap(gap: Paired | None) -> str:
    """Return a paired difference in percentage points, such as ``+1.20 ± 0.30 (3)``."""
    if gap is None:
        return "–"
    mean = signless_zero(f"{100 * gap.mean:+.2f}")
    spread = f" ± {100 * gap.std:.2f}" if gap.std is not None else ""
    return f"{mean}{spread} ({len(gap.seeds)})"


def title(head: dict[str, Value]) -> str:
    """Return a block's title: the split and the model always, other settings where they vary."""
    parts = [str(head["dataset"]), str(head["scheme"])]
    if head["parameters"] is not None:
        parts.append(str(head["parameters"]).replace("beta=", "β="))
    parts += [f"K={head['clients']}", str(head["model"])]
    if head["settings"] is not None:
        parts.append(str(head["settings"]))
    if head["budget_pixels"] is not None:
        parts.append(f"budget {head['budget_pixels']:,} px {head['budget_scope']}")
    return " · ".join(parts)
