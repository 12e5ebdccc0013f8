"""Sweeps started as a user starts them, but forked from a server that has the libraries loaded.

Both the command and its own server of workers are forked, so that starting costs a fraction of a
second. A command leads a process group, which dies as a whole or piece by piece.
"""

import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing import util
from pathlib import Path

import yaml

from fedbench.bench.records.compare import compare
from fedbench.bench.records.record import read_record

PRELOAD = ["fedbench.bench.cells.cell", "fedbench.training.classifier", "fedbench.cli.main"]
#: Files of a report that hold times, and the parts of others that do.
TIMED = re.compile("times|seconds")
TIMED_PARTS = (
    re.compile(rb'<(script|figure|section)[^>]*id="[^"]*(?:times|seconds)[^"]*".*?</\1>', re.S),
    re.compile(rb"<!-- times -->.*?<!-- /times -->", re.S),
)

SUITE = """
name: storm
profile: only
profiles: {only: {seeds: 2}}
fixed:
  data: {name: digits, train_size: 300, test_size: 100}
  partition: {scheme: dirichlet_capped, beta: 0.5, clients: 3, min_size: 10}
  models: {name: convnet, width: 8, depth: 2}
  recipe: {epochs: 6, batch_size: 16}
  student: {epochs: 40, batch_size: 16}
  budget: {ipc: 2}
  evaluation: {curve_size: 50}
axes:
  method:
    - {name: fedavg, rounds: 5, epochs: 4}
    - ensemble
    - {name: fedprox, rounds: 4, epochs: 4}
    - random_real
"""


class Command:
    """A running command of fedbench.

    Args:
        words: What is typed after `fedbench`.
        home: What FEDBENCH_HOME is for it.
        largest: Bytes that a file may have, as on a disk that is nearly full.
    """

    def __init__(self, words, home, largest=resource.RLIM_INFINITY):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        home.mkdir(parents=True, exist_ok=True)
        self.output = home / "said.txt"
        self.process = context.Process(target=_command, args=(words, home, self.output, largest))
        self.start = time.monotonic()
        self.process.start()

    def wait(self, seconds=120.0):
        """Return whether it ended by itself within so many seconds."""
        self.process.join(seconds)
        return self.process.exitcode is not None

    def complete(self, seconds=300.0):
        """Wait so long for its end, which has to be a good one, and return its seconds."""
        assert self.wait(seconds), f"still running after {seconds} s: {self.said}"
        assert self.process.exitcode == 0, self.said
        return time.monotonic() - self.start

    def kill(self, *, everybody):
        """SIGKILL the whole group, or the parent alone; then nobody of it may be left."""
        group = self.process.pid
        if everybody:
            os.killpg(group, signal.SIGKILL)
        else:
            os.kill(group, signal.SIGKILL)
        self.process.join()
        end = time.monotonic() + 10
        while alive(group):
            assert time.monotonic() < end, "workers outlive their parent"
            time.sleep(0.02)

    @property
    def said(self):
        """What all its runs in this home have printed."""
        return self.output.read_text() if self.output.exists() else ""


class Sweep(Command):
    """A running `fedbench sweep` of a suite's file, with more options and so many workers."""

    def __init__(self, suite, home, *words, workers=2, largest=resource.RLIM_INFINITY):
        self.folder = home / yaml.safe_load(suite.read_text())["name"]
        self._begun = sum(begun(self.folder).values())
        options = ["--workers", str(workers), "--device", "cpu", "--offline", *words]
        super().__init__(["sweep", str(suite), *options], home, largest)

    def until_a_cell_begins(self):
        """Wait until one of its workers has a cell in hand, or it has ended."""
        while sum(begun(self.folder).values()) == self._begun and not self.wait(0.01):
            assert time.monotonic() < self.start + 120, self.said


def alive(group):
    """Return whether a process group has a member that is not a zombie."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    states = [line.split() for line in listed.splitlines()]
    return any(int(pgid) == group and not state.startswith("Z") for pgid, state in states)


def same_results(one, other):
    """Assert that two suite folders hold equal records and equal reports, times aside."""
    left, right = _records(one), _records(other)
    assert left.keys() == right.keys()
    for name, record in left.items():
        assert record.status == "ok", record.traceback
        assert compare(record, right[name]) == [], name
    left, right = _report(one), _report(other)
    assert left.keys() == right.keys()
    assert left, "there is no report"
    for name, content in left.items():
        assert content == right[name], f"report/{name} differs"


def begun(folder):
    """Return how often each cell was begun, by its log."""
    return {
        path.stem: path.read_text().count(" begin ") for path in (folder / "logs").glob("*.log")
    }


def _records(folder):
    return {path.stem: read_record(path) for path in (folder / "records").glob("*.json")}


def _report(folder):
    found, report = {}, folder / "report"
    for path in sorted(report.rglob("*")):
        name = str(path.relative_to(report))
        if path.is_file() and not TIMED.search(name):
            content = path.read_bytes()
            for part in TIMED_PARTS:
                content = part.sub(b"", content)
            found[name] = content
    return found


def _command(words, home, output, largest):
    os.setsid()
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    os.environ.update(FEDBENCH_HOME=str(home), OMP_NUM_THREADS="1")
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(handle, number)
    os.close(handle)
    util.spawnv_passfds = _fork_server
    sys.argv = ["fedbench", *words]
    from fedbench.cli.main import main

    main()


def _fork_server(program, words, passed, spawn=util.spawnv_passfds):
    """Fork the server of workers, which would else import its libraries for seconds."""
    if "forkserver" not in words[-1]:
        return spawn(program, words, passed)
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    opened = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    for handle in opened - {0, 1, 2, *passed}:
        with suppress(OSError):  # the listing's own
            os.close(handle)
    try:
        exec(words[-1], {})
    finally:  # never up into the command that it was forked from
        os._exit(0)


def suite_file(folder: Path, text: str = SUITE) -> Path:
    """Write a suite's file and return its path."""
    path = folder / "suite.yaml"
    path.write_text(text)
    return path
