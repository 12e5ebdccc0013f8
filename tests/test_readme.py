"""What the README and the pages tell people to type is there, and its method runs."""

import json
import re
from pathlib import Path

import pytest
from plugin_tables import forget_plugins
from typer.main import get_command
from typer.testing import CliRunner

from fedbench.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
CHEAP = "--clients 2 --train-size 60 --test-size 40 --epochs 1 --threads 1 --device cpu --width 2"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_commands_that_are_named_are_there(path):
    text = path.read_text()
    commands = set(get_command(app).commands)
    named = set(re.findall(r"^(?: {4}|\| `|`)fedbench ([a-z-]+)", text, re.MULTILINE))
    assert named - commands == set()
    made = set(re.findall(r"^ {4}(?:\w+=\S+ )*make ([a-z0-9-]+)", text, re.MULTILINE))
    assert made - TARGETS == set()


def test_the_readme_begins_with_the_two_commands():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert [line.split("#")[0].strip() for line in lines[2:4]] == ["make bench", "make test"]


def test_the_method_of_the_readme_runs_as_it_stands(home, monkeypatch):
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(# my_method.py\n.*?)```", text, re.DOTALL)
    (home / "my_method.py").write_text(code)
    (line,) = re.findall(r"^ {4}fedbench (run --plugin my_method.py .*)$", text, re.MULTILINE)
    monkeypatch.chdir(home)
    words = [*line.split(), *CHEAP.split(), "--offline", "--json"]
    result = CliRunner().invoke(app, words)
    forget_plugins()
    assert result.exit_code == 0, result.output
    record = json.loads(result.output[result.output.index("{") :])
    assert record["status"] == "ok", record["traceback"]
