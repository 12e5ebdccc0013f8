"""One's own method: named by a suite, beside a published board, and asked for by a record."""

import hashlib

import pytest
from plugin_tables import forget_plugins
from typer.testing import CliRunner

from fedbench.bench.cells.lookup import data_digest
from fedbench.bench.records.record import Record, read_records, write_record
from fedbench.bench.suites.order import read_order
from fedbench.bench.suites.planfile import Entry, Plan, plan_path, write_plan
from fedbench.cli.main import app
from fedbench.errors import SettingsError
from fedbench.federation.resources import Folders
from fedbench.report.beside import beside
from fedbench.session.means import load_plugins

SUITE = """
name: mine
plugins: [own/mine.py]
fixed:
  data: {name: digits, train_size: 120, test_size: 50}
  partition: {scheme: iid, clients: 2}
  models: {name: convnet, width: 4, depth: 2}
  recipe: {epochs: 1}
axes:
  method: [own_local]
profiles:
  quick: {seeds: 1}
"""
LEDGER = {
    "bytes_up_per_client": 1.0,
    "bytes_down_per_client": 1.0,
    "bytes_total": 2,
    "rounds": 1,
    "client_seconds": 1.0,
    "server_seconds": 1.0,
}
PLUGIN = """
from fedbench.methods.local import Local


class Own(Local):
    \"\"\"A method of somebody's own.\"\"\"

    name = "own_local"
"""


def call(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.fixture(autouse=True)
def _forget():
    yield
    forget_plugins()


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text(PLUGIN)
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE)
    return path


def test_a_suite_names_its_plugins_from_its_own_folder(suite):
    assert "quick 1 cell" in call("validate", suite)
    assert load_plugins(None, suite) == [str(suite.parent / "own" / "mine.py")]


def board_of(folder, cell_id="0123456789abcdef", sources=None, **settings):
    """Write a board of one good record, or one more to it."""
    cell = {
        "data": {"name": "digits", "train_size": 120, "test_size": 50},
        "models": [{"name": "convnet", "width": 4, "depth": 2, "norm": "instance"}],
        "method": {"name": "local", "preset": None},
        "seed": 0,
        **settings,
    }
    record = Record(
        cell_id=cell_id,
        status="ok",
        suite="toy",
        settings=cell,
        versions={},
        metrics={"accuracy": 0.5},
        data={"classes": ["a"], "sources": sources},
        partition={"histogram": [[1]]},
        ledger=LEDGER,
    )
    write_record(folder / "records" / f"{record.cell_id}.json", record)
    cells = tuple(Entry(r.cell_id, None, r.settings) for _, r in read_records(folder / "records"))
    write_plan(folder / "plan.json", Plan("toy", "", "quick", cells))
    return folder


def test_a_board_without_a_common_block_is_refused_before_anything_runs(suite, tmp_path, home):
    board = board_of(tmp_path / "boards" / "toy", partition={"scheme": "iid", "clients": 5})
    words = ("sweep", suite, "--beside", board, "--dry-run", "--device", "cpu", "--workers", "1")
    nearest = r"(?s)no cell of suite 'mine'.*nearest block, digits · iid · K=5.*clients=2, 5 there"
    for asked in (words, [word for word in words if word != "--dry-run"]):
        with pytest.raises(SettingsError, match=nearest):
            call(*asked)
    assert not plan_path(home, "mine").exists()


def test_a_dry_run_beside_a_board_says_who_meets_whom_and_what_is_reused(suite, tmp_path, home):
    load_plugins(None, suite)
    order = read_order(suite, home, profile=None, seeds=None, overrides=(), wishes=())
    (own,) = order.plan.cells
    here = data_digest(order.cells[own.cell_id].cell.data, Folders(tmp_path, home))
    board = board_of(tmp_path / "boards" / "toy", own.cell_id, here, **own.settings)
    board_of(board, **{**own.settings, "method": {"name": "local", "preset": None}})
    found = beside(board, order.plan)
    assert [(each.cells, each.rows, each.records) for each in found.meetings] == [(1, 1, 1)]
    assert (found.apart, found.same) == (0, {own.cell_id})
    words = ("sweep", suite, "--beside", board, "--dry-run", "--device", "cpu", "--workers", "1")
    told = " ".join(call(*words).split())
    assert "cells 1: 1 done, 0 left" in told
    assert f"beside {board}: 1 row of 1 record beside 1 cell of this suite, in 1 block" in told
    assert "iid · K=2 · convnet-w4-d2-instance: 1 row beside 1 cell" in told
    assert "reused 1 cell of this suite that the board has" in told
    board_of(board, own.cell_id, "other files", **own.settings)
    told = " ".join(call(*words).split())
    assert "cells 1: 0 done, 1 left" in told
    assert "reused 0 cells of this suite" in told
    assert not plan_path(home, "mine").exists()


def test_a_record_asks_for_its_plugin_and_never_runs_it(tmp_path, home):
    source = b"raise SystemExit('a record has run code')\n"
    digest = hashlib.sha256(source).hexdigest()
    board = tmp_path / "boards" / "toy"
    (board / "plugins").mkdir(parents=True)
    (board / "plugins" / "theirs.py").write_bytes(source)
    record = Record(
        cell_id="0123456789abcdef",
        status="ok",
        suite="toy",
        settings={
            "method": {"name": "theirs", "preset": None},
            "data": {"name": "digits"},
            "seed": 0,
        },
        versions={"plugin": digest},
        metrics={"accuracy": 0.5},
        data={"classes": ["a"]},
        partition={"histogram": [[1]]},
        ledger=LEDGER,
    )
    path = board / "records" / f"{record.cell_id}.json"
    write_record(path, record)
    with pytest.raises(SettingsError, match=r"add --plugin .*plugins/theirs\.py"):
        call("run", "--record", path)
    (board / "plugins" / "theirs.py").write_bytes(b"# edited\n")
    with pytest.raises(SettingsError, match=rf"{digest[:12]}.*with the file as it was"):
        call("run", "--record", path)
