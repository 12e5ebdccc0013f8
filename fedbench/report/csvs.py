"""CSV: one way to write a value, so that equal records give equal bytes on every machine."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from fedbench.report.frame import Value

#: Decimals by column; others are written as short as they can be without becoming another number.
DIGITS = {
    **dict.fromkeys(("accuracy_mean", "accuracy_std", "gap_to_centralised"), 4),
    **dict.fromkeys(("balanced_accuracy_mean", "balanced_accuracy_std"), 4),
    **dict.fromkeys(("domain_mean", "domain_std"), 4),
    **dict.fromkeys(("worst_client_mean", "own_worst_client_mean", "nll_mean", "ece_mean"), 4),
    **dict.fromkeys(("bytes_up_per_client", "bytes_down_per_client", "bytes_total", "rounds"), 0),
    **dict.fromkeys(("accuracy", "balanced_accuracy", "worst_client", "nll", "ece"), 6),
    "own_worst_client": 6,
    "domain": 6,
    **dict.fromkeys(("client_seconds", "server_seconds", "shared_seconds"), 3),
    **dict.fromkeys(("harness_seconds", "wall_seconds"), 3),
    **dict.fromkeys(("evaluation_seconds", "waiting_seconds"), 3),
    **dict.fromkeys(("paired_mean", "paired_std", "ours", "ours_std", "difference"), 4),
}


#: How a spreadsheet's formulas begin.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


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
        values = ((name, row.get(name)) for name in columns)
        writer.writerow([_guarded(value, plain(name, value)) for name, value in values])
    return buffer.getvalue()


def as_text(columns: Sequence[str], rows: Iterable[Mapping[str, Value]]) -> list[dict[str, str]]:
    """Return the rows of a CSV file as text by column, before anything is quoted."""
    return [{name: plain(name, row.get(name)) for name in columns} for row in rows]


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
    return str(value)


def _guarded(value: Value, text: str) -> str:
    """Return what a spreadsheet shows and does not run: text that begins like a formula is quoted.

    Numbers stay as they are, also those that are written as text.
    """
    if not isinstance(value, str) or not text.startswith(_FORMULA):
        return text
    with suppress(ValueError):
        float(text)
        return text
    return f"'{text}"


def signless_zero(text: str) -> str:
    """Return a written number without the sign of ``-0.00``."""
    return text.lstrip("-") if not text.strip("-0.") else text
