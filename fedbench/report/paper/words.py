"""How cells of papers' tables are written, alike in Markdown, LaTeX and on the page."""

from __future__ import annotations

from fedbench.report.paper.pool import Result
from fedbench.report.paper.sheet import Filled, Sheet
from fedbench.report.published import Published

#: Stands where nothing has run, or where the source has no number.
NOTHING = "–"
#: What the numbers of a table are, in its head.
UNITS = {
    "accuracy": "accuracy %",
    "local_base": "accuracy on the node's hold-out, %",
    "local_distilled": "accuracy on the node's hold-out, %",
    "local_gain": "points",
}
LEGEND = (
    "Each cell: published / ours. Ours is the mean ± standard deviation over n seeds (n in "
    "parentheses) at the last step, of the nearest profile that ran; a letter leads to the "
    "deviations from the source's setting. – stands where a source has no number or nothing ran."
)


def of_number(number: Published) -> str:
    """Return a published number in per cent, as exactly as it was published."""
    text = _shortest(number.accuracy)
    return text if number.std is None else f"{text} ± {_shortest(number.std)}"


def of_result(result: Result) -> str:
    """Return ours in per cent: mean, standard deviation and n."""
    mean = f"{100 * result.mean:.2f}"
    spread = "" if result.std is None else f" ± {100 * result.std:.2f}"
    return f"{mean}{spread} ({result.n})"


def of_other(number: Published) -> str:
    """Return another source's number with who publishes it and for how many clients."""
    who = number.source.split(";")[0].split(", ")[0]
    clients = number.where.get("partition.clients")
    about = f"{who}, {clients} clients" if clients else who
    return f"{of_number(number)} [{about}]"


def published(filled: Filled) -> str:
    """Return the published half of a cell: the source's numbers, then others'."""
    own = " or ".join(map(of_number, filled.numbers)) or NOTHING
    return "; ".join([own, *map(of_other, filled.others)])


def ours(filled: Filled) -> str:
    """Return our half of a cell, without its letter."""
    return NOTHING if filled.ours is None else of_result(filled.ours)


def column(filled: Filled) -> str:
    """Return a cell's column in one line."""
    return ", ".join(filled.cell.column)


def lines_of_marks(sheet: Sheet) -> list[tuple[str, list[str]]]:
    """Return each letter with its deviations, and the boards that it stands for."""
    return [(mark, [str(one) for one in own]) for mark, own in sheet.marks.items()]


def missing(sheet: Sheet) -> list[Filled]:
    """Return the cells in which the source has a number and nothing ran."""
    return [filled for filled in sheet.cells if filled.numbers and filled.ours is None]


def absences(sheet: Sheet) -> list[str]:
    """Return why cells of a table cannot be computed, each reason once."""
    reasons = (filled.cell.absent for filled in sheet.cells if filled.cell.absent)
    return list(dict.fromkeys(reasons))


def _shortest(share: float) -> str:
    """Return a share in per cent with two decimals, or fewer where the source has fewer."""
    return f"{100 * share:.2f}".rstrip("0").rstrip(".")
