"""``import fedbench``: light, typed, and the same records as the command line."""

import ast
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

import fedbench
from fedbench.bench.records.record import record_path
from fedbench.bench.suites.suite import Suite
from fedbench.config import METHODS
from fedbench.errors import StoreError
from fedbench.settings import validate

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "leaderboards" / "digits"
TINY = {
    "dataset": "digits",
    "beta": 0.5,
    "clients": 2,
    "train_size": 120,
    "test_size": 60,
    "width": 8,
    "epochs": 1,
    "threads": 1,
    "quiet": True,
}


def python(code):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_fedbench_imports_nothing_heavy():
    code = (
        "import sys, fedbench; print(*({'torch', 'pandas', 'pydantic', 'typer'} & {*sys.modules}))"
    )
    assert python(code) == []


def test_reading_a_board_imports_no_torch():
    code = (
        f"import sys, fedbench; fedbench.load({str(DIGITS)!r}).rows; print('torch' in sys.modules)"
    )
    assert python(code) == ["False"]


def test_the_stub_has_the_public_names():
    tree = ast.parse((ROOT / "fedbench" / "__init__.pyi").read_text())
    named = [alias.asname for n in tree.body if isinstance(n, ast.ImportFrom) for alias in n.names]
    assert sorted(named) == sorted({*fedbench.__all__} - {"__version__"})
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            assert fedbench._PLACES[node.names[0].name] == node.module


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        fedbench.lod  # noqa: B018
    assert {"run", "load"} <= {*dir(fedbench)}


def test_a_board_has_records_and_rows():
    board = fedbench.load(DIGITS)
    assert len(board.records) == len(board.good) == sum(board.rows["n"])
    assert not {"record", "flat"} & {*board.records.columns}
    mean = board.records.groupby(["method", "preset", "beta"], dropna=False)["accuracy"].mean()
    assert mean["fedcgs", "fedbench", 0.1] == pytest.approx(0.975)
    assert "digits (published+quick)" in repr(board)


def test_a_board_by_its_name_is_a_published_one(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBENCH_HOME", str(tmp_path))
    assert fedbench.load("digits").folder.resolve() == DIGITS.resolve()
    with pytest.raises(StoreError):
        fedbench.load("nothing")


def test_pivots_and_tables():
    board = fedbench.load(DIGITS).only(clients=5, ipc=10)
    frame = board.pivot("beta")
    assert isinstance(frame, pd.DataFrame)
    assert frame.loc["collabdm (fedbench*)", (0.1, "mean")] == pytest.approx(0.975)
    assert r"\toprule" in board.to_latex()
    assert board.to_markdown().startswith("### digits")


def test_figures_are_svg(tmp_path):
    board = fedbench.load(DIGITS)
    name = next(name for name in board.figures if name.startswith("bytes"))
    drawing = board.figure(name)
    assert drawing._repr_svg_().startswith("<svg")
    assert drawing.save(tmp_path / "x.svg").read_text() == drawing.svg
    with pytest.raises(fedbench.SettingsError, match="did you mean"):
        board.figure(f"{name}x")


def test_a_cell_runs_and_is_found_again(tmp_path):
    record = fedbench.run(method="random_real", ipc=1, **TINY, home=tmp_path)
    assert record.status == "ok"
    again = fedbench.run(method="random_real", ipc=1, **TINY, home=tmp_path)
    assert again.wall_seconds == record.wall_seconds
    same = fedbench.run(fedbench.cell(**record.settings), threads=1, quiet=True, home=tmp_path)
    assert same.cell_id == record.cell_id
    for beside in ({"beta": 0.1}, {"seed": 7}, {"settings": {"nonsense": 3}}):
        with pytest.raises(
            fedbench.SettingsError, match=r"a whole cell, and .* would change nothing"
        ):
            fedbench.run(fedbench.cell(**record.settings), quiet=True, home=tmp_path, **beside)
    assert record_path(tmp_path, "run", record.cell_id).is_file()
    images, targets = fedbench.load_set(record, home=tmp_path)
    assert images.shape == (10, 1, 16, 16)
    assert (images.min() >= 0, images.max() <= 1) == (True, True)
    assert targets.shape == (10,)
    with pytest.raises(fedbench.SettingsError, match="left no set 'synthetc'"):
        fedbench.load_set(record, "synthetc", home=tmp_path)
    assert torch.equal(fedbench.load_set(record.cell_id, home=tmp_path).images, images)


def test_a_cell_is_what_its_settings_are_when_named(tmp_path):
    record = fedbench.run(method="fedavg", ipc=5, rounds=1, home=tmp_path, **TINY)
    budget = {"ipc": 5, "pixels": None, "scope": "total"}
    cell = fedbench.cell(**{**record.settings, "budget": budget})
    assert cell.budget is not None
    again = fedbench.run(cell, threads=1, quiet=True, home=tmp_path)
    assert again.cell_id == record.cell_id
    method = {"name": "random_real"}
    without = fedbench.cell(**{**record.settings, "method": method, "budget": None})
    with pytest.raises(fedbench.SettingsError, match=r"this cell cannot run: .*; set ipc"):
        fedbench.run(without, quiet=True, home=tmp_path)


def test_a_suites_plugins_are_loaded_for_one_cell(tmp_path):
    suite = tmp_path / "own.yaml"
    plugin = ROOT / "examples" / "own_method.py"
    suite.write_text(f"name: own\nplugins: [{plugin}]\nfixed: {{method: median}}\n")
    tiny = {**TINY, "home": str(tmp_path)}
    code = f"import fedbench; r = fedbench.run(suite={str(suite)!r}, **{tiny!r}); print(r.status)"
    assert python(code) == ["ok"]


def test_a_published_record_has_no_set_here(tmp_path):
    path = next(
        path for path in sorted(DIGITS.glob("records/*.json")) if '"local_dm"' in path.read_text()
    )
    with pytest.raises(StoreError, match=f"compute it again: fedbench run --record {path}"):
        fedbench.load_set(path)
    record = next(each for each in fedbench.load(DIGITS).good if each.cell_id == path.stem)
    with pytest.raises(StoreError, match=f"fedbench run --record {path.stem}"):
        fedbench.load_set(record, home=tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "no method is named"),
        ({"method": "fedavgg"}, "did you mean 'fedavg'"),
        ({"method": "fedavg", "settings": {"recipe.lrr": 1}}, "lrr"),
    ],
)
def test_wrong_settings_are_exceptions(tmp_path, words, message):
    with pytest.raises(fedbench.SettingsError, match=message):
        fedbench.run(dataset="digits", home=tmp_path, quiet=True, **words)


