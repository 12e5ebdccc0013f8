"""A source's tables as one static page: no network, no script, everything escaped."""

from __future__ import annotations

from fedbench.report.html import render
from fedbench.report.paper import words
from fedbench.report.paper.sheet import Document


def page(document: Document) -> str:
    """Return a source's page, which links records by ``../BOARD/records/ID.json``."""
    return render(
        __package__,
        "template.html.j2",
        source=document.source,
        sheets=document.sheets,
        words=words,
    )


def index(documents: list[Document]) -> str:
    """Return the page that leads to all sources."""
    return render(__package__, "index.html.j2", lines=[_summary(each) for each in documents])


def _summary(document: Document) -> dict[str, str | int]:
    cells = [each for sheet in document.sheets for each in sheet.cells]
    return {
        "name": document.source.name,
        "title": document.source.title,
        "cite": document.source.cite,
        "tables": len(document.sheets),
        "published": sum(len(each.numbers) for each in cells),
        "both": sum(bool(each.numbers and each.ours) for each in cells),
    }
