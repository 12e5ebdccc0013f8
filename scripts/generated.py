"""Write anew what is generated from committed records: index, papers' tables, documents, notebook.

Run it from the checkout after boards have changed; tests say when that is needed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedbench.report.board import Board

ROOT = Path(__file__).parents[1]
BOARDS = ROOT / "leaderboards"
NOTEBOOK = ROOT / "docs" / "boards.ipynb"
#: Variables that would make another home or terminal show in what is written.
_OWN = ("FEDBENCH_HOME", "COLUMNS")


def documents(known: dict[str, Board] | None = None) -> dict[Path, str]:
    """Return README and findings with their generated blocks as they should be.

    Args:
        known: The published boards; read where None.
    """
    from fedbench.report import overview
    from fedbench.report.paper import evidence
    from fedbench.report.paper.pool import boards, read_pool

    known = known or overview.read_boards(BOARDS)
    readme, findings = ROOT / "README.md", ROOT / "docs" / "findings.md"
    text = findings.read_text(encoding="utf-8")
    groups = read_pool(boards(BOARDS))
    for name, compared in evidence.read_findings(ROOT / "docs" / "findings.yaml").blocks.items():
        block = evidence.block(compared, groups, "../leaderboards/")
        text = overview.with_block(text, name, block)
    text = overview.with_block(text, "fronts", overview.fronts(known, "../leaderboards/"))
    table = overview.readme_table(known["digits"])
    return {
        findings: text,
        readme: overview.with_block(readme.read_text(encoding="utf-8"), "digits", table),
    }


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
