"""`fedbench new-method`: what it writes runs as it stands, and nothing is overwritten."""

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_tables import forget_plugins
from typer.testing import CliRunner

from fedbench.bench.checking import check
from fedbench.cli.main import app
from fedbench.errors import SettingsError
from fedbench.plugins import load_plugin
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


def test_its_properties_hold_and_its_suite_is_good(call, tmp_path, cache):
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
    spec.loader.exec_module(module)
    kind = module.TestFedMean
    assert (kind.method, kind.plugin) == ("fed_mean", "fed_mean.py")
    runs = runs_of(kind, tmp_path / "runs of it", cache)
    tests = [each for name, each in inspect.getmembers(kind) if name.startswith("test_")]
    assert len(tests) == 7
    for test in tests:
        test(kind(), runs)


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