def test_a_failed_cell_is_an_exception_with_its_record(tmp_path):
    with pytest.raises(fedbench.CellError) as caught:
        fedbench.run(method="fedavg", **TINY, settings={"recipe.lr": 1e30}, home=tmp_path)
    assert caught.value.record.status == "failed"
    assert caught.value.record.traceback


def test_an_interruption_comes_out_as_one(tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise SystemExit(130)

    monkeypatch.setattr("fedbench.session.progress.one_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fedbench.run(method="fedavg", **TINY, home=tmp_path)


class Mine(fedbench.Method):
    """Sends nothing and answers with an untrained network."""

    name = "mine_of_a_test"

    def client_update(self, client, received, round):
        return None

    def aggregate(self, server, uploads, round):
        list(uploads)

    def models(self, server):
        yield "global", server.build(server.cell.models[0])


@pytest.fixture
def _forget():
    yield
    METHODS._loaded.pop("mine_of_a_test", None)


@pytest.mark.usefixtures("_forget")
def test_a_typed_method_runs_and_may_be_registered_again(tmp_path, monkeypatch):
    assert fedbench.register(Mine) is Mine
    fedbench.register(Mine)
    record = fedbench.run(method="mine_of_a_test", **TINY, home=tmp_path)
    assert record.versions["plugin"]
    suite = tmp_path / "mine.yaml"
    suite.write_text(
        "name: mine\nfixed: {data: {name: digits}, method: {name: mine_of_a_test}}\n"
        "profiles: {quick: {seeds: 1}}\n"
    )
    monkeypatch.chdir(tmp_path)
    held = yaml.safe_load(suite.read_text())
    for given in (suite, "mine", held, validate(Suite, held)):  # all that a sweep takes
        with pytest.raises(fedbench.SettingsError, match="typed into this session"):
            fedbench.sweep(given, home=tmp_path, quiet=True)
    with pytest.raises(fedbench.SettingsError, match="no suite file of 'mina'"):
        fedbench.sweep("mina", home=tmp_path, quiet=True)


class Taken(Mine):
    """Takes a built-in method's name."""

    name = "fedavg"


def test_what_is_no_method_is_refused():
    with pytest.raises(fedbench.SettingsError, match="no subclass"):
        fedbench.register(dict)
    with pytest.raises(fedbench.SettingsError, match="already"):
        fedbench.register(Taken)


@pytest.mark.slow
def test_a_sweep_gives_a_board(tmp_path):
    suite = tmp_path / "two.yaml"
    suite.write_text(
        "name: two\n"
        "fixed: {data: {name: digits, train_size: 120, test_size: 60}, models: {name: convnet, "
        "width: 8}, recipe: {epochs: 1}, partition: {scheme: iid, clients: 2}}\n"
        "axes: {method: [ensemble, {name: fedavg, preset: one_shot}]}\n"
        "profiles: {quick: {seeds: 1}}\n"
    )
    board = fedbench.sweep(suite, workers=1, home=tmp_path, quiet=True)
    assert sorted(board.rows["method"]) == ["ensemble", "fedavg"]
    assert board.failed == ()
