"""Tables: for the terminal, as CSV and as Markdown, rounded the same way each time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fedbench.report.frame import Row, Value, blocks

if TYPE_CHECKING:
    from rich.table import Table

#: Columns of ``table.csv``, in order.
COLUMNS = (
    "suite",
    "dataset",
    "scheme",
    "beta",
    "partition",
    "clients",
    "budget_pixels",
    "budget_scope",
    "model",
    "profile",
    "method",
    "preset",
    "settings",
    "n",
    "accuracy_mean",
    "accuracy_std",
    "gap_to_centralised",
    "worst_client_mean",
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

_DIGITS = {
    "accuracy_mean": 4,
    "accuracy_std": 4,
    "gap_to_centralised": 4,
    "worst_client_mean": 4,
    "nll_mean": 4,
    "ece_mean": 4,
    "bytes_up_per_client": 0,
    "bytes_down_per_client": 0,
    "bytes_total": 0,
    "rounds": 0,
}


def to_csv(rows: Iterable[Row]) -> str:
    """Return the table as CSV, one line a row, accuracies in [0, 1]."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_plain(name, row.values[name]) for name in COLUMNS])
    return buffer.getvalue()


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the leaderboard as Markdown, a table for each block."""
    parts = []
    for head, members in blocks(rows):
        parts.append(f"### {title(head)}\n")
        lines = [HEADINGS, tuple("---" for _ in HEADINGS), *(cells(row) for row in members)]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    return "\n".join(parts)


def to_terminal(rows: Sequence[Row]) -> list[Table]:
    """Return the leaderboard as rich tables, one for each block."""
    from rich.table import Table

    tables = []
    for head, members in blocks(rows):
        table = Table(title=title(head), title_justify="left", title_style="bold")
        for place, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="left" if place == 0 else "right", no_wrap=place == 0)
        shown_controls = False
        for row in members:
            if row.control and not shown_controls:
                table.add_section()
                shown_controls = True
            table.add_row(*cells(row), style="dim" if row.control else "")
        tables.append(table)
    return tables


HEADINGS = (
    "method",
    "accuracy %",
    "n",
    "worst client %",
    "ECE %",
    "up/client",
    "down/client",
    "rounds",
    "shared px",
    "client s",
    "server s",
)


def cells(row: Row) -> tuple[str, ...]:
    """Return a row's cells as a person reads them, in order of ``HEADINGS``."""
    values = row.values
    label = str(values["label"]) + (" †" if row.control else "")
    return (
        label,
        accuracy(values["accuracy_mean"], values["accuracy_std"]),
        str(values["n"]),
        percent(values["worst_client_mean"]),
        percent(values["ece_mean"]),
        size(values["bytes_up_per_client"]),
        size(values["bytes_down_per_client"]),
        _round(values["rounds"], 0),
        _round(values["shared_pixels"], 0),
        _round(values["client_seconds"], 1),
        _round(values["server_seconds"], 1),
    )


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


def accuracy(mean: Value, std: Value) -> str:
    """Return an accuracy in percent, with its standard deviation where there are several seeds."""
    return percent(mean) + (f" ± {percent(std)}" if std is not None else "")


def percent(value: Value) -> str:
    """Return a share in [0, 1] in percent with two decimals, or a dash."""
    return "–" if value is None else f"{100 * float(value):.2f}"


def size(value: Value) -> str:
    """Return bytes with a decimal unit: B, kB, MB or GB."""
    if value is None:
        return "–"
    number = float(value)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def _round(value: Value, digits: int) -> str:
    return "–" if value is None else f"{float(value):,.{digits}f}"


def _plain(name: str, value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{_DIGITS[name]}f}" if name in _DIGITS else f"{value:g}"
    return str(value)
