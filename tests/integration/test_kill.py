"""SIGKILL at work: the same command goes on and ends with the numbers of an undisturbed run."""

import time

import pytest
from forked import Command

from fedbench.bench.records.compare import compare
from fedbench.bench.records.record import read_record

WORDS = [
    "run",
    "--dataset",
    "digits",
    "--method",
    "fedavg",
    "--beta",
    "0.5",
    "--clients",
    "3",
    "--rounds",
    "12",
    "--epochs",
    "4",
    "--width",
    "8",
    "--threads",
    "1",
    "--device",
    "cpu",
    "--offline",
]


def record(home):
    return read_record(next((home / "run" / "records").glob("*.json")))


def until(found, seconds=300.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found():
            return
        time.sleep(0.005)
    pytest.fail("the process did not come that far")


@pytest.mark.timeout(900)
def test_a_cell_killed_in_a_round_goes_on_there(tmp_path):
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    Command(WORDS, calm).complete()
    for commits in (1, 2):  # after a first commit, and again after the resumed run's next one
        command = Command(WORDS, stormy)
        seen = set()

        def committed(seen=seen, commits=commits):
            seen.update(
                path.stat().st_mtime_ns
                for path in (stormy / "run" / "scratch").glob("*/journal.json")
            )
            return len(seen) > commits

        until(committed)
        command.kill(everybody=True)
        assert not list((stormy / "run").glob("records/*.json"))
    Command(WORDS, stormy).complete()
    assert compare(record(calm), record(stormy)) == []
    assert len(record(stormy).curves) == 12
    assert not list((stormy / "run" / "scratch").iterdir())
