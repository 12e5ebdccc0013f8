"""What goes wrong in a cell: what is a failure, what stops all, and what the message says."""

import errno
import os
import signal
from dataclasses import replace

import pytest
import torch

from fedbench.bench.cells import cell as module
from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.environment import Gpu
from fedbench.bench.cells.reasons import death, gpu_is_lost, is_memory, reason
from fedbench.bench.cells.running import BusyError
from fedbench.bench.executors.job import Job, finished, work
from fedbench.bench.records.record import find_record, record_path, stamp, write_record
from fedbench.bench.suites.plan import planned
from fedbench.errors import DataError, UnwritableError
from fedbench.files import Lock
from fedbench.methods.local import Local

MEMORY = [
    MemoryError("no room"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
]


@pytest.mark.parametrize("error", MEMORY)
def test_want_of_memory_is_a_failure_that_names_the_fix(tiny, runtime, monkeypatch, error):
    freed = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(1))

    def broken(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(module, "_partition", broken)
        record = run_cell(tiny("local"), runtime, suite="test")
    assert record.status == "failed"
    assert str(error) in record.reason
    assert "fewer `--workers`" in record.reason
    assert "recipe.batch_size" in record.reason
    assert freed == [1]
    assert run_cell(tiny("local"), runtime, suite="test").status == "ok"


def test_a_message_that_no_file_can_hold_is_kept_as_far_as_it_goes(registered, tiny, runtime):
    class Cryptic(Local):
        name = "cryptic"

        def client_model(self, client):
            raise RuntimeError("no file caf\udce9.png")

    registered(Cryptic)
    record = run_cell(tiny("cryptic"), runtime, suite="test")
    assert record.reason == r"RuntimeError: no file caf\udce9.png"
    assert r"caf\udce9" in record.traceback


def test_an_error_without_words_has_a_name():
    assert reason(MemoryError()).startswith("MemoryError; there was not enough memory")


def test_want_of_memory_on_a_card_names_it_and_the_peak():
    gpu = Gpu("a GPU", 80 * 2**30, 3 * 2**29)
    said = reason(torch.OutOfMemoryError("CUDA out of memory."), gpu)
    assert "had 1.5 of the 80.0 GiB of a GPU at its peak" in said
    assert "fewer `--workers`, a smaller `recipe.batch_size`" in said
    assert "a GPU" not in reason(ValueError("x"), gpu)


def test_what_a_card_cannot_repeat_names_the_way_out():
    error = RuntimeError("grid_sampler does not have a deterministic implementation, but you set")
    assert "`deterministic = False`" in reason(error)
    assert "docs/devices.md" in reason(error)


def test_a_gpu_is_lost_when_it_does_not_even_finish_nothing(monkeypatch):
    def broken():
        raise torch.AcceleratorError("CUDA error: an illegal access")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    assert not gpu_is_lost()  # nothing was begun on any
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert gpu_is_lost()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert not gpu_is_lost()


def test_other_errors_are_not_taken_for_want_of_memory():
    assert not is_memory(DataError("the file ran out of memory cards"))
    assert not is_memory(ValueError("x"))
    assert reason(ValueError("x")) == "ValueError: x"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-signal.SIGKILL, "want of memory"),
        (-signal.SIGSEGV, "SIGSEGV"),
        (-250, "signal 250"),
        (9, "exit code 9"),
        (None, "the cell's log may say why"),
    ],
)
def test_a_death_has_its_reason(code, words):
    assert words in death(code)
    assert death(code).startswith("a worker process died")


def test_weights_that_are_no_numbers_are_a_failure(registered, tiny, runtime):
    @registered
    class Broken(Local):
        name = "broken_weights"

        def client_model(self, client):
            model = super().client_model(client)
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)
            return model

    record = run_cell(tiny("broken_weights"), runtime, suite="test")
    assert record.status == "failed"
    assert "model 'client/0' gives outputs that are not finite" in record.reason
    assert "lower `recipe.lr`" in record.reason


@pytest.mark.parametrize(
    "place",
    [
        *("test/records", "test/outputs", "test/scratch", "test/logs", "test/running"),
        *("test/locks", "artefacts"),
    ],
)
def test_a_place_that_cannot_be_written_stops_all(tiny, runtime, place):
    (runtime.home / "test").mkdir()
    (runtime.home / place).touch()  # a file where a folder is wanted
    cell = tiny("ensemble")
    with pytest.raises(UnwritableError, match=f"cannot write .*{place}.*; free the disk"):
        run_cell(cell, runtime, suite="test")
    with pytest.raises(UnwritableError):
        work(planned(cell), Job(runtime, "test", None, (), ("cpu",)), lambda _: None)
    assert not list((runtime.home / "test").glob("records/*"))
    (runtime.home / place).unlink()
    assert run_cell(cell, runtime, suite="test").status == "ok"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_a_full_disk_wherever_it_is_met_stops_all(registered, tiny, runtime, number):
    @registered
    class Writer(Local):
        name = "writer"

        def setup(self, server):
            raise OSError(number, os.strerror(number))

    with pytest.raises(UnwritableError, match=os.strerror(number)):
        run_cell(tiny("writer"), runtime, suite="test")
    assert find_record(runtime.home, "test", tiny("writer").cell_id) is None


def test_other_errors_of_the_system_are_failures(registered, tiny, runtime):
    @registered
    class Reader(Local):
        name = "reader"

        def setup(self, server):
            open("/nowhere/at/all")  # noqa: PTH123, SIM115

    record = run_cell(tiny("reader"), runtime, suite="test")
    assert record.status == "failed"
    assert "FileNotFoundError" in record.reason


def test_a_cell_that_somebody_has_in_hand_is_not_waited_for(tiny, runtime):
    cell = tiny("local")
    lock = Lock(runtime.home / "test" / "locks" / f"{cell.cell_id}.lock")
    with lock.held(), pytest.raises(BusyError):
        run_cell(cell, runtime, suite="test", wait=False)
    assert run_cell(cell, runtime, suite="test", wait=False).status == "ok"


@pytest.fixture
def job(runtime):
    return Job(runtime, "test", None, (), ("cpu",))


def test_what_is_good_or_new_is_finished(tiny, runtime, job):
    cell = tiny("local")
    entry, path = planned(cell), record_path(runtime.home, "test", cell.cell_id)
    assert finished(entry, job) is None
    good = run_cell(cell, runtime, suite="test")
    assert finished(entry, job) == good
    asked = replace(job, before={cell.cell_id: stamp(path)})
    assert finished(entry, asked) == good
    anew = replace(asked, runtime=replace(runtime, refresh=True))
    assert finished(entry, anew) is None  # it is what the sweep is to replace
    again = work(entry, anew, lambda _: None)
    assert again.wall_seconds != good.wall_seconds
    assert finished(entry, anew) == again  # once, and no more


def test_a_failure_counts_only_if_it_is_of_this_sweep(tiny, runtime, job):
    cell = tiny("local")
    entry, path = planned(cell), record_path(runtime.home, "test", cell.cell_id)
    good = run_cell(cell, runtime, suite="test")
    failed = good.model_copy(update={"status": "failed", "reason": "why"})
    write_record(path, failed)
    before = replace(job, before={cell.cell_id: stamp(path)})
    assert finished(entry, before) is None
    assert finished(entry, job) == failed  # there was none when that sweep began
    assert work(entry, job, lambda _: None) == failed
    assert work(entry, before, lambda _: None).status == "ok"
