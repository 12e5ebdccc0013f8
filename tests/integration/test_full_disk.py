"""A disk that takes no more: one message, and the same command goes on when there is room."""

import os

import pytest
from forked import Sweep, suite_file

SUITE = """
name: full
profile: only
fixed:
  data: {name: digits, train_size: 120, test_size: 60}
  partition: {scheme: iid, clients: 3}
  recipe: {epochs: 1, batch_size: 16}
  evaluation: {curve_size: 30}
  method: local
axes:
  models: [{name: convnet, width: 4, depth: 2}, {name: convnet, width: 64, depth: 2}]
profiles:
  only: {seeds: 4}
"""


def records(home):
    return {path.name: path.read_bytes() for path in (home / "full" / "records").glob("*")}


@pytest.mark.timeout(200)
def test_a_full_disk_is_one_message(tmp_path):
    path, home = suite_file(tmp_path, SUITE), tmp_path / "home"
    # The data fit, a wide network's weights do not.
    Sweep(path, home, "--seeds", "1", "--set", "models.width=4").complete()
    begun = records(home)
    assert len(begun) == 1
    sweep = Sweep(path, home, workers=2, largest=100_000)
    before = len(sweep.said)
    assert sweep.wait()
    said = sweep.said[before:]
    assert sweep.process.exitcode == 1, said
    assert said.count("error:") == 1
    assert "File too large" in said
    assert "free the disk or set FEDBENCH_HOME" in said
    assert "Traceback" not in said
    assert "FAILED" not in said
    there = records(home)
    assert there.items() >= begun.items()
    assert not [name for name in there if name.endswith(".failed")]
    assert b'"failed"' not in b"".join(there.values())
    Sweep(path, home).complete()
    assert len(records(home)) == 8
    assert records(home).items() >= there.items()


@pytest.mark.timeout(200)
def test_a_folder_that_may_not_be_written_is_one_message(tmp_path):
    path, home = suite_file(tmp_path, SUITE), tmp_path / "home"
    home.mkdir()
    (home / "full").mkdir()
    (home / "full" / "records").touch()  # in the place of the folder
    sweep = Sweep(path, home)
    assert sweep.wait()
    assert sweep.process.exitcode == 1, sweep.said
    assert sweep.said.count("error:") == 1
    assert f"cannot write {home / 'full' / 'records'}{os.sep}" in sweep.said
    assert "Traceback" not in sweep.said
