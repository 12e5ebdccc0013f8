"""Markdown: text that shows as it is, and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, in a table's cell too."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    # Between word characters an underscore means nothing, and names read better without slashes.
    return re.sub(r"([\\`*|\[\]~]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def table(shape: str, head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table.

    Args:
        shape: A letter a column, as in LaTeX: ``l`` or ``r``.
        head: What stands above the columns, escaped already, as all that follows.
        lines: Cells.
    """
    rule = ["---:" if letter == "r" else "---" for letter in shape]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *lines)]
