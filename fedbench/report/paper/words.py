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
#: Marks ours where it is not like the others.
APART = "◊"
OURS = (
    "mean ± standard deviation over n seeds (n in parentheses) at the last step, of the nearest "
    "profile that ran. A letter leads to the deviations from the source's setting. Ours of one "
    "data set are alike in images, split, clients and networks, but for what rows and columns "
    f"name; {APART} marks those that are not, or whose method has other settings than the others, "
    "and its letter says which."
)
LEGEND = (
    f"Each cell: published / ours. Ours: {OURS} – stands where no number is known or nothing ran."
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
    return f"{of_number(number)} [{who(number)}]"


def who(number: Published) -> str:
    """Return who publishes a number, and for how many clients."""
    name = number.source.split(";")[0].split(", ")[0]
    clients = number.where.get("partition.clients")
    return f"{name}, {clients} clients" if clients else name


def elsewhere(sheet: Sheet) -> list[str]:
    """Return who else publishes numbers of a table's cells, each once, in order."""
    return list(dict.fromkeys(who(other) for each in sheet.cells for other in each.others))


def published(filled: Filled) -> str:
    """Return the published half of a cell: the source's numbers, then others'."""
    own = " or ".join(map(of_number, filled.numbers))
    return "; ".join([*([own] if own else []), *map(of_other, filled.others)]) or NOTHING


def ours(filled: Filled) -> str:
    """Return our half of a cell, without its letter."""
    if filled.ours is None:
        return NOTHING
    parts = [of_result(filled.ours)]
    if filled.choice is not None and filled.choice.match.elsewhere:
        parts.append(filled.choice.match.group.facts["dataset"])
    return " ".join([*parts, APART] if filled.apart else parts)


def below(sheet: Sheet) -> list[tuple[str, str]]:
    """Return what stands below a table, each with its letter, or with none.

    What cells of ours have in common comes first, then the letters' deviations, then why cells
    cannot be computed.
    """
    absences = dict.fromkeys(each.cell.absent for each in sheet.cells if each.cell.absent)
    return [
        *(("", f"{'; '.join(n) or 'Ours'}: {block}") for block, n in sheet.blocks.items()),
        *((mark, "; ".join(map(str, own))) for mark, own in sheet.marks.items()),
        *(("", f"Not here: {reason}.") for reason in absences),
    ]


def column(filled: Filled) -> str:
    """Return a cell's column in one line."""
    return ", ".join(filled.cell.column)


def missing(sheet: Sheet) -> list[Filled]:
    """Return the cells in which the source has a number and nothing ran."""
    return [filled for filled in sheet.cells if filled.numbers and filled.ours is None]


def _shortest(share: float) -> str:
    """Return a share in per cent with two decimals, or fewer where the source has fewer."""
    return f"{100 * share:.2f}".rstrip("0").rstrip(".")
