"""Ctrl-C and SIGTERM in a sweep: it stops at once, says so, and the same command completes it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from shared import hearing

SUITE = """
name: slow
profile: only
fixed:
  data: {name: digits, train_size: 300, test_size: 50}
  partition: {scheme: iid, clients: 3}
  models: {name: convnet, width: 8, depth: 2}
  recipe: {epochs: 1, batch_size: 16}
  evaluation: {curve_size: 20}
axes:
  method:
    - {name: local}
    - {name: fedavg, rounds: 16, epochs: 4}
profiles:
  only: {seeds: 3}
"""


def start(folder):
    env = {**os.environ, "FEDBENCH_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    words = ["sweep", str(folder / "slow.yaml"), "--workers", "2", "--device", "cpu", "--offline"]
    return subprocess.Popen(
        [sys.executable, "-m", "fedbench.cli.main", *words],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hearing,
    )


def until(found, process, seconds=300.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if found():
            return
        time.sleep(0.01)
    process.kill()
    pytest.fail(f"the sweep did not come that far: {process.communicate()[0]}")


def alive(group):
    """Return whether a process group has a member that is not a zombie."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    states = [line.split() for line in listed.splitlines()]
    return any(int(pgid) == group and not state.startswith("Z") for pgid, state in states)


def records(place):
    return {path.stem: path.read_bytes() for path in place.glob("records/*.json")}


def commits(place):
    return {
        path.parent.name: path.stat().st_mtime_ns for path in place.glob("scratch/*/journal.json")
    }


def stopped(process, code):
    """Check that a sweep that has been sent a signal stops soon, with a message and no trace."""
    asked = time.monotonic()
    said, _ = process.communicate(timeout=60)  # ends when nobody holds the pipe any more
    assert time.monotonic() - asked < 45
    assert process.returncode == code, said
    while alive(process.pid) and time.monotonic() - asked < 60:
        time.sleep(0.02)  # the pipe ends a little before the process that held it
    assert not alive(process.pid)
    assert "interrupted" in said
    assert "goes on" in said
    assert "Traceback" not in said


@pytest.mark.timeout(900)
def test_a_sweep_stops_at_once_and_the_same_command_goes_on(tmp_path):
    place = tmp_path / "home" / "slow"
    (tmp_path / "slow.yaml").write_text(SUITE)

    process = start(tmp_path)
    # A cell's scratch goes after its record has come: two are in hand when neither has one.
    until(
        lambda: (done := records(place)) and len(commits(place).keys() - done.keys()) == 2, process
    )
    os.killpg(process.pid, signal.SIGINT)  # to all of them, as a terminal does
    stopped(process, 130)
    done, begun = records(place), commits(place)
    assert 1 <= len(done) <= 4
    assert all(json.loads(text)["status"] == "ok" for text in done.values())
    kept = {path.name for path in place.glob("scratch/*")}
    assert len(kept) == 2  # a cell that had just begun may not have committed a round yet
    assert begun
    assert set(begun) <= kept
    assert not kept & set(done)

    process = start(tmp_path)
    until(lambda: commits(place) != begun, process)
    process.send_signal(signal.SIGTERM)  # to the parent alone, as a scheduler does
    stopped(process, 143)

    process = start(tmp_path)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    found = records(place)
    assert len(found) == 6
    assert {name: found[name] for name in done} == done
    assert all(json.loads(text)["status"] == "ok" for text in found.values())
    assert not list(place.glob("scratch/*"))
