"""Signs of life: what a cell in hand leaves for others to read, and who counts as alive."""

import json
import os
import platform
import subprocess
import sys
import time

import pytest

from fedbench.bench.cells import running
from fedbench.bench.cells.running import Heartbeat, in_hand, running_path
from fedbench.errors import UnwritableError
from fedbench.federation.context import Progress


@pytest.fixture
def path(tmp_path):
    return running_path(tmp_path, "s", "abc")


def until(found):
    end = time.monotonic() + 10
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_cell_in_hand_can_be_read_and_leaves_nothing(path, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "PACE", 0.05)
    with Heartbeat(path) as beat:
        (first,) = in_hand(tmp_path / "s")
        assert (first.cell_id, first.pid, first.host) == ("abc", os.getpid(), platform.node())
        assert first.live
        assert (first.round, first.stage) == (0, "")
        beat.show(Progress(2, 5, "client 3", 1, 20))
        until(lambda: in_hand(tmp_path / "s")[0].round == 2)
        (later,) = in_hand(tmp_path / "s")
        at = later.round, later.rounds, later.stage, later.done, later.total
        assert at == (2, 5, "client 3", 1, 20)
        assert later.started == first.started
        assert later.updated > first.updated
    assert in_hand(tmp_path / "s") == []
    assert not list(path.parent.iterdir())


def test_nothing_new_is_written_only_now_and_then(path, monkeypatch):
    monkeypatch.setattr(running, "PACE", 0.02)
    with Heartbeat(path):
        written = path.stat().st_mtime_ns
        time.sleep(0.2)
        assert path.stat().st_mtime_ns == written
    monkeypatch.setattr(running, "PULSE", 0.1)
    with Heartbeat(path):
        written = path.stat().st_mtime_ns
        until(lambda: path.stat().st_mtime_ns != written)


def test_the_dead_and_the_silent_are_not_live(path, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    now = time.time()

    def state(**over):
        values = {"cell_id": "abc", "pid": os.getpid(), "host": platform.node()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**values, "started": now, "updated": now, **over}))
        return in_hand(tmp_path / "s")[0].live

    assert state()
    assert state(updated=now - 1000)  # its process is there
    assert not state(pid=gone.pid)
    assert state(pid=gone.pid, host="elsewhere")
    assert not state(pid=gone.pid, host="elsewhere", updated=now - running.STALE - 1)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_foreign_file_is_named_and_left_out(path, tmp_path, content, caplog):
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert in_hand(tmp_path / "s") == []
    assert "abc.json" in caplog.text
    assert in_hand(tmp_path / "nowhere") == []


def test_a_full_disk_is_met_at_the_start_and_survived_later(path, monkeypatch, caplog):
    path.parent.parent.mkdir()
    path.parent.touch()
    with pytest.raises(UnwritableError), Heartbeat(path):
        pass
    path.parent.unlink()
    monkeypatch.setattr(running, "PACE", 0.02)

    def full(*_):
        raise UnwritableError("no room")

    with Heartbeat(path) as beat:
        monkeypatch.setattr(running, "write_atomic", full)
        beat.show(Progress(1, 1, "x", 0, 0))
        until(lambda: "no room" in caplog.text)


def test_reading_needs_no_torch():
    code = (
        "import sys; from fedbench.bench import garbage; "
        "from fedbench.bench.cells import logs, running; "
        "print({'torch', 'lightning'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
