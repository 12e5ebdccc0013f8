"""`fedbench sweep --beside`: what a published board adds to a suite, said before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedbench.session.words import count

if TYPE_CHECKING:
    from fedbench.bench.survey import Survey
    from fedbench.report.beside import Beside

#: Blocks that are shown; what is beyond them is counted.
_MOST = 10


def beside_lines(found: Beside, survey: Survey) -> Iterator[tuple[str, str]]:
    """Yield what is said of a board, as names and lines.

    Args:
        found: Where the suite's cells meet the board.
        survey: Of the suite alone, with what the board has of it counted as done.
    """
    rows = sum(each.rows for each in found.meetings)
    records = sum(each.records for each in found.meetings)
    cells = sum(each.cells for each in found.meetings)
    apart = f"; {count(found.apart, 'cell')} in no block of the board" if found.apart else ""
    yield (
        "beside",
        f"{found.folder}: {count(rows, 'row')} of {count(records, 'record')} beside "
        f"{count(cells, 'cell')} of this suite, in {count(len(found.meetings), 'block')}{apart}",
    )
    for each in found.meetings[:_MOST]:
        yield "", f"{each.title}: {count(each.rows, 'row')} beside {count(each.cells, 'cell')}"
    if len(found.meetings) > _MOST:
        yield "", f"and {len(found.meetings) - _MOST} more"
    words = "that the board has and nobody computes again"
    reused = len(found.same - {*survey.todo})
    yield (
        "reused",
        f"{count(reused, 'cell')} of this suite {words}; no client training, since a "
        f"published record holds no weights: {survey.trainings.to_do} to do",
    )
