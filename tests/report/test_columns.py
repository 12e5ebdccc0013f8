"""Every column of every file is defined in the docs, and no column is defined that is not there."""

import re
from pathlib import Path

import pytest

from fedbench.report import comparisons, paired, runs, tables

TEXT = (Path(__file__).parents[2] / "docs" / "columns.md").read_text()
FILES = {
    "table.csv": tables.COLUMNS,
    "runs.csv": runs.RUN_COLUMNS,
    "times.csv": runs.TIME_COLUMNS,
    "published.csv": comparisons.COLUMNS,
    "paired.csv": paired.COLUMNS,
}


def defined(name):
    """Return the columns that the table under a file's heading defines."""
    section = TEXT.split(f"## `{name}`\n")[1].split("\n## ")[0]
    found = []
    for line in section.splitlines():
        if line.startswith("| `"):
            first, meaning = (cell.strip() for cell in line.strip("|").split(" | ", 1))
            assert len(meaning) > 3, line
            found += re.findall(r"`(\w+)`", first)
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_docs_define_exactly_the_columns_of_each_file(name):
    own = defined(name)
    assert len(set(own)) == len(own)
    shared = defined("table.csv") if name != "table.csv" else []
    assert set(own) <= set(FILES[name])
    missing = [column for column in FILES[name] if column not in {*own, *shared}]
    assert not missing
