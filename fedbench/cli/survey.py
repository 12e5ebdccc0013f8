"""How a survey of a suite is shown: as lines, or as JSON."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedbench.session.labels import labels_of
from fedbench.session.words import count, duration, size, whereabouts

if TYPE_CHECKING:
    from fedbench.bench.cells.running import InHand
    from fedbench.bench.estimate import Estimate
    from fedbench.bench.survey import Survey

#: Names and what stands behind them.
Lines = Sequence[tuple[str, str]]
#: Lines of one kind that are shown; what is beyond them is counted.
_MOST = 10


def print_survey(
    console: Console, survey: Survey, workers: int | None = None, more: Lines = ()
) -> None:
    """Print a survey: a table on a terminal, whole lines into a file or a pipe.

    Args:
        console: Where to.
        survey: What to show.
        workers: How many will compute; where None, as many as do now.
        more: Names and lines that follow it.
    """
    if console.is_terminal:
        console.print(survey_table(survey, workers, more))
        return
    for name, line in (*_lines(survey, workers), *more):
        console.print(f"{name:<11}{line}", highlight=False, markup=False, soft_wrap=True)


def survey_table(survey: Survey, workers: int | None = None, more: Lines = ()) -> Table:
    """Return a survey as lines with their names before them (see ``print_survey``)."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, line in (*_lines(survey, workers), *more):
        table.add_row(name, line if isinstance(line, Text) else Text(line))
    return table


def survey_json(survey: Survey) -> dict[str, Any]:
    """Return a survey as JSON values; seconds and bytes are estimates, ids those of cells."""
    labels, plan = labels_of(survey), survey.plan
    estimate = survey.estimate
    return {
        "suite": plan.suite,
        "profile": plan.profile,
        "overrides": plan.overrides,
        "cells": len(plan.cells),
        "done": list(survey.done),
        "failed": [
            {
                "cell_id": item.cell_id,
                "label": labels[item.cell_id],
                "reason": item.reason,
                "log": str(item.log),
            }
            for item in survey.failed
        ],
        "running": [{"label": labels[beat.cell_id], **asdict(beat)} for beat in survey.running],
        "gone": [asdict(beat) for beat in survey.gone],
        "left": list(survey.todo),
        "not_now": list(survey.not_now),
        "skipped": survey.skipped,
        "excluded": survey.excluded,
        "trainings": asdict(survey.trainings),
        "estimate": {
            "seconds_of_one_worker": estimate.wall(1),
            "seconds_range": estimate.span(1),
            "cells_unknown": estimate.unknown,
            "cells_rough": estimate.rough,
            "scaled_from": dict(Counter(estimate.scaled.values())),
            "suites": list(estimate.suites),
            "bytes": estimate.size,
            "bytes_unknown_cells": estimate.sizes_unknown,
            "records": estimate.records,
        },
        "bytes_free": survey.free,
    }


def _lines(survey: Survey, workers: int | None) -> Iterator[tuple[str, str | Text]]:
    labels, plan = labels_of(survey), survey.plan
    title = f" ({plan.title})" if plan.title else ""
    yield "suite", f"{plan.suite}{title}, profile {plan.profile}"
    if plan.overrides:
        yield "with", ", ".join(_flat(plan.overrides))
    yield "cells", _cells(survey)
    for number, item in enumerate(survey.failed[:_MOST]):
        text = f"{labels[item.cell_id]}: {item.reason.partition(chr(10))[0]} (see {item.log})"
        yield ("" if number else "failed"), Text(text, style="red")
    if len(survey.failed) > _MOST:
        yield "", f"and {len(survey.failed) - _MOST} more"
    left_out = {**survey.skipped, **{f"excluded: {k}": v for k, v in survey.excluded.items()}}
    for number, (reason, many) in enumerate(left_out.items()):
        yield ("" if number else "skipped"), f"{many} × {reason}"
    for number, beat in enumerate(survey.running):
        yield ("" if number else "in hand"), f"{labels[beat.cell_id]}: {_where(beat)}"
    for number, beat in enumerate(survey.gone[:_MOST]):
        ago = duration(max(time.time() - beat.updated, 0))
        text = f"{labels[beat.cell_id]}: its process {beat.pid} on {beat.host} has gone, {ago} ago"
        yield ("" if number else "abandoned"), Text(text, style="yellow")
    if survey.trainings.distinct:
        yield "trainings", _trainings(survey)
    if survey.todo or survey.running:
        yield "time", _time(survey, workers or max(len(survey.running), 1))
        yield "disk", _disk(survey)


def _cells(survey: Survey) -> str:
    """Count cells by what has become of them; the parts add up to the whole."""
    left = len(survey.todo) + len(survey.not_now) - len(survey.failed)
    parts = {
        "done": len(survey.done),
        "failed": len(survey.failed),
        "in hand": len(survey.running),
        "skipped": sum(survey.skipped.values()),
        "left": left,
    }
    words = [f"{many} {name}" for name, many in parts.items() if many or name in ("done", "left")]
    text = f"{len(survey.plan.cells)}: {', '.join(words)}"
    if survey.excluded:
        text += f"; {count(sum(survey.excluded.values()), 'combination')} excluded"
    if survey.not_now:
        text += f"; {len(survey.todo)} of them to compute now, as selected"
    return text


def _where(beat: InHand) -> str:
    since = duration(max(time.time() - beat.started, 0))
    place = whereabouts(beat.round, beat.rounds, beat.stage, beat.done, beat.total)
    return f"{place}; for {since}, process {beat.pid} on {beat.host}"


def _trainings(survey: Survey) -> str:
    found = survey.trainings
    return (
        f"{count(found.distinct, 'client training')} from the common start, {found.shared} of them "
        f"shared by several cells (asked for {found.uses} times); {found.trained} done by finished "
        f"cells, {found.to_do} to do"
    )


def _time(survey: Survey, workers: int) -> str:
    estimate = survey.estimate
    cells = len(estimate.seconds)
    if (seconds := estimate.wall(workers)) is None:
        return f"unknown: no record can be compared with the {count(cells, 'cell')} to compute"
    known = f" for {cells - estimate.unknown} of {cells} cells" if estimate.unknown else ""
    rest = f"; {estimate.unknown} unknown" if estimate.unknown else ""
    suites = f" of {', '.join(estimate.suites)}" if estimate.suites else ""
    return (
        f"about {duration(seconds)} with {count(workers, 'worker')}{known}"
        f"{roughly(estimate, workers)} (from {count(estimate.records, 'record')}{suites}{rest})"
    )


def roughly(estimate: Estimate, workers: int) -> str:
    """Return how rough an estimate is and of what it was scaled, or nothing of one that is not."""
    span = estimate.span(workers)
    if not estimate.rough or span is None:
        return ""
    least, most = map(duration, span)
    by = [
        f"{words} ({count(cells, 'cell')})"
        for words, cells in Counter(estimate.scaled.values()).most_common()
    ]
    return f", roughly: {least} to {most}, scaled from {', '.join(by)}"


def _disk(survey: Survey) -> str:
    estimate = survey.estimate
    known = len(estimate.seconds) - estimate.sizes_unknown
    if not known:
        return f"unknown; {size(survey.free)} free"
    some = f" for {known} of {len(estimate.seconds)} cells" if estimate.sizes_unknown else ""
    short = "; THAT IS MORE THAN THERE IS" if estimate.size > survey.free else ""
    return f"about {size(estimate.size)}{some}; {size(survey.free)} free{short}"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={value}"
