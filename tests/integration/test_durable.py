"""SIGKILL at random moments of every kind of durable work: equal bits, seconds but for a stage."""

import multiprocessing
import os
import random
import signal
import time

import pytest
from everything import LONGEST, work
from forked import PRELOAD

from fedbench.bench.records.compare import compare
from fedbench.bench.records.record import read_record

SIDES = ("client_seconds", "server_seconds")


def start(home, cache):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD, "fedbench.federation.loop", "optuna"])
    home.mkdir(exist_ok=True)
    process = context.Process(target=work, args=(home, cache))
    process.start()
    return process


def complete(home, cache):
    process = start(home, cache)
    process.join(120)
    assert process.exitcode == 0
    (path,) = (home / "storm" / "records").glob("*.json")
    return read_record(path)


def saves(home):
    """Return the time of the journal's last save, or None."""
    for path in (home / "storm" / "scratch").glob("*/journal.json"):
        try:
            return path.stat().st_mtime_ns
        except FileNotFoundError:  # finished at this moment
            return None
    return None


def storm(folder, cache, kills, seed):
    """Kill a cell until that has happened so many times; each ends in a complete run."""
    start_of_calm = time.monotonic()
    calm = complete(folder / "calm", cache)
    assert calm.ledger["server_seconds"] > 10
    assert len(calm.curves) == 10
    length, source, killed, places = time.monotonic() - start_of_calm, random.Random(seed), 0, set()
    while killed < kills:
        home, hits = folder / f"home-{killed}", 0
        while killed < kills and hits < 5:
            process, saved = start(home, cache), saves(home)
            # Half of the moments are drawn over the whole run, half just after a commit.
            if source.random() < 0.5:
                while process.is_alive() and saves(home) == saved:
                    time.sleep(0.002)
                moment = source.uniform(0, 0.1)
            else:
                moment = source.uniform(0, length)
            process.join(moment)
            if not process.is_alive():
                break
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            killed, hits = killed + 1, hits + 1
            places.add(saves(home))
        stormy = complete(home, cache)
        assert compare(calm, stormy) == []
        for side in SIDES:
            assert calm.ledger[side] <= stormy.ledger[side] + 1e-6
            assert stormy.ledger[side] <= calm.ledger[side] + hits * LONGEST
        assert not list((home / "storm" / "scratch").iterdir())
    assert len(places) > kills / 4, "the kills hit too few places"


@pytest.mark.timeout(300)
def test_four_kills_leave_no_trace(tmp_path, cache):
    storm(tmp_path, cache, kills=4, seed=1)


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_twenty_kills_leave_no_trace(tmp_path, cache):
    storm(tmp_path, cache, kills=20, seed=2)
