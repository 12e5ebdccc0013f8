"""Write anew what is generated: index, papers' tables, documents, pages of methods, notebook.

Run it from the checkout after boards have changed; tests say when that is needed.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import claims
import evidence
import method_pages
from blocks import readme_table, with_block

if TYPE_CHECKING:
    from fedbench.report.board import Board

ROOT = Path(__file__).parents[1]
BOARDS = ROOT / "leaderboards"
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "boards.ipynb"
#: Variables that would make another home or terminal show in what is written.
_OWN = ("FEDBENCH_HOME", "COLUMNS")


def documents(known: dict[str, Board] | None = None) -> dict[Path, str]:
    """Return every document with generated blocks, and every diagram, as they should be.

    Args:
        known: The published boards; read where None.
    """
    from fedbench.report import overview

    known = known or overview.read_boards(BOARDS)
    return {DOCS / "findings.md": findings(known), DOCS / "layout.md": layout(), **pages(known)}


def findings(known: dict[str, Board]) -> str:
    """Return the page of findings."""
    from fedbench.report import overview
    from fedbench.report.paper.pool import boards, read_pool

    text = (DOCS / "findings.md").read_text(encoding="utf-8")
    groups = read_pool(boards(BOARDS))
    for name, compared in claims.read_findings(DOCS / "findings.yaml").blocks.items():
        block = evidence.block(compared, groups, "../leaderboards/")
        text = with_block(text, name, block)
    return with_block(text, "fronts", overview.fronts(known, "../leaderboards/"))


#: The parts of the package from the top floor down.
FLOORS = (
    *("cli", "api", "session", "testing", "report", "bench", "methods", "synthesis"),
    *("federation", "training", "evaluation", "models", "data"),
)


def layout() -> str:
    """Return the page that says where things are, from the first words of the packages."""
    lines = ["| folder | what is in it |", "| --- | --- |"]
    for floor in FLOORS:
        rooms = sorted((ROOT / "fedbench" / floor).rglob("__init__.py"), key=lambda p: p.parts[:-1])
        for room in rooms:
            said = ast.get_docstring(ast.parse(room.read_text(encoding="utf-8"))) or ""
            place = room.parent.relative_to(ROOT / "fedbench").as_posix()
            first = said.splitlines()[0].replace("``", "`")
            lines.append(f"| `{place}/` | {first} |")
    text = (DOCS / "layout.md").read_text(encoding="utf-8")
    return with_block(text, "layout", "\n".join(lines))


def pages(known: dict[str, Board]) -> dict[Path, str]:
    """Return the README, the page of methods, and each method's own page and diagram."""
    from fedbench.bench.facts import facts
    from fedbench.methods import METHODS

    every = [facts(name) for name in METHODS.names()]
    blocks = {
        ROOT / "README.md": {
            "digits": readme_table(known["digits"], "clients=5 ipc=10"),
            "methods": method_pages.table_of(every, "docs/methods/", known.values()),
        },
        DOCS / "methods.md": {"methods": method_pages.table_of(every, "methods/", known.values())},
    }
    found = {}
    for each in every:
        blocks[DOCS / "methods" / f"{each.name}.md"] = {
            "facts": method_pages.facts_block(each),
            "settings": method_pages.settings_block(each),
            "results": method_pages.results_block(each.name, known, "../../leaderboards/"),
        }
        found[DOCS / "methods" / f"{each.name}.svg"] = method_pages.diagram(each)
    for path, of_path in blocks.items():
        text = path.read_text(encoding="utf-8")
        for name, block in of_path.items():
            text = with_block(text, name, block)
        found[path] = text
    return found


def executed(path: Path) -> str:
    """Return a notebook as executing it in its folder leaves it, without times and machine."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
    )
    client.execute()
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return text + "\n"


def main() -> None:
    """Write everything."""
    for name in _OWN:
        os.environ.pop(name, None)
    for command in ("index", "tables"):
        subprocess.run([sys.executable, "-m", "fedbench.cli.main", command], check=True, cwd=ROOT)
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
    NOTEBOOK.write_text(executed(NOTEBOOK), encoding="utf-8")


if __name__ == "__main__":
    main()
