"""A source's tables as one static page: no network, no script, everything escaped."""

from __future__ import annotations

from importlib import resources

import jinja2
from markupsafe import Markup

from fedbench.report.paper import words
from fedbench.report.paper.sheet import Document


def page(document: Document) -> str:
    """Return a source's page, which links records by ``../BOARD/records/ID.json``."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_read("template.html.j2")).render(
        source=document.source,
        sheets=document.sheets,
        words=words,
        style=Markup(_read("style.css")),
    )


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def index(documents: list[Document]) -> str:
    """Return the page that leads to all sources."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    lines = [_summary(document) for document in documents]
    template = environment.from_string(_read("index.html.j2"))
    return template.render(lines=lines, style=Markup(_read("style.css")))


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
