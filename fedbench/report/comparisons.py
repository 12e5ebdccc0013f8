"""Numbers from papers beside a board's rows: the cells of papers' tables that its records fill.

Which row stands beside a number, and how its settings deviate from the source's, is what
``report.paper`` says of a table's cell when it has the records of this board alone. A number that
stands in no table asks for what its ``where`` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedbench.bench.records.about import method_label
from fedbench.report.board import Board
from fedbench.report.csvs import to_csv
from fedbench.report.frame import Row, Value
from fedbench.report.paper.choice import split_of
from fedbench.report.paper.match import Match, candidates, deviations, written
from fedbench.report.paper.pool import Group, fits, group, result
from fedbench.report.paper.sheet import fill
from fedbench.report.paper.spec import Query, read_sources
from fedbench.report.published import Published, read_numbers

#: The one metric that is set beside rows.
_METRIC = "accuracy"
#: Presets that are settings of one thing; any other that is published is a thing of its own.
_ALIKE = ("none", "reference", "fedbench")
#: What a reason why nothing stands beside a number need not say.
_SAID = ("method", "dataset", "preset")
_OF_NUMBER = ("dataset", "method", "preset", "setting", "split", "selection")
COLUMNS = (
    *_OF_NUMBER,
    *("published", "published_std", "published_n", "ours", "ours_std", "n", "difference"),
    *("row", "partition", "profile", "reasons", "source", "record_ids"),
)


@dataclass(frozen=True)
class Comparison:
    """A published number and the row of ours that comes nearest.

    Attributes:
        published: The number.
        row: Ours, or the mean of several that are a source's runs; None where no row answers.
        difference: Ours minus theirs.
        reasons: Why they may differ; where there is no row, what is missing.
    """

    published: Published
    row: Row | None
    difference: float | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """Where a number stands: what is asked there, of ours what answers, and why nothing can."""

    ours: Query
    match: Match | None
    absent: str = ""


def comparisons(board: Board, folder: Path | None = None) -> list[Comparison]:
    """Set the published numbers of a board's data sets beside its rows.

    Args:
        board: A suite's plan, records and rows.
        folder: Of published numbers; the project's own by default.

    Returns:
        One for each number on a data set of the plan, those with a row first, else in the order of
        the files.

    Raises:
        StoreError: Numbers or tables cannot be read.
        SettingsError: A specification of tables is wrong.
    """
    datasets = {str(entry.settings["data"]["name"]) for entry in board.plan.cells}
    numbers = read_numbers(folder)
    wanted = {
        file: own
        for file, lines in numbers.items()
        if (own := [n for n in lines if n.dataset in datasets and n.metric == _METRIC])
    }
    if not wanted:
        return []
    groups = group(board.plan.suite, board.good)
    rows = {id(record): row for row in board.views for record in row.records}
    places = _places(numbers, wanted, groups)
    found = [
        _compare(number, places.get(id(number)) or [_alone(number, groups)], groups, rows)
        for lines in wanted.values()
        for number in lines
    ]
    return sorted(found, key=lambda comparison: comparison.row is None)


def to_published_csv(found: Iterable[Comparison]) -> str:
    """Return ``published.csv``: a line for each comparison, accuracies in [0, 1]."""
    return to_csv(COLUMNS, map(values, found))


def values(found: Comparison) -> dict[str, Value]:
    """Return a comparison by column."""
    number, ours = found.published, found.row.values if found.row else {}
    return {
        **{name: getattr(number, name) for name in _OF_NUMBER},
        "published": number.accuracy,
        "published_std": number.std,
        "published_n": number.n,
        "ours": ours.get("accuracy_mean"),
        "ours_std": ours.get("accuracy_std"),
        "difference": found.difference,
        "row": ours.get("label"),
        **{name: ours.get(name) for name in ("n", "partition", "profile", "record_ids")},
        "reasons": "; ".join(found.reasons) or None,
        "source": number.source,
    }


def _places(
    numbers: dict[str, list[Published]],
    wanted: Mapping[str, list[Published]],
    groups: Sequence[Group],
) -> dict[int, list[_Place]]:
    """Return where numbers stand in tables, by the number's ``id``."""
    found: dict[int, list[_Place]] = {}
    for source in read_sources():
        if wanted.keys().isdisjoint(source.files):
            continue
        sheets = fill(source, numbers, groups).sheets
        for filled in (filled for sheet in sheets for filled in sheet.cells):
            cell = filled.cell
            for number in filled.numbers if cell.metric == _METRIC else ():
                place = _Place(cell.ours, None, cell.absent)
                if own := filled.group:
                    gaps = deviations(own, cell.paper, number, source.methods)
                    place = replace(place, match=Match(own, gaps))
                found.setdefault(id(number), []).append(place)
    return found


def _alone(number: Published, groups: Sequence[Group]) -> _Place:
    """Return the place of a number that stands in no table."""
    preset = number.preset or _ALIKE[0]
    known: Query = {"preset": list(_ALIKE) if preset in _ALIKE else preset}
    known |= {"method": number.method, "dataset": number.dataset, **number.where}
    nearest = candidates(known, {}, number, groups)
    return _Place(known, nearest[0] if nearest else None)


def _compare(
    number: Published,
    places: Sequence[_Place],
    groups: Sequence[Group],
    rows: Mapping[int, Row],
) -> Comparison:
    """Return a number beside the nearest row of its places, or beside none, and why."""
    known = [place.match for place in places if place.match and not place.match.elsewhere]
    if not known:
        return Comparison(number, None, None, (_missing(number, places[0], groups),))
    match = min(known, key=lambda match: match.distance)
    row = _row_of(match.group, rows)
    mean = row.values["accuracy_mean"]
    difference = None if mean is None else float(mean) - number.accuracy
    notes = [number.note] if number.note else []
    return Comparison(number, row, difference, (*map(str, match.deviations), *notes))


def _row_of(group: Group, rows: Mapping[int, Row]) -> Row:
    """Return a group's row; where it joins several, one that has their mean and records."""
    row = rows[id(group.records[0])]
    both = result(group, _METRIC)
    if both is None or all(rows[id(record)] is row for record in group.records):
        return row
    told: dict[str, Value] = {
        "accuracy_mean": both.mean,
        "accuracy_std": both.std,
        "n": both.n,
        "partition": " ".join(split_of(group)),
        "record_ids": " ".join(group.ids),
    }
    return replace(row, values=row.values | told, records=group.records)


def _missing(number: Published, place: _Place, groups: Sequence[Group]) -> str:
    if place.absent:
        return place.absent
    if any(fits(each.facts, {"dataset": number.dataset, **place.ours}) for each in groups):
        return "rows that could stand here are nearer to another number of the same table"
    # That a setting is unset is worth a word only where rows have it set.
    stated = {key: value for key, value in place.ours.items() if value is not None}
    near = any(fits(each.facts, {"dataset": number.dataset, **stated}) for each in groups)
    asked = {k: v for k, v in (place.ours if near else stated).items() if k not in _SAID}
    words = " ".join(f"{key}={written(value)}" for key, value in asked.items())
    name = method_label(number.method, number.preset)
    return f"not run: no {name} with {words or 'any settings'}"
