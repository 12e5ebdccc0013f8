"""--force: what several cells share is trained once a process, and again for the next command."""

import pickle
from dataclasses import replace

import pytest

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.runtime import Runtime
from fedbench.bench.cells.stores import store_of
from fedbench.bench.executors import execute
from fedbench.bench.suites.plan import planned

NUMERICS = {"device": "cpu", "precision": "32-true", "threads": 1, "torch": "2"}
SHARING = ("ensemble", {"name": "fedavg", "preset": "one_shot"}, "local")


@pytest.fixture
def trainings(runtime):
    """Return which file each client training has now; another one where it was written again."""

    def look():
        files = (runtime.home / "artefacts" / "classifier").glob("*.safetensors")
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    return look


def test_cells_of_a_forced_command_share_what_the_first_one_trains(tiny, runtime, trainings):
    for method in SHARING:
        run_cell(tiny(method), runtime, suite="old")
    stale = trainings()
    anew = replace(runtime, refresh=True)
    first = run_cell(tiny(SHARING[0]), anew, suite="new")
    fresh = trainings()
    assert fresh.keys() == stale.keys()
    assert not fresh.items() & stale.items()
    assert first.ledger["shared_seconds"] == 0
    for method in SHARING[1:]:
        record = run_cell(tiny(method), replace(anew, show=print), suite="new")
        assert record.ledger["shared_seconds"] > 0
    assert trainings() == fresh


def test_a_forced_sweep_trains_once_a_worker(tiny, runtime, trainings):
    cells = [planned(tiny(method)) for method in SHARING]
    means = replace(runtime, refresh=True)
    found = list(execute(cells, means, suite="test", profile=None, workers=1))
    assert [record.status for record in found] == ["ok"] * 3
    assert [record.ledger["shared_seconds"] > 0 for record in found] == [False, True, True]
    assert len(trainings()) == 3


def test_the_next_forced_command_of_a_process_trains_again(tiny, home, runtime, trainings):
    means = [
        Runtime(home, runtime.data, "cpu", threads=1, offline=True, refresh=True) for _ in range(2)
    ]
    seen = []
    for each in means:
        run_cell(tiny("ensemble"), each, suite="test")
        seen.append(trainings())
    assert not seen[0].items() & seen[1].items()


def test_a_command_is_the_same_in_its_workers_and_no_part_of_what_runtimes_are(home, runtime):
    assert replace(runtime, threads=2, show=print).command == runtime.command
    quiet = replace(runtime, show=print, say=print)
    assert pickle.loads(pickle.dumps(quiet)).command == runtime.command
    other = Runtime(home, runtime.data, "cpu", threads=1, offline=True)
    assert other.command != runtime.command
    assert other == runtime


def test_a_store_has_waited_for_nobody_when_a_cell_begins(runtime):
    anew = replace(runtime, refresh=True)
    store = store_of(anew, NUMERICS)
    store.waited = 5.0
    assert store_of(anew, {**NUMERICS, "threads": 2}) is not store
    assert store_of(anew, dict(reversed(NUMERICS.items()))) is store
    assert store.waited == 0.0
    assert store_of(runtime, NUMERICS) is not store_of(runtime, NUMERICS)
