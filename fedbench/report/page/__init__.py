"""The leaderboard as one static page: no network, the same bytes for the same records.

``lines`` holds what its table shows, ``about`` what stands around it; ``template.html.j2``,
``style.css`` and ``script.js`` are put together here. Everything goes through Jinja's escaping,
figures apart, which are made to stand in a page.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from fedbench.report import tables, verdict
from fedbench.report.board import Board
from fedbench.report.columns import BALANCED, DOMAINS, tells_balanced
from fedbench.report.comparisons import Comparison
from fedbench.report.figures import Figure
from fedbench.report.html import read, render
from fedbench.report.page import about, lines, terms
from fedbench.report.pivot import Pivot, names, to_html

#: A figure below this width, in points, leaves room for another beside it.
NARROW = 300
#: The outline of a letter as figures define it, and what refers to something in a figure.
_LETTER = re.compile(r'<path (d="[^"]*" transform="scale\(0\.015625\)") id="([^"]*)" ?/>\n?')
_HREF = re.compile(r'(?<=href=)"#([^"]+)"')
#: Files that stand beside the page.
BESIDE = ("table.csv", "runs.csv", "times.csv", "published.csv", "table.md", "table.tex")


def page(
    board: Board,
    figures: Sequence[Figure],
    comparisons: Sequence[Comparison],
    pivots: Sequence[Pivot] = (),
    *,
    records: str,
    named: str,
) -> str:
    """Return ``index.html``.

    Seconds, and figures that show seconds, are in the block ``<script id="times">`` and nowhere
    else; the rest depends on no machine's speed.

    Args:
        board: A suite's plan, records and rows.
        figures: In the order of the page.
        comparisons: Published numbers; those with a row of ours are shown, the others folded.
        pivots: The board by single axes.
        records: Relative link to the folder of record files, with a slash at its end.
        named: What `fedbench report` calls the board.
    """
    script = read(__package__, "script.js")
    letters, drawn = _lettered(figures)
    columns = lines.columns(board.views)
    return render(
        __package__,
        "template.html.j2",
        {"foldable": _foldable, "explained": terms.explained},
        board=board,
        named=named,
        published_board=records == "records/",
        pivots=zip(names(pivots), map(to_html, pivots), strict=True),
        terms=terms.TERMS,
        facts=about.facts(board),
        origin=about.origin(board),
        gaps=about.without_result(board, records),
        excluded=about.excluded(board),
        blocks=lines.blocks_of(board.views, records),
        columns=columns,
        wide=columns[0] in (BALANCED, DOMAINS),
        balanced=tells_balanced(board.views),
        filters=lines.filters(board.views),
        scale=lines.scale(board.views),
        data=lines.data(board),
        times={
            "rows": lines.times(board.views),
            "figures": {figure.name: drawn[figure.name] for figure in figures if figure.timing},
        },
        figures=figures,
        drawn=drawn,
        letters=letters,
        narrowest=NARROW,
        narrow=[figure.name for figure in figures if _narrow(figure)],
        beside=[about.beside(found) for found in comparisons if found.row is not None],
        not_run=[about.beside(found) for found in comparisons if found.row is None],
        note=tables.note(board.views),
        says=(verdict.HEADING, verdict.verdict(board)),
        files=BESIDE,
        script=Markup(script),
        policy=_policy(script),
    )


def _policy(script: str) -> str:
    """Return a content security policy: this one script, styles of the page, nothing from outside.

    Should a name ever come through unescaped, the browser still does not run it.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _lettered(figures: Sequence[Figure]) -> tuple[str, dict[str, str]]:
    """Take the outlines of letters out of figures, so that a page has each of them once.

    A figure that shows seconds keeps those that no other has: which ones depends on the seconds.

    Returns:
        An SVG that shows nothing and defines them; each figure's SVG by its name.
    """
    known: dict[str, str] = {}
    drawn = {}
    for figure in sorted(figures, key=lambda figure: figure.timing):
        own: dict[str, str] = {}

        def take(
            found: re.Match[str], own: dict[str, str] = own, keeps: bool = figure.timing
        ) -> str:
            if keeps and found[1] not in known:
                return found[0]
            own[found[2]] = known.setdefault(found[1], f"l{len(known)}")
            return ""

        def name(found: re.Match[str], own: dict[str, str] = own) -> str:
            return f'"#{own.get(found[1], found[1])}"'

        svg = _LETTER.sub(take, figure.svg)
        drawn[figure.name] = _HREF.sub(name, svg)
    paths = "".join(f'<path id="{name}" {outline}/>' for outline, name in known.items())
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="0" height="0" aria-hidden="true"'
    return f'{svg} style="position:absolute"><defs>{paths}</defs></svg>', drawn


def _foldable(text: str) -> Markup:
    """Return escaped text whose long names may break after an underscore or a slash."""
    return Markup(re.sub("([_/])", r"\1<wbr>", str(escape(text))))


def _narrow(figure: Figure) -> bool:
    """Tell whether a figure leaves room; the width of one that shows seconds depends on them."""
    return not figure.timing and _width(figure.svg) < NARROW


def _width(svg: str) -> float:
    found = re.match(r'<svg[^>]*? width="([0-9.]+)', svg)
    return float(found[1]) if found else math.inf
