"""All files of a report, from a suite's plan and records alone.

Built twice without new records, not a byte changes; ``times.csv``, the figures of seconds and the
page's block of times apart, none depends on how fast the machine was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedbench.files import write_atomic
from fedbench.report import figures, latex, page, paired, pivot, runs, tables, verdict
from fedbench.report.board import Board, read_board
from fedbench.report.comparisons import Comparison, comparisons, to_published_csv
from fedbench.report.csvs import to_csv
from fedbench.report.figures import Figure
from fedbench.report.pivot import Pivot

#: Where a report in ``runs/SUITE/report`` finds the records.
BESIDE = "../records/"
#: Where a published board finds its own.
WITHIN = "records/"


@dataclass(frozen=True)
class Report:
    """What a report's files were made of.

    Attributes:
        board: Plan, records and rows.
        figures: As drawn.
        comparisons: Published numbers beside ours.
    """

    board: Board
    figures: list[Figure]
    comparisons: list[Comparison]


def build(
    folder: Path,
    out: Path,
    *,
    records: str = BESIDE,
    pdf: bool = False,
    against: str | None = None,
    pivots: Sequence[Pivot] = (),
    board: Board | None = None,
) -> Report:
    """Write a suite's report: tables, figures, and the page.

    Args:
        folder: With ``plan.json`` and ``records/``.
        out: Where the files go. Figures of an earlier report that are no longer drawn are deleted.
        records: Link from the page to the record files, with a slash at its end.
        pdf: Write each figure as PDF as well.
        against: The row (a label, or a method's name) whose paired differences to all others stand
            in ``table.md``, ``table.tex`` and ``paired.csv``.
        pivots: Tables of methods by the values of a setting, for the page and for
            ``pivot-AXIS.md``, ``.tex`` and ``.csv``.
        board: What is shown, where that is not all of the folder's plan, or has been read.

    Returns:
        What they were made of.

    Raises:
        StoreError: There is no plan, or the report cannot be written.
        SettingsError: No row is named like ``against``, or several of a block are.
    """
    board = board or read_board(folder)
    if against is not None:
        paired.check_reference(board.views, against)
    # A published board stands where its records do, and is named by its folder.
    path = "/".join(filter(None, (out.parent.name, out.name)))
    named = path if records == WITHIN else board.plan.suite
    drawn = figures.draw(board)
    beside = comparisons(board)
    files: dict[str, str | bytes] = {
        **texts(board, beside, against=against, records=records),
        **{f"figures/{figure.name}.svg": figure.svg for figure in drawn},
        "index.html": page.page(board, drawn, beside, pivots, records=records, named=named),
    }
    files |= pivot.files(pivots, board.plan.suite)
    if pdf:
        files |= {f"figures/{figure.name}.pdf": figure.to_pdf() for figure in drawn}
    for name, content in files.items():
        write_atomic(out / name, content)
    _drop_stale(out, files)
    return Report(board, drawn, beside)


def texts(
    board: Board,
    beside: Iterable[Comparison],
    *,
    against: str | None = None,
    records: str = BESIDE,
) -> dict[str, str]:
    """Return a report's tables, by the names of their files; see ``build``."""
    made = {
        "table.csv": tables.to_csv(board.views),
        "runs.csv": to_csv(runs.RUN_COLUMNS, board.runs),
        "times.csv": runs.times_csv(board.views),
        "published.csv": to_published_csv(beside),
        "table.md": _markdown(board, against, records),
        "table.tex": latex.to_latex(board.views, board.plan.suite, against),
    }
    if against is not None:
        made["paired.csv"] = paired.to_paired_csv(board.views, against)
    return made


def _markdown(board: Board, against: str | None, records: str) -> str:
    """Return ``table.md``: the tables, and at their end what they say."""
    said = verdict.to_markdown(verdict.verdict(board))
    table = tables.to_markdown(board.views, against, records)
    return f"{table}\n{said}" if said else table


def _drop_stale(out: Path, written: Iterable[str]) -> None:
    """Delete what an earlier report wrote and this one did not."""
    kept = {out / name for name in written}
    patterns = ("paired.csv", "pivot-*.*", "figures/*.svg", "figures/*.pdf")
    for path in (path for pattern in patterns for path in out.glob(pattern)):
        if path not in kept:
            path.unlink(missing_ok=True)
