r"""A source's tables as Markdown, as CSV (a line a cell), and as LaTeX to be read by ``\input``."""

from __future__ import annotations

from collections.abc import Iterator

from fedbench.report.csvs import to_csv
from fedbench.report.frame import Value
from fedbench.report.latex import booktabs, escape
from fedbench.report.markdown import escape_markdown, table
from fedbench.report.paper import words
from fedbench.report.paper.sheet import Document, Filled, Sheet

COLUMNS = (
    "table",
    "row",
    "column",
    "metric",
    "published",
    "published_std",
    "published_n",
    "selection",
    "source",
    "published_elsewhere",
    "ours_mean",
    "ours_std",
    "n",
    "profile",
    "board",
    "record_ids",
    "deviations",
    "why_empty",
)
_LATEX_HEAD = r"""% Made by fedbench from records. In the preamble: \usepackage{booktabs,graphicx}
% Cells: published / ours (n seeds), with the letter of the deviations below the table.
"""


def to_markdown(document: Document) -> str:
    """Return all tables of a source as Markdown."""
    source = document.source
    parts = [f"# {source.title}\n\n{source.cite}. {source.about}\n\n{words.LEGEND}\n"]
    for sheet in document.sheets:
        parts.append("\n".join(_markdown(sheet)))
    return "\n".join(parts)


def _markdown(sheet: Sheet) -> Iterator[str]:
    own = sheet.table
    yield f"## {escape_markdown(own.title)}\n"
    note = f" {escape_markdown(own.note)}" if own.note else ""
    yield f"{escape_markdown(own.place)}; {words.UNITS[own.metric]}.{note}\n"
    heads = [words.column(filled) for filled in sheet.lines[0]]
    body = []
    for line in sheet.lines:
        cells = [f"{words.published(each)} / {words.ours(each)}" for each in line]
        marks = [f" <sup>{each.mark}</sup>" if each.mark else "" for each in line]
        texts = [escape_markdown(cell) + mark for cell, mark in zip(cells, marks, strict=True)]
        body.append([escape_markdown(line[0].cell.row), *texts])
    yield from table("l" + "r" * len(heads), ["", *map(escape_markdown, heads)], body)
    yield ""
    for mark, text in words.below(sheet):
        yield f"- {f'<sup>{mark}</sup> ' if mark else ''}{escape_markdown(text)}"
    traced = [filled for filled in sheet.cells if filled.ours]
    if traced:
        yield "\n<details><summary>Records</summary>\n"
        head = ["row", "column", "ours", "board, profile", "records"]
        yield from table("lllll", head, map(_trace, traced))
        yield "\n</details>"
    yield ""


def _trace(filled: Filled) -> list[str]:
    group = filled.group
    assert group is not None  # asked for of cells with a result only
    links = " ".join(f"[{one}](../{group.board}/records/{one}.json)" for one in group.ids)
    return [
        escape_markdown(filled.cell.row),
        escape_markdown(words.column(filled)),
        words.ours(filled),
        f"[{escape_markdown(group.board)}](../{group.board}/table.md), {group.profile}",
        links,
    ]


def to_cells_csv(document: Document) -> str:
    """Return all cells of a source as CSV, a line a cell; numbers are shares, not per cent."""
    return to_csv(COLUMNS, (_row(filled) for sheet in document.sheets for filled in sheet.cells))


def _row(filled: Filled) -> dict[str, Value]:
    first = filled.numbers[0] if filled.numbers else None
    group, result = filled.group, filled.ours
    return {
        "table": filled.cell.table,
        "row": filled.cell.row,
        "column": words.column(filled),
        "metric": filled.cell.metric,
        "published": first.accuracy if first else None,
        "published_std": first.std if first else None,
        "published_n": first.n if first else None,
        "selection": first.selection if first else None,
        "source": first.source if first else None,
        "published_elsewhere": "; ".join(map(words.of_other, (*filled.numbers[1:], *filled.others)))
        or None,
        "ours_mean": round(result.mean, 6) if result else None,
        "ours_std": round(result.std, 6) if result and result.std is not None else None,
        "n": result.n if result else None,
        "profile": group.profile if group else None,
        "board": group.board if group else None,
        "record_ids": " ".join(group.ids) if group else None,
        "deviations": "; ".join(map(str, filled.deviations)) if filled.choice else None,
        "why_empty": None if result else filled.cell.absent or "not run",
    }


def to_latex(document: Document) -> str:
    """Return all tables of a source as LaTeX, one ``table*`` each, records as comments."""
    parts = [_LATEX_HEAD]
    for place, sheet in enumerate(document.sheets):
        if place and place % 15 == 0:  # LaTeX holds back some 50 floats at most
            parts.append("\\clearpage\n")
        parts.append(_latex(document, sheet))
    return "\n".join(parts)


def _latex(document: Document, sheet: Sheet) -> str:
    own, source = sheet.table, document.source
    caption = f"{source.cite}: {own.title} ({own.place}; {words.UNITS[own.metric]})."
    note = f" {own.note}" if own.note else ""
    body, below = [], []
    for line in sheet.lines:
        cells = [f"{escape(words.published(e))} / {escape(words.ours(e))}" for e in line]
        marks = [f"$^{{{each.mark}}}$" if each.mark else "" for each in line]
        texts = [cell + mark for cell, mark in zip(cells, marks, strict=True)]
        body.append(" & ".join(["{}" + escape(line[0].cell.row), *texts]) + r" \\")
        for filled in line:
            if filled.group:
                ids = " ".join(filled.group.ids)
                body.append(f"% {_comment(words.column(filled))}: {filled.group.board} {ids}")
    for mark, text in words.below(sheet):
        letter = f"$^{{{mark}}}$ " if mark else ""
        below.append(rf"\par\raggedright\footnotesize {letter}{escape(text)}")
    return booktabs(
        escape(caption + note),
        "l" + "r" * len(sheet.lines[0]),
        _latex_heads(sheet),
        [body],
        label=f"tab:{source.name.replace('_', '-')}-{sheet.table.name.replace('_', '-')}",
        kind="table*",
        below=below,
    )


def _latex_heads(sheet: Sheet) -> Iterator[str]:
    heads = sheet.table.heads()
    repeats, total = 1, len(sheet.lines[0])
    for labels in heads:
        span = total // (repeats * len(labels))
        cells = labels * repeats
        repeats *= len(labels)
        texts = [
            rf"\multicolumn{{{span}}}{{c}}{{{escape(cell)}}}" if span > 1 else escape(cell)
            for cell in cells
        ]
        yield " & ".join(["", *texts]) + r" \\"


def _comment(text: str) -> str:
    return " ".join(text.split())
