"""Worker processes: what they compute, what is left when one dies, and how they are stopped."""

import contextlib
import dataclasses
import multiprocessing
import time

import pytest

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.logs import log_path
from fedbench.bench.cells.lookup import good_record
from fedbench.bench.cells.running import in_hand
from fedbench.bench.executors import execute
from fedbench.bench.executors.local import _reporter
from fedbench.bench.records.compare import compare
from fedbench.bench.records.record import find_record, record_path, write_record
from fedbench.bench.suites.plan import planned
from fedbench.errors import UnwritableError
from fedbench.federation.context import Progress
from fedbench.files import Lock
from fedbench.methods import METHODS
from fedbench.plugins import load_plugin

METHOD = """
import os, time
from pathlib import Path
from fedbench.methods.local import Local
TRACE = Path({trace!r})
class Odd(Local):
    name = 'odd'
    def client_model(self, client):
        with TRACE.open('a') as file:
            file.write('x')
        {code}
        return super().client_model(client)
"""
DIE = "os._exit(9)"


@pytest.fixture
def odd(tmp_path):
    """Make a method ``odd`` that does something of its own in a worker, and counts its starts."""

    def make(code, before=""):
        plugin, trace = tmp_path / "odd.py", tmp_path / "trace"
        plugin.write_text(before + METHOD.format(trace=str(trace), code=code))
        load_plugin(str(plugin))
        return str(plugin), trace

    yield make
    METHODS._loaded.pop("odd")


@pytest.fixture
def sweep(runtime):
    def run(cells, workers, *plugins, means=runtime, **over):
        entries = [planned(cell) for cell in cells]
        found = execute(
            entries,
            means,
            suite="test",
            profile=None,
            workers=workers,
            plugins=plugins,
            **over,
        )
        return {f"{record.method_label()}{record.settings['seed']}": record for record in found}

    return run


def test_workers_give_the_numbers_that_one_process_gives(tiny, runtime, home, sweep):
    cells = [tiny("ensemble"), tiny({"name": "fedavg", "preset": "one_shot"}), tiny("local")]
    alone = {cell.cell_id: run_cell(cell, runtime, suite="alone") for cell in cells}
    events = []
    found = sweep(
        cells,
        2,
        means=dataclasses.replace(runtime, home=home.parent / "other"),
        on_event=events.append,
    )
    assert len(found) == 3
    for record in found.values():
        assert record.status == "ok", record.traceback
        assert compare(alone[record.cell_id], record) == []
    assert {event.worker for event in events} <= {0, 1}
    assert {event.cell_id for event in events} == set(alone)  # each says that it begins


def test_one_deadly_cell_fails_alone_and_is_tried_again_by_the_next_run(tiny, runtime, sweep, odd):
    plugin, trace = odd(DIE)
    cells = [tiny("odd"), *(tiny("local", seed=seed) for seed in range(4))]
    found = sweep(cells, 2, plugin)
    assert {name: record.status for name, record in found.items()} == {
        "odd0": "failed",
        **{f"local{seed}": "ok" for seed in range(4)},
    }
    assert "worker process died" in found["odd0"].reason
    assert trace.read_text() == "xx"  # once among others, once alone
    assert find_record(runtime.home, "test", cells[0].cell_id)[1] == found["odd0"]
    left = [cell for cell in cells if good_record(runtime.home, "test", cell, runtime.data) is None]
    assert left == cells[:1]
    assert sweep(left, 2, plugin)["odd0"].status == "failed"
    assert trace.read_text() == "xxx"  # there was nobody else to blame


def test_an_exception_of_an_odd_kind_is_a_failure_of_the_cell(tiny, runtime, sweep, odd):
    plugin, trace = odd("raise BaseException('to nobody')")
    cell = tiny("odd")
    found = sweep([cell, tiny("local")], 2, plugin)
    assert {name: record.status for name, record in found.items()} == {
        "odd0": "failed",
        "local0": "ok",
    }
    assert found["odd0"].reason == "BaseException: to nobody"
    assert "odd.py" in found["odd0"].traceback
    assert trace.read_text() == "x"


def test_the_log_says_where_a_method_left_the_process(tiny, runtime, sweep, odd):
    plugin, _ = odd("raise SystemExit(3)")
    cell = tiny("odd")
    found = sweep([cell], 1, plugin)
    assert "exit code 3" in found["odd0"].reason
    assert "odd.py" in log_path(runtime.home, "test", cell.cell_id).read_text()


def test_a_cell_whose_worker_died_once_is_completed_alone(tiny, sweep, odd):
    plugin, trace = odd(f"if TRACE.read_text() == 'x': {DIE}")
    found = sweep([tiny("odd"), tiny("local")], 2, plugin)
    assert found["odd0"].status == found["local0"].status == "ok"
    assert len(trace.read_text()) == 1 + 3  # clients


def test_a_record_written_just_before_a_death_counts(tiny, runtime, sweep, odd):
    plugin, trace = odd(
        "pass",
        "import multiprocessing, os\n"
        "import fedbench.bench.cells.cell as cell\n"
        "keep = cell.keep_record\n"
        "def last_words(home, record):\n"
        "    keep(home, record)\n"
        "    os._exit(9)\n"
        "if multiprocessing.parent_process():\n"
        "    cell.keep_record = last_words\n",
    )
    cells = [tiny("odd"), tiny("local")]
    found = sweep(cells, 2, plugin)
    assert found["odd0"].status == found["local0"].status == "ok"
    assert trace.read_text() == "xxx"  # three clients, once each
    for cell in cells:
        assert find_record(runtime.home, "test", cell.cell_id)[1].status == "ok"


