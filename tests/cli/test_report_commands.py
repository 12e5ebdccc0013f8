"""`fedbench report`, `publish` and `diff` as a user types them, on records made by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedbench.bench.records.record import Record, write_record
from fedbench.bench.suites.planfile import Entry, Plan, write_plan
from fedbench.cli.main import app
from fedbench.errors import FedbenchError
from fedbench.report import build

CLEAN = {"device": "cpu", "commit": "c0ffee", "dirty": False}


def made(seed, accuracy=0.5, **over):
    values = {
        "cell_id": f"abc{seed}",
        "status": "ok",
        "suite": "toy",
        "profile": "quick",
        "settings": {
            "data": {"name": "digits"},
            "partition": {"scheme": "iid", "clients": 5},
            "models": [{"name": "convnet"}],
            "method": {"name": "fedavg", "preset": None},
            "budget": None,
            "seed": seed,
        },
        "versions": {},
        "data": {"classes": ["0"], "size": 16},
        "metrics": {"accuracy": accuracy, "worst_client": 0.1, "nll": 1.0, "ece": 0.05},
        "partition": {"histogram": [[1]] * 5},
        "ledger": {
            "bytes_up_per_client": 1.0,
            "bytes_down_per_client": 1.0,
            "bytes_total": 2,
            "rounds": 1,
            "client_seconds": 1.0 + seed,
            "server_seconds": 1.0,
        },
        "environment": CLEAN,
    }
    return Record(**{**values, **over})


def write(folder, records):
    write_plan(
        folder / "plan.json",
        Plan("toy", "Toy", "quick", tuple(Entry(r.cell_id, None, r.settings) for r in records)),
    )
    for record in records:
        write_record(folder / "records" / f"{record.cell_id}.json", record)


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call a command in an empty folder, with a home in it; no figures are drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDBENCH_HOME", "runs")
    monkeypatch.setattr("fedbench.session.console.stdout.width", 300, raising=False)
    monkeypatch.setattr(build.figures, "draw", lambda board: [])

    def run(*words, code=0):
        result = CliRunner().invoke(app, list(words))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output

    return run


@pytest.fixture
def toy(tmp_path, call):
    write(tmp_path / "runs" / "toy", [made(seed, 0.5 + 0.1 * seed) for seed in range(3)])
    return tmp_path / "runs" / "toy"


def test_a_report_by_name_goes_beside_the_records(call, toy):
    said = call("report", "toy")
    assert "60.00 ± 10.00" in said
    assert (toy / "report" / "table.csv").exists()
    assert 'href="../records/' in (toy / "report" / "index.html").read_text()
    by_path = (toy / "report" / "table.csv").read_bytes()
    call("report", str(toy))
    assert (toy / "report" / "table.csv").read_bytes() == by_path
    assert not (toy / "table.csv").exists()


def test_a_report_can_go_elsewhere_and_finds_its_records(call, toy, tmp_path):
    call("report", "toy", "--out", "elsewhere/deep")
    page = (tmp_path / "elsewhere" / "deep" / "index.html").read_text()
    assert 'href="../../runs/toy/records/' in page


def test_paired_differences_are_asked_for(call, toy):
    assert "Δ to" in call("report", "toy", "--paired", "fedavg")
    assert (toy / "report" / "paired.csv").exists()
    with pytest.raises(FedbenchError, match="no row has that name"):
        call("report", "toy", "--paired", "fedprox")


def test_publishing_and_reporting_a_published_board(call, toy, tmp_path):
    said = call("publish", "toy")
    board = tmp_path / "leaderboards" / "toy"
    assert "1 rows of 3 records in leaderboards/toy, 3 records new" in said
    before = {path: path.read_bytes() for path in board.rglob("*") if path.is_file()}
    (board / "table.md").unlink()
    call("report", "leaderboards/toy")
    assert {path: path.read_bytes() for path in board.rglob("*") if path.is_file()} == before
    write(toy, [made(seed, 0.7) for seed in range(3)])
    said = call("publish", "toy")
    assert "changed: fedavg, digits, iid, K=5, seed 0: 50.00 % → 70.00 %" in said
    with pytest.raises(FedbenchError, match="the most is 3"):
        call("publish", "toy", "--min-seeds", "4")


def test_a_dirty_record_is_published_on_demand_only(call, toy):
    write(toy, [made(seed, environment={**CLEAN, "dirty": True}) for seed in range(3)])
    with pytest.raises(FedbenchError, match="3 of 3 records cannot be traced"):
        call("publish", "toy")
    call("publish", "toy", "--allow-dirty")


def test_equal_records_differ_in_times_only(call, toy, tmp_path):
    write_record(tmp_path / "slow.json", made(0, 0.5, wall_seconds=9.0))
    said = call("diff", "runs/toy/records/abc0.json", "slow.json")
    assert "wall_seconds: 0 → 9" in said
    assert "Settings and numbers agree." in said


def test_records_that_differ_are_found_by_the_beginning_of_their_ids(call, toy):
    said = call("diff", "abc0", "abc1", code=1)
    for line in ("seed: 0 → 1", "metrics.accuracy: 0.5 → 0.6", "times (differ from run to run)"):
        assert line in said
    with pytest.raises(FedbenchError, match="beginning of 3 cell ids: abc0, abc1, abc2"):
        call("diff", "abc", "abc0")
    with pytest.raises(FedbenchError, match="nothing called 'dead00dead00'"):
        call("diff", "dead00dead00", "abc0")
    with pytest.raises(FedbenchError, match=r"nothing called '\*'"):
        call("diff", "*", "abc0")


def test_suites_are_compared(call, toy, tmp_path):
    write(tmp_path / "other", [made(0, 0.5), made(1, 0.9), made(3, 0.5)])
    said = call("diff", "toy", "other", code=1)
    assert "cells only in toy" in said
    assert "abc2 fedavg, digits, iid, K=5, seed 2" in said
    assert "abc3 fedavg" in said
    assert "abc1 fedavg, digits, iid, K=5, seed 1: metrics.accuracy: 0.6 → 0.9" in said
    assert "fedavg, digits iid, K=5: accuracy_mean" in said
    assert "agree" in call("diff", "toy", "runs/toy")
    found = json.loads(call("diff", "toy", "other", "--json", code=1))
    assert not found["equal"]
    assert found["rows"][0]["values"]["accuracy_std"][0] == pytest.approx(0.1)
    assert list(found["differing_cells"].values()) == [
        [{"place": "metrics.accuracy", "a": 0.6, "b": 0.9}]
    ]


def test_a_failure_against_a_result_is_a_difference(call, toy, tmp_path):
    broken = [made(0, 0.5), made(1, status="failed", metrics={}), made(2, 0.7)]
    write(tmp_path / "other", broken)
    assert "abc1" in call("diff", "toy", "other", code=1)


def test_a_record_is_not_compared_with_a_suite(call, toy):
    with pytest.raises(FedbenchError, match="'abc0' is a record and the other is none"):
        call("diff", "abc0", "toy")


def test_a_folder_named_like_a_suite_does_not_hide_it(call, toy, tmp_path):
    (tmp_path / "toy").mkdir()
    assert "60.00" in call("report", "toy")
    with pytest.raises(FedbenchError, match="no plan"):
        call("report", "nothing")


def test_a_published_board_is_found_by_its_name_where_nothing_has_run(call, tmp_path):
    write(tmp_path / "leaderboards" / "board", [made(0)])
    said = call("report", "board").replace("\n", "")
    assert f"records: {tmp_path}/leaderboards/board/records" in said
    assert f"page: {tmp_path}/leaderboards/board/index.html" in said
    page = (tmp_path / "leaderboards" / "board" / "index.html").read_text()
    assert "<code>fedbench report leaderboards/board</code>" in page


@pytest.mark.parametrize("words", [["publish", "toy"], ["diff", "toy", "toy"]])
def test_neither_imports_torch(words, call, toy):
    code = (
        f"import sys; sys.argv[1:] = {words!r}\n"
        "from fedbench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'lightning', 'wandb'} & set(sys.modules)\n"
    )
    root = Path(build.__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    variables = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=variables)
