r"""The leaderboard for papers: one booktabs table a block, to be read by ``\input``.

The same lines and marks as ``tables``. Names may come from plugins, so every character is escaped,
and what pdfLaTeX could not set is written by its code point.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fedbench.report.columns import BALANCED, SEEDS, Column
from fedbench.report.frame import Row
from fedbench.report.tables import (
    OVERRIDDEN,
    Line,
    accuracy_of,
    figures,
    overridden,
    shown,
    unsaid,
    written_gap,
)

HEAD = r"""% Made by fedbench from records. In the preamble: \usepackage{booktabs,graphicx}
% Bold: the best contender. Underlined: the second. $\approx$: within a pooled std of the best.
% Worst: worst client. Up, Down: bytes a client sends and receives. R: rounds.
"""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "–": "--",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "ε": r"$\epsilon$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "σ": r"$\sigma$",
    "τ": r"$\tau$",
}
#: Of these pdfLaTeX knows no glyph without further packages.
_UNSET = "¢¤¥¦¨«¬\u00ad¯°²³´µ¸¹»¼½¾÷ÐÞðþ"
#: Shrinks a table that is wider than a line, and leaves others alone.
_AT_MOST_A_LINE = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
#: LaTeX holds back some 50 tables that have found no page, and gives up at the next.
_TABLES_AT_ONCE = 15


def to_latex(rows: Sequence[Row], suite: str, against: str | None = None) -> str:
    """Return ``table.tex``.

    Args:
        rows: Of a suite, in order.
        suite: Its name, for captions and labels.
        against: The row that all are compared with over shared seeds; None leaves that column out.

    Raises:
        SettingsError: ``against`` means several rows of a block.
    """
    columns = [column for column in figures(rows) if not column.timing and column is not SEEDS]
    parts = [HEAD]
    for place, block in enumerate(shown(rows, against)):
        if place and place % _TABLES_AT_ONCE == 0:
            parts.append("\\clearpage\n")
        parts.append(_block(*block, columns, suite, place + 1, against))
    return "\n".join(parts)


def _block(
    name: str,
    lines: Sequence[Line],
    columns: Sequence[Column],
    suite: str,
    number: int,
    against: str | None,
) -> str:
    headings = ["Method", r"Accuracy (\%)", *([r"$\Delta$ (n)"] if against else [])]
    headings += [escape(column.short) for column in columns]
    contenders = [_line(line, columns, against) for line in lines if not line.row.control]
    controls = [_line(line, columns, against) for line in lines if line.row.control]
    caption = f"Suite {escape(suite)}: {escape(name)}. Mean $\\pm$ standard deviation (n seeds)."
    if against:
        caption += rf" $\Delta$: paired difference to {escape(against)} over n shared seeds."
    if BALANCED in columns:
        caption += " Bal.: balanced accuracy, the mean recall over classes."
    if controls:
        caption += r" $^\dagger$: control row."
    if stars := overridden(line.row for line in lines):
        words = "; ".join(f"{escape(name)}: {escape(found)}" for name, found in stars)
        caption += f" {escape(OVERRIDDEN)} {words}."
    caption += "".join(f" {escape(words)}" for words in unsaid(line.row for line in lines))
    if any(line.row.lacks_seeds for line in lines):
        caption += r" $^\ddagger$: lacks seeds that most rows have, so not ranked."
    return booktabs(
        caption,
        "l" + "r" * (len(headings) - 1),
        [" & ".join(headings) + r" \\"],
        [contenders, controls],
        label=f"tab:{_slug(suite)}-{number}",
    )


def booktabs(
    caption: str,
    shape: str,
    heads: Iterable[str],
    groups: Iterable[Sequence[str]],
    *,
    label: str = "",
    kind: str = "table",
    below: Iterable[str] = (),
) -> str:
    """Return a table that is at most as wide as a line.

    Args:
        caption: Set as it is, as all that follows.
        shape: A letter a column.
        heads: Lines of the head.
        groups: Lines of the body; rules stand between the groups that are not empty.
        label: To refer to; none where it is empty.
        kind: The floating environment.
        below: What follows the table inside it.
    """
    parts = [[r"\toprule", *heads]]
    parts += [[r"\midrule", *lines] for lines in groups if lines]
    return "\n".join(
        [
            rf"\begin{{{kind}}}",
            r"\centering\small\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{caption}}}",
            *([rf"\label{{{label}}}"] if label else []),
            _AT_MOST_A_LINE,
            rf"\begin{{tabular}}{{{shape}}}",
            *(line for part in parts for line in part),
            r"\bottomrule",
            r"\end{tabular}}",
            *below,
            rf"\end{{{kind}}}",
            "",
        ]
    )


def _line(line: Line, columns: Sequence[Column], against: str | None) -> str:
    name = escape(str(line.row.values["label"])) + (r"$^\dagger$" if line.row.control else "")
    score = escape(accuracy_of(line.row))
    if line.mark.place == 1:
        score = rf"\textbf{{{score}}}"
    if line.mark.place == 2:
        score = rf"\underline{{{score}}}"
    near = r"$^{\approx}$" if line.mark.near else ""
    lacking = r"$^\ddagger$" if line.row.lacks_seeds else ""
    # The rule or line end above would take a `[` or `*` that a name begins with for its own.
    cells = ["{}" + name, f"{score} ({line.row.values['n']}{lacking}){near}"]
    if against:
        cells.append(_signed(written_gap(line.gap)))
    cells += [escape(column.text(line.row.values)) for column in columns]
    return " & ".join(cells) + r" \\"


def _signed(text: str) -> str:
    """Set a leading sign as mathematics does: a minus, not a hyphen."""
    return f"${text[0]}${escape(text[1:])}" if text[0] in "+-" else escape(text)


def escape(text: str) -> str:
    """Return text that LaTeX sets as it reads; what it has no glyph for becomes ``[U+4E2D]``."""
    found, *parts = (_hyphened(part) for part in " ".join(text.split()).split("–"))
    for part in parts:  # no third hyphen makes it a longer dash
        before, after = ("{}" if beside == "-" else "" for beside in (found[-1:], part[:1]))
        found = f"{found}{before}--{after}{part}"
    return found


def _hyphened(text: str) -> str:
    return re.sub("-(?=-)", "-{}", "".join(map(_escaped, text)))


def _escaped(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    known = " " <= character <= "~" or ("¡" <= character <= "ÿ" and character not in _UNSET)
    return character if known else f"[U+{ord(character):04X}]"


def _slug(text: str) -> str:
    return "".join(
        character if character.isascii() and character.isalnum() else "-" for character in text
    )