def test_a_good_record_outlives_the_death_of_its_recomputation(tiny, runtime, sweep, odd):
    plugin, _ = odd(DIE)
    cell = tiny("odd")
    good = run_cell(tiny("local"), runtime, suite="test").model_copy(
        update={"cell_id": cell.cell_id}
    )
    path = record_path(runtime.home, "test", cell.cell_id)
    write_record(path, good)
    anew = dataclasses.replace(runtime, refresh=True)
    assert sweep([cell], 1, plugin, means=anew)["odd0"].status == "failed"
    assert find_record(runtime.home, "test", cell.cell_id)[1] == good


@pytest.fixture
def elsewhere(tiny, runtime):
    """Two cells of which another process has the first in hand, and a sweep of them at work."""
    cells = [tiny("local", seed=seed) for seed in range(2)]
    lock = Lock(runtime.home / "test" / "locks" / f"{cells[0].cell_id}.lock")
    entries = [planned(cell) for cell in cells]
    with lock.held():
        going = [True]
        records = execute(
            entries,
            runtime,
            suite="test",
            profile=None,
            workers=1,
            go_on=lambda: going[0],
        )
        with contextlib.closing(records):
            assert next(records).cell_id == cells[1].cell_id  # instead of waiting for the first
            yield cells[0], lock, records, going


def test_a_cell_that_another_sweep_lets_go_is_computed_at_the_end(elsewhere):
    cell, lock, records, _ = elsewhere
    lock.release()
    assert next(records).cell_id == cell.cell_id
    assert next(records, None) is None


def test_a_cell_that_another_sweep_finishes_is_done(elsewhere, runtime):
    cell, _, records, _ = elsewhere
    theirs = run_cell(cell, runtime, suite="other").model_copy(update={"suite": "test"})
    write_record(record_path(runtime.home, "test", cell.cell_id), theirs)
    assert next(records) == theirs
    assert next(records, None) is None


def test_nobody_waits_for_others_when_it_is_time_to_stop(elsewhere):
    _, _, records, going = elsewhere
    going[0] = False
    assert next(records, None) is None


def test_a_full_disk_stops_all_workers(tiny, runtime):
    (runtime.home / "test").mkdir()
    (runtime.home / "test" / "outputs").touch()
    entries = [planned(tiny("ensemble", seed=seed)) for seed in range(6)]
    records = execute(entries, runtime, suite="test", profile=None, workers=2)
    with pytest.raises(UnwritableError, match=r"cannot write .*outputs"):
        list(records)
    assert not multiprocessing.active_children()
    assert not list((runtime.home / "test").glob("records/*"))
    assert not in_hand(runtime.home / "test")


def test_a_crash_names_its_signal_and_leaves_its_trace(tiny, runtime, sweep, odd):
    plugin, _ = odd("import ctypes; ctypes.string_at(0)")
    record = sweep([tiny("odd")], 1, plugin)["odd0"]
    assert "it crashed (SIGSEGV)" in record.reason
    text = log_path(runtime.home, "test", record.cell_id).read_text()
    assert "Fatal Python error: Segmentation fault" in text
    assert "in client_model" in text
    assert not in_hand(runtime.home / "test")


def test_what_run_cell_does_not_catch_is_a_failure_too(tiny, sweep):
    found = sweep([tiny("local"), tiny("ensemble")], 1, devices=["cuda:77"])
    assert len(found) == 2
    for record in found.values():
        assert record.status == "failed"
        assert record.reason.startswith("SettingsError: there is no device 'cuda:77'")
        assert "resolve_device" in record.traceback


def test_devices_are_given_to_the_workers_in_turn(tiny, sweep):
    cells = [tiny("local", seed=seed) for seed in range(2)]
    found = sweep(cells, 2, devices=["cpu", "cuda:77"])
    assert sorted(record.status for record in found.values()) == ["failed", "ok"]


def test_closing_stops_workers_at_once_and_starts_nothing(tiny, runtime, odd):
    plugin, trace = odd("time.sleep(60)")
    cells = [tiny("local"), *(tiny("odd", seed=seed) for seed in range(3))]
    records = execute(
        [planned(cell) for cell in cells],
        runtime,
        suite="test",
        profile=None,
        workers=2,
        plugins=[plugin],
    )
    assert next(records).status == "ok"
    start = time.monotonic()
    records.close()
    assert time.monotonic() - start < 5
    assert not multiprocessing.active_children()
    time.sleep(0.2)
    assert not trace.exists() or trace.read_text() in ("x", "xx")
    assert len(list((runtime.home / "test" / "records").glob("*.json"))) == 1


def test_a_worker_without_a_parent_gives_up(tiny):
    near, far = multiprocessing.Pipe()
    near.close()
    show = _reporter(far, 0, planned(tiny("local")))
    with pytest.raises(SystemExit):
        show(Progress())


def test_a_worker_whose_gpu_is_lost_leaves_its_record_and_the_next_cell_to_another(
    odd, sweep, tiny
):
    lost = "import fedbench.bench.executors.local as own; own.gpu_is_lost = lambda: True"
    plugin, trace = odd(lost)
    cells = [tiny("odd", seed=seed) for seed in range(2)]
    found = sweep(cells, 1, plugin)
    assert len(found) == 2
    records = found.values() if isinstance(found, dict) else found
    assert {record.status for record in records} == {"ok"}
    assert trace.read_text() == "x" * 6  # three clients each, and none of them twice
