"""Boards with rows of somebody's own method: its file stands beside the records, or none does."""

import hashlib
import json

import pytest
from made_records import record, write_suite

from fedbench.errors import SettingsError
from fedbench.report import build
from fedbench.report.publish import publish

SOURCE = b"# my method\n"


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(build.figures, "draw", lambda board: [])


@pytest.fixture
def out(tmp_path):
    return tmp_path / "leaderboards" / "toy"


def runs_of(tmp_path, source=SOURCE):
    digest = hashlib.sha256(source).hexdigest()
    found = [record("mine", seed, 0.5) for seed in range(3)]
    found = [one.model_copy(update={"versions": {"plugin": digest}}) for one in found]
    return write_suite(tmp_path / "runs", found)


def test_a_plugins_file_is_copied_beside_its_records(tmp_path, out):
    mine = tmp_path / "mine.py"
    mine.write_bytes(SOURCE)
    runs = runs_of(tmp_path)
    publish(runs, out, plugins=[mine])
    assert (out / "plugins" / "mine.py").read_bytes() == SOURCE
    mine.unlink()
    publish(runs, out)  # the board has it
    assert (out / "plugins" / "mine.py").read_bytes() == SOURCE


def test_the_plan_knows_the_files_that_a_sweep_loaded(tmp_path, out):
    mine = tmp_path / "mine.py"
    mine.write_bytes(SOURCE)
    runs = runs_of(tmp_path)
    plan = json.loads((runs / "plan.json").read_text())
    del plan["digest"]
    (runs / "plan.json").write_text(json.dumps({**plan, "plugins": [str(mine)]}))
    publish(runs, out)
    assert (out / "plugins" / "mine.py").exists()
    assert "plugins" not in json.loads((out / "plan.json").read_text())  # no paths of ours


@pytest.mark.parametrize("edited", [None, b"# edited since\n"])
def test_rows_whose_plugin_is_nowhere_are_refused(tmp_path, out, edited):
    mine = tmp_path / "mine.py"
    if edited:
        mine.write_bytes(edited)
    with pytest.raises(SettingsError, match=r"mine, digits.*--plugin FILE"):
        publish(runs_of(tmp_path), out, plugins=[mine])
    assert not out.exists()


def test_two_plugins_of_one_name_are_two_files(tmp_path, out):
    digests = {}
    for folder, text in (("a", b"# a\n"), ("b", b"# b\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_bytes(text)
        digests[folder] = hashlib.sha256(text).hexdigest()
    found = [
        record(folder, seed, 0.5).model_copy(update={"versions": {"plugins": {"picture": digest}}})
        for folder, digest in digests.items()
        for seed in range(3)
    ]
    files = [tmp_path / folder / "mine.py" for folder in digests]
    publish(write_suite(tmp_path / "runs", found), out, plugins=files)
    assert {path.read_bytes() for path in (out / "plugins").iterdir()} == {b"# a\n", b"# b\n"}
