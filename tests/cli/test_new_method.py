"""`fedbench new-method`: what it writes runs as it stands, and nothing is overwritten."""

import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_tables import forget_plugins
from typer.testing import CliRunner

from fedbench.bench.suites.checking import check
from fedbench.bench.suites.order import read_order
from fedbench.bench.survey import survey
from fedbench.cli.main import app
from fedbench.errors import SettingsError
from fedbench.plugins import load_plugin
from fedbench.report.beside import beside
from fedbench.testing import MethodProperties
from fedbench.testing.methods import runs_of


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    forget_plugins()


@pytest.fixture
def call(home, tmp_path, monkeypatch):
    place = tmp_path / "mine"
    place.mkdir()
    monkeypatch.chdir(place)

    def run(*words):
        result = CliRunner().invoke(app, ["new-method", *words])
        if result.exception:
            raise result.exception
        return result.output

    return run


def test_its_properties_hold_and_its_suite_is_good(call, tmp_path, cache, monkeypatch):
    said = call("fed_mean")
    folder = tmp_path / "mine" / "fed_mean"
    written = {path.name for path in folder.iterdir()}
    assert written == {"fed_mean.py", "test_fed_mean.py", "fed_mean.yaml", "fed_mean.md"}
    assert len((folder / "fed_mean.py").read_text().splitlines()) < 60
    for command in ("pytest fed_mean/test_fed_mean.py", "validate fed_mean/", "sweep fed_mean/"):
        assert command in said
    load_plugin(str(folder / "fed_mean.py"))
    checked = check(folder / "fed_mean.yaml")
    assert checked.problems == []
    assert checked.cells["smoke"] == (2, 0, 0)

    spec = importlib.util.spec_from_file_location("test_fed_mean", folder / "test_fed_mean.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    kind = module.TestFedMean
    assert (kind.method, kind.plugin) == ("fed_mean", "fed_mean.py")
    runs = runs_of(kind, tmp_path / "runs of it", cache)
    tests = [each for name, each in inspect.getmembers(kind) if name.startswith("test_")]
    assert len(tests) == 8
    for test in tests:
        test(kind(), *([runs] if "runs" in inspect.signature(test).parameters else []))


def test_a_renamed_setting_is_missed_where_it_is_named(call, tmp_path):
    call("fed_mean")
    folder = tmp_path / "mine" / "fed_mean"
    file = folder / "fed_mean.py"
    file.write_text(file.read_text().replace("power", "power_of_samples"))
    load_plugin(str(file))

    def said(**names):
        body = {"method": "fed_mean", "_beside": lambda self, name: folder / name, **names}
        with pytest.raises(pytest.fail.Exception) as caught:
            type("TestIt", (MethodProperties,), body)().test_its_suite_and_page_name_its_settings()
        return str(caught.value)

    wrong = "names 'power' (did you mean 'power_of_samples'?), and fed_mean has: validation, power"
    assert f"fed_mean.yaml, axes.method[5], {wrong}" in said(suite="fed_mean.yaml")
    assert f"settings of fed_mean.md {wrong}" in said(page="fed_mean.md")
    page = folder / "fed_mean.md"
    page.write_text(page.read_text().replace("| `power`", "| `validation`"))
    assert "fed_mean.md has none for 'power_of_samples'" in said(page="fed_mean.md")
    (problem,) = {each.message for each in check(folder / "fed_mean.yaml").problems}
    assert "unknown key 'power' (did you mean 'power_of_samples'?)" in problem


def test_its_suite_stands_beside_the_published_board(call, tmp_path):
    said = call("fed_mean")
    file = tmp_path / "mine" / "fed_mean" / "fed_mean.yaml"
    (line,) = (line for line in said.splitlines() if "--beside" in line)
    board = Path(shlex.split(line)[-1])
    assert shlex.split(line)[:-1] == [
        *("fedbench", "sweep", "fed_mean/fed_mean.yaml", "--seeds", "3", "--beside"),
    ]
    load_plugin(str(file.with_suffix(".py")))
    order = read_order(file, tmp_path / "home", profile=None, seeds=3, overrides=(), wishes=())
    met = beside(board, order.plan)
    assert met.apart == 0
    mine = {name for name, each in order.cells.items() if each.cell.method.name != "fed_mean"}
    assert len(mine) == 24
    assert mine == met.same
    looked = survey(tmp_path / "home", order.plan, given=met.records)  # as a dry run does
    assert {*looked.done} == mine
    assert len(looked.todo) == 12


def test_in_a_checkout_it_is_a_built_in_method_and_says_what_else_that_needs(call, tmp_path):
    for place in ("fedbench/methods", "tests/methods"):
        (tmp_path / "mine" / place).mkdir(parents=True)
    said = call("fed_mean")
    for path in (
        "fedbench/methods/fed_mean.py",
        "tests/methods/test_fed_mean.py",
        "benchmarks/fed_mean.yaml",
        "docs/methods/fed_mean.md",
    ):
        assert (tmp_path / "mine" / path).is_file()
    assert "test_golden_records.py --only fed_mean" in said
    assert "--plugin" not in said
    text = (tmp_path / "mine" / "tests/methods/test_fed_mean.py").read_text()
    assert "plugin" not in text
    assert '(MethodProperties):\n    method = "fed_mean"' in text  # what test_properties looks for
    root = Path(__file__).parents[2]
    ours = 'lint.isort.known-first-party = ["fedbench"]'
    options = ["--config", str(root / "pyproject.toml"), "--no-cache", "."]
    for tool in (["check", "--config", ours], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *tool, *options], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_a_folder_may_be_named_and_what_is_there_stays(call, tmp_path):
    call("mine_too", "--into", "some/where")
    assert (tmp_path / "mine/some/where/mine_too.yaml").is_file()
    (tmp_path / "mine/some/where/mine_too.yaml").write_text("mine")
    with pytest.raises(SettingsError, match=r"/some/where/mine_too\.py, .*would be overwritten"):
        call("mine_too", "--into", "some/where")
    assert (tmp_path / "mine/some/where/mine_too.yaml").read_text() == "mine"
    with pytest.raises(SettingsError, match=r"mine_too\.yaml is a file; give a folder"):
        call("mine_too", "--into", "some/where/mine_too.yaml")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Fed-Mean", "small letters, digits and underscores"),
        ("x", "2 to 40"),
        ("x" * 41, "2 to 40"),
        ("lambda", "a word of Python's own; take another, such as my_lambda"),
        ("fedavg", "there is a method 'fedavg' already"),
        ("statistics", "the name of a Python module"),
    ],
)
def test_names_that_cannot_be_are_told_with_the_rule(call, tmp_path, name, words):
    with pytest.raises(SettingsError, match=re.escape(words)):
        call(name)
    assert not list((tmp_path / "mine").iterdir())


def test_a_class_does_not_hide_what_its_file_imports(call, tmp_path):
    call("client")
    load_plugin(str(tmp_path / "mine" / "client" / "client.py"))
    assert "class ClientMethod(Method)" in (tmp_path / "mine/client/client.py").read_text()
