"""Blocks of documents that are generated: where they stand, and the README's table."""

from __future__ import annotations

from fedbench.bench.suites.selection import parse_only
from fedbench.errors import StoreError
from fedbench.report.board import Board
from fedbench.report.columns import size
from fedbench.report.markdown import escape_markdown, table
from fedbench.report.pivot import pivot
from fedbench.report.tables import CONTROL

BEGIN, END = "<!-- generated: {} -->", "<!-- end of generated: {} -->"


def readme_table(board: Board, only: str) -> str:
    """Return the README's table of a board: methods by β, and what they send.

    Args:
        board: The whole one.
        only: What cells must have, such as ``clients=5``, several with spaces between.
    """
    board = board.only(parse_only(only.split()))
    found = pivot(board, "beta")
    sent: dict[str, set[str]] = {}
    for row in board.views:
        ids = str(row.values["record_ids"]).split()
        sent.update({name: {size(row.values["bytes_total"])} for name in ids})
    head = [f"β={value}" for value in found.values]
    body = []
    for line in found.lines:
        known = [cell for cell in line.cells if cell is not None]
        bytes_each = dict.fromkeys(text for cell in known for text in sorted(sent[cell.records[0]]))
        label = f"{line.label} {CONTROL}" if line.control else line.label
        cells = [label, *map(found.text, line.cells), ", ".join(bytes_each)]
        body.append([escape_markdown(cell) for cell in cells])
    shape = "l" + "r" * (len(head) + 1)
    return "\n".join(table(shape, ["method", *head, "bytes, all clients"], body))


def with_block(document: str, name: str, block: str) -> str:
    """Return a document with its generated block of a name replaced.

    Raises:
        StoreError: The document has no such block.
    """
    begin, end = BEGIN.format(name), END.format(name)
    if begin not in document or end not in document:
        raise StoreError(f"the document has no block between {begin!r} and {end!r}")
    before, rest = document.split(begin, 1)
    return f"{before}{begin}\n\n{block}\n\n{end}{rest.split(end, 1)[1]}"
