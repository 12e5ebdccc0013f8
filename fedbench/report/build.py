"""All files of a report, from a suite's plan and records alone.

Built twice without new records, not a byte changes.
"""

from __future__ import annotations

from pathlib import Path

from fedbench.files import write_atomic
from fedbench.report import tables
from fedbench.report.board import Board, read_board


def build(folder: Path, out: Path) -> Board:
    """Write a suite's report.

    Args:
        folder: With ``plan.json`` and ``records/``.
        out: Where tables, figures and the page go.

    Returns:
        What they were made of.

    Raises:
        StoreError: There is no plan, or the report cannot be written.
    """
    board = read_board(folder)
    write_atomic(out / "table.csv", tables.to_csv(board.rows))
    write_atomic(out / "table.md", tables.to_markdown(board.rows))
    return board
