"""`fedbench gc` as a user types it."""

import json

import pytest
from typer.testing import CliRunner

from fedbench.bench.cells.running import Heartbeat, running_path
from fedbench.bench.suites.planfile import Plan, plan_path, write_plan
from fedbench.cli.main import app
from fedbench.errors import SettingsError


@pytest.fixture
def gc(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBENCH_HOME", str(tmp_path))
    (tmp_path / "s" / "records").mkdir(parents=True)
    write_plan(plan_path(tmp_path, "s"), Plan("s", "", "quick", ()))
    (tmp_path / "s" / "records" / "a.json.damaged-0").write_text("1234567")
    (tmp_path / "cache" / "data").mkdir(parents=True)
    (tmp_path / "cache" / "data" / "digits-16px-0.safetensors").write_text("12345")

    def run(*words):
        return CliRunner().invoke(app, ["gc", *words])

    return run


def test_it_lists_and_deletes_nothing_by_itself(gc, tmp_path):
    done = gc()
    assert done.exit_code == 0, done.output
    for words in ("May go", "damaged", "7 bytes", "cache/data", "--what cache,damaged --yes"):
        assert words in done.output
    assert (tmp_path / "s" / "records" / "a.json.damaged-0").exists()


def test_it_deletes_the_kinds_that_are_named(gc, tmp_path):
    done = gc("--what", "damaged", "--yes")
    assert done.exit_code == 0, done.output
    assert "Deleted" in done.output
    assert not (tmp_path / "s" / "records" / "a.json.damaged-0").exists()
    assert (tmp_path / "cache" / "data" / "digits-16px-0.safetensors").exists()
    assert "Nothing to delete" in gc("--what", "damaged").output


def test_it_wants_kinds_and_known_ones(gc):
    for words, message in (
        (["--yes"], "add --what scratch,artefacts"),
        (["--what", "artefact"], "did you mean 'artefacts'"),
    ):
        error = gc(*words).exception
        assert isinstance(error, SettingsError)
        assert message in str(error)


def test_json_has_all_of_it(gc, tmp_path):
    found = json.loads(gc("--json").output)
    assert [item["kind"] for item in found["found"]] == ["cache", "damaged"]
    assert found["found"][1]["bytes"] == 7
    assert found["deleted"] == found["kept"] == []
    found = json.loads(gc("--json", "--what", "cache", "--yes").output)
    assert found["deleted"] == found["found"]


def test_a_running_sweep_keeps_its_own(gc, tmp_path):
    with Heartbeat(running_path(tmp_path, "s", "abc")):
        done = gc("--what", "cache", "--yes")
    assert done.exit_code == 1
    assert "stay: cells of s are in hand: 1" in done.output.replace("\n", " ")
    assert (tmp_path / "cache" / "data" / "digits-16px-0.safetensors").exists()
