"""A cell's log: what it says, and that workers' native messages land there."""

import logging
import os
import subprocess
import sys

import pytest

from fedbench.bench.cells import logs
from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.logs import CellLog, log_path
from fedbench.errors import UnwritableError
from fedbench.federation.context import Progress


def read(runtime, record):
    return log_path(runtime.home, "test", record.cell_id).read_text()


def test_a_cell_tells_its_story_and_goes_on_telling(tiny, runtime):
    cell = tiny({"name": "fedavg", "rounds": 2, "epochs": 1})
    record = run_cell(cell, runtime, suite="test")
    text = read(runtime, record)
    for words in (
        f"begin {cell.cell_id} of test: fedavg* on digits, iid, 3 clients, seed 0",
        '"train_size":120',
        f"process {os.getpid()}, cpu, 1 threads",
        "round 1/2: client 0",
        "round 2/2: client 0",
        f"end ok after {record.wall_seconds:.2f} s: accuracy ",
        f"{100 * record.metrics['accuracy']:.2f} %",
    ):
        assert words in text
    assert all(line[:2] == "20" for line in text.splitlines())  # each has its time
    run_cell(cell, runtime, suite="test")
    assert read(runtime, record).startswith(text)
    assert read(runtime, record).count(" begin ") == 2


def test_a_failure_has_its_traceback(tiny, runtime, monkeypatch):
    import fedbench.bench.cells.cell as module

    def broken(*_):
        raise ValueError("what a pity")

    monkeypatch.setattr(module, "_partition", broken)
    text = read(runtime, run_cell(tiny("local"), runtime, suite="test"))
    assert "in broken" in text
    assert "end failed" in text
    assert text.rstrip().endswith("ValueError: what a pity")


PRINTING = """
import ctypes, logging, os, sys, warnings
from pathlib import Path
from fedbench.bench.cells.logs import CellLog
print("before")
with CellLog(Path(sys.argv[1]), capture=True):
    print("from python")
    print("from stderr", file=sys.stderr)
    os.write(2, b"from below\\n")
    ctypes.CDLL(None).puts(b"from C")
    ctypes.CDLL(None).fflush(None)
    logging.getLogger("fedbench.some.module").info("from a logger")
    logging.getLogger("other").info("not wanted")
    warnings.warn("from a warning")
print("afterwards")
os.write(2, b"afterwards\\n")
logging.getLogger("fedbench.some.module").info("not wanted")
"""


def test_a_worker_prints_into_the_log(tmp_path):
    path = tmp_path / "logs" / "x.log"
    said = subprocess.run(
        [sys.executable, "-c", PRINTING, str(path)], capture_output=True, text=True, check=True
    )
    text = path.read_text()
    for what in ("python", "stderr", "below", "C", "a logger", "a warning"):
        assert f"from {what}" in text
    assert "afterwards" not in text
    assert "not wanted" not in text
    assert (said.stdout, said.stderr) == ("before\nafterwards\n", "afterwards\n")


def test_the_foreground_keeps_its_output_but_for_warnings_of_ours(tmp_path, capfd):
    with CellLog(tmp_path / "x.log", capture=False):
        print("to the terminal")
        logging.getLogger("fedbench.x").warning("to both")
        logging.getLogger("fedbench.x").info("to nobody")
    logging.getLogger("fedbench.x").warning("too late")
    assert "to the terminal" in capfd.readouterr().out
    text = (tmp_path / "x.log").read_text()
    assert "to both" in text
    assert "to the terminal" not in text
    assert "to nobody" not in text
    assert "too late" not in text


def test_what_leaves_by_an_exception_says_so(tmp_path):
    with pytest.raises(SystemExit), CellLog(tmp_path / "x.log", capture=True):
        raise SystemExit(143)
    assert "left: SystemExit: 143" in (tmp_path / "x.log").read_text()


def test_a_full_disk_does_not_hide_what_a_cell_has_failed_by(tmp_path):
    (tmp_path / "x.log").symlink_to("/dev/full")
    before = logging.getLogger().handlers[:]
    with (
        pytest.raises(UnwritableError, match="no room"),
        CellLog(tmp_path / "x.log", capture=True),
    ):
        raise UnwritableError("no room")
    assert logging.getLogger().handlers == before
    print("standard output is as it was")


def test_a_long_round_has_lines_now_and_then(tmp_path, monkeypatch):
    with CellLog(tmp_path / "x.log", capture=False) as diary:
        for done in range(50):
            diary.show(Progress(1, 3, "client 0", done, 50))
        monkeypatch.setattr(logs, "PACE", 0.0)
        diary.show(Progress(1, 3, "client 7", 3, 50))
    lines = (tmp_path / "x.log").read_text().splitlines()
    assert [line[20:] for line in lines] == [
        "round 1/3: client 0, epoch 0/50",
        "round 1/3: client 7, epoch 3/50",
    ]


def test_a_log_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "logs").touch()
    with pytest.raises(UnwritableError), CellLog(tmp_path / "logs" / "x.log", capture=True):
        pass
    print("standard output is as it was")
