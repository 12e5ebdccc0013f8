"""All files of the papers' tables: a page, Markdown, LaTeX and CSV for each source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedbench.errors import SettingsError, did_you_mean
from fedbench.files import write_atomic
from fedbench.report.paper import page, texts
from fedbench.report.paper.pool import Group, boards, read_pool
from fedbench.report.paper.sheet import Document, fill
from fedbench.report.paper.spec import Source, read_sources
from fedbench.report.published import read_numbers

#: Their folder below the boards.
FOLDER = "tables"


@dataclass(frozen=True)
class Made:
    """What was written.

    Attributes:
        documents: The sources' tables.
        folder: Where the files are.
        records: How many records lie behind them.
    """

    documents: list[Document]
    folder: Path
    records: int


def choose(sources: list[Source], name: str | None) -> list[Source]:
    """Return the source of a name, or all.

    Raises:
        SettingsError: There is none of that name.
    """
    if name is None:
        return sources
    known = {source.name: source for source in sources}
    if name not in known:
        raise SettingsError(
            f"there is no source {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}"
        )
    return [known[name]]


def documents_of(sources: Iterable[Source], groups: list[Group]) -> list[Document]:
    """Fill the tables of sources.

    Raises:
        SettingsError: A query finds nothing, or too much.
    """
    numbers = read_numbers()
    return [fill(source, numbers, groups) for source in sources]


def build(
    leaderboards: Path, out: Path, *, only: str | None = None, more: Iterable[Path] = ()
) -> Made:
    """Write the tables of all sources, or of one.

    Args:
        leaderboards: The folder of published boards.
        out: Where the files go; the links to records expect it below ``leaderboards``.
        only: The name of one source.
        more: Further folders with ``records/``, such as ``runs/dense``.

    Raises:
        SettingsError: There is no such source, or a specification is wrong.
        StoreError: A specification or a file of numbers cannot be read.
    """
    sources = read_sources()
    groups = read_pool([*boards(leaderboards), *more])
    made = documents_of(choose(sources, only), groups)
    for document in made:
        name = document.source.name
        write_atomic(out / f"{name}.html", page.page(document))
        write_atomic(out / f"{name}.md", texts.to_markdown(document))
        write_atomic(out / f"{name}.tex", texts.to_latex(document))
        write_atomic(out / f"{name}.csv", texts.to_cells_csv(document))
    if only is None:
        write_atomic(out / "index.html", page.index(made))
    return Made(made, out, sum(len(group.records) for group in groups))
