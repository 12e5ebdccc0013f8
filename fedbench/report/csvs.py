"""CSV: one way to write a value, so that equal records give equal bytes on every machine."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from fedbench.report.frame import Value

#: Decimals by column; others are written as short as they can be without becoming another number.
DIGITS = {
    **dict.fromkeys(("accuracy_mean", "accuracy_std", "gap_to_centralised"), 4),
    **dict.fromkeys(("balanced_accuracy_mean", "balanced_accuracy_std"), 4),
    **dict.fromkeys(("worst_client_mean", "nll_mean", "ece_mean"), 4),
    **dict.fromkeys(("bytes_up_per_client", "bytes_down_per_client", "bytes_total", "rounds"), 0),
    **dict.fromkeys(("accuracy", "balanced_accuracy", "worst_client", "nll", "ece"), 6),
    **dict.fromkeys(("client_seconds", "server_seconds", "shared_seconds"), 3),
    **dict.fromkeys(("harness_seconds", "wall_seconds"), 3),
    **dict.fromkeys(("evaluation_seconds", "waiting_seconds"), 3),
    **dict.fromkeys(("paired_mean", "paired_std", "ours", "ours_std", "difference"), 4),
}


#: How a spreadsheet's formulas begin.
_FORMULA = ("=", "+", "@", "\t", "\r")


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Value]]) -> str:
    """Return a CSV file's text: a head line, then one line a row.

    Args:
        columns: The columns in order.
        rows: Values by column; a column that a row lacks is empty.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([plain(name, row.get(name)) for name in columns])
    return buffer.getvalue()


def plain(name: str, value: Value) -> str:
    """Return a value as the column of that name has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if name in DIGITS and isinstance(value, int | float):
        return signless_zero(f"{value:.{DIGITS[name]}f}")
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    text = str(value)
    # A spreadsheet would run it as a formula; text that begins so is none of our numbers.
    return f"'{text}" if text.startswith(_FORMULA) else text


def signless_zero(text: str) -> str:
    """Return a written number without the sign of ``-0.00``."""
    return text.lstrip("-") if not text.strip("-0.") else text
