"""Who is best in a block: the marks that tables put on accuracies.

Only contenders are ranked; control rows are there to compare with. A contender that lacks seeds, or
has no accuracy, is not ranked either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedbench.report.frame import Row


@dataclass(frozen=True)
class Mark:
    """What a row's accuracy is marked as.

    Attributes:
        place: 1 for the best value of the block's contenders, 2 for the second best value, else
            None. Values that are printed alike share a place.
        near: Whether it lies within a pooled standard deviation of the best (and is not the best).
    """

    place: int | None = None
    near: bool = False


def marks(members: Sequence[Row]) -> list[Mark]:
    """Return the marks of a block's rows, in their order.

    Args:
        members: All rows of one block and budget.
    """
    ranked = [row for row in members if row.ranked]
    if not ranked:
        return [Mark() for _ in members]
    values = sorted({_printed(row) for row in ranked}, reverse=True)
    best = max(ranked, key=lambda row: (_printed(row), _freedom(row), str(row.values["label"])))
    return [_mark(row, best, values) if row.ranked else Mark() for row in members]


def pooled_std(one: Row, other: Row) -> float | None:
    """Return the pooled standard deviation of two rows' accuracies.

    √(((n₁-1)s₁² + (n₂-1)s₂²) / (n₁+n₂-2)), so a row of one seed adds nothing to it; None where both
    have one.
    """
    freedom = _freedom(one) + _freedom(other)
    if freedom == 0:
        return None
    parts = (_freedom(row) * float(row.values["accuracy_std"] or 0.0) ** 2 for row in (one, other))
    return math.sqrt(sum(parts) / freedom)


def _mark(row: Row, best: Row, values: Sequence[float]) -> Mark:
    place = values.index(_printed(row)) + 1
    if place == 1:
        return Mark(1)
    spread = pooled_std(row, best)
    near = spread is not None and _accuracy(best) - _accuracy(row) <= spread
    return Mark(2 if place == 2 else None, near)


def _accuracy(row: Row) -> float:
    return float(row.values["accuracy_mean"] or 0.0)  # only ranked rows are asked


def _printed(row: Row) -> float:
    """Return the accuracy as tables round it, so that equal print means equal place."""
    return round(100 * _accuracy(row), 2)


def _freedom(row: Row) -> int:
    return max(len(row.accuracies) - 1, 0)
