"""Sweeps on a real Ray cluster of two nodes: equal numbers, lost nodes, two and dead drivers."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from shared import hearing

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.executors import execute
from fedbench.bench.records.compare import compare
from fedbench.bench.records.record import read_record
from fedbench.bench.suites.plan import planned
from fedbench.methods import METHODS
from fedbench.plugins import load_plugin

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("ray")]

METHOD = """
import os, time
import ray
from fedbench.methods.local import Local
class Odd(Local):
    name = 'odd'
    def client_model(self, client):
        node = ray.get_runtime_context().get_node_id()
        with open({trace!r}, 'a') as file:
            file.write(f'{{client.cell.seed}} {{node}}\\n')
        {code}
        return super().client_model(client)
"""
DRIVER = """
import sys
from contextlib import closing
from pathlib import Path
from fedbench.bench.executors import execute
from fedbench.bench.cells.lookup import good_record
from fedbench.bench.suites.plan import planned
from fedbench.bench.cells.runtime import Runtime
from fedbench.config import Cell
from fedbench.plugins import load_plugin

def main():
    address, home, plugin, *texts = sys.argv[1:]
    load_plugin(plugin)
    means = Runtime(home=Path(home), data=Path('nowhere'), device='cpu', offline=True)
    cells = [planned(Cell.model_validate_json(text)) for text in texts]
    todo = [
        entry for entry in cells if good_record(means.home, 'test', entry.cell, means.data) is None
    ]
    with closing(execute(
        todo, means, suite='test', profile=None, workers=0, executor='ray', address=address or None,
        plugins=[plugin],
    )) as records:
        print('begun', flush=True)
        for record in records:
            print(record.cell_id, record.status, flush=True)

if __name__ == '__main__':
    main()
"""


SUITE = """
name: tiny
profile: only
fixed:
  data: {name: digits, train_size: 60, test_size: 30}
  partition: {scheme: iid, clients: 2}
  models: {name: convnet, width: 4, depth: 2}
  recipe: {epochs: 1, batch_size: 16}
axes:
  method: [local, ensemble]
profiles:
  only: {seeds: 2}
"""


@pytest.fixture(scope="module", autouse=True)
def _alone():
    """Ray sends nothing anywhere and leaves no token in the home folder."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield


@pytest.fixture(scope="module")
def short():
    """A folder with a short name: the paths of sockets are bounded."""
    folder = tempfile.mkdtemp(prefix="fb-", dir="/tmp")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cluster(_alone):
    """Two nodes with a core each."""
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="fb-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)  # the address that `auto` would find lies there, too
        made = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        made.add_node(num_cpus=1)
        yield made
        made.shutdown()
    shutil.rmtree(folder)


@pytest.fixture
def odd(tmp_path):
    """Make a method ``odd`` that notes seed and node whenever it begins a cell."""
    trace = tmp_path / "trace"
    trace.touch()

    def make(code):
        plugin = tmp_path / "odd.py"
        plugin.write_text(METHOD.format(trace=str(trace), code=code))
        load_plugin(str(plugin))
        return str(plugin), lambda: [line.split() for line in trace.read_text().splitlines()]

    yield make
    METHODS._loaded.pop("odd")


@pytest.fixture
def odd_cells(tiny):
    def make(count):
        small = {"data": {"train_size": 40}, "partition": {"clients": 1}}
        return [planned(tiny("odd", seed=seed, **small)) for seed in range(count)]

    return make


@pytest.fixture
def drive(tmp_path, home):
    """Start a driver in a process group of its own; whatever is left of it is killed."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    started = []

    def start(plugin, cells, address):
        words = [entry.cell.model_dump_json() for entry in cells]
        started.append(
            subprocess.Popen(
                [sys.executable, str(script), address, str(home), plugin, *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=hearing,
                cwd=Path(__file__).parents[2],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(found, seconds=200.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found():
            return
        time.sleep(0.02)
    pytest.fail("it did not come that far")


def records(home):
    return {path.stem: path.read_bytes() for path in home.glob("test/records/*.json")}


def test_two_nodes_give_the_numbers_of_one_process(cluster, tiny, runtime, home, odd):
    plugin, starts = odd(
        "if client.cell.seed == 9 or len(open(file.name).readlines()) == 1: os._exit(9)"
    )
    methods = ("ensemble", {"name": "fedavg", "preset": "one_shot"}, "local", "odd")
    cells = [planned(tiny(method, seed=seed)) for seed in range(2) for method in methods]
    deadly = planned(tiny("odd", seed=9, partition={"clients": 1}))
    events, found, handler = [], {}, signal.getsignal(signal.SIGTERM)
    for record in execute(
        [deadly, *cells],
        runtime,
        suite="test",
        profile=None,
        workers=0,
        executor="ray",
        address=cluster.address,
        plugins=[plugin],
        on_event=events.append,
    ):
        assert signal.getsignal(signal.SIGTERM) is handler  # Ray has its own
        found[record.cell_id] = record
    assert len(found) == 9
    assert found[deadly.cell_id].status == "failed"
    assert "worker process died" in found[deadly.cell_id].reason
    assert Counter(seed for seed, _ in starts())["9"] == 2
    alone = dataclasses.replace(runtime, home=home.parent / "alone")
    for entry in cells:
        if entry.cell.method.name != "odd":
            assert found[entry.cell_id].environment["threads"] == 1
            assert compare(run_cell(entry.cell, alone, suite="test"), found[entry.cell_id]) == []
        assert found[entry.cell_id].status == "ok"
    assert {event.worker for event in events} <= {0, 1}
    assert {event.cell_id for event in events} <= set(found)


@pytest.mark.thorough
def test_a_lost_node_costs_only_what_it_had_in_hand(cluster, runtime, home, odd, odd_cells):
    plugin, starts = odd("time.sleep(2.0)")
    cells = odd_cells(7)
    victim = cluster.add_node(num_cpus=1)
    lost = []

    def kill():
        """Kill the node as soon as it begins a cell after the second record."""
        until(lambda: len(records(home)) >= 2)
        before = len(starts())
        until(lambda: victim.node_id in [node for _, node in starts()[before:]])
        lost.extend(seed for seed, node in starts()[before:] if node == victim.node_id)
        cluster.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    found = list(
        execute(
            cells,
            runtime,
            suite="test",
            profile=None,
            workers=0,
            executor="ray",
            address=cluster.address,
            plugins=[plugin],
        )
    )
    killer.join()
    assert len(lost) == 1
    assert sorted(record.cell_id for record in found) == sorted(entry.cell_id for entry in cells)
    assert {record.status for record in found} == {"ok"}
    for record in found:
        path = home / "test" / "records" / f"{record.cell_id}.json"
        assert read_record(path) == record
    times = Counter(seed for seed, _ in starts())
    assert times == {**{str(seed): 1 for seed in range(7)}, lost[0]: 2}
    assert [node for seed, node in starts() if seed == lost[0]][1] != victim.node_id


@pytest.mark.thorough
def test_two_drivers_compute_each_cell_once(home, odd, odd_cells, drive, cluster):
    plugin, starts = odd(
        "time.sleep(0.5)\n"
        "        if client.cell.seed == 3 and open(file.name).read().count('3 ') == 1: os._exit(9)"
    )
    cells = odd_cells(8)
    drivers = [drive(plugin, cells, cluster.address) for _ in range(2)]
    said = [driver.communicate(timeout=300)[0] for driver in drivers]
    everything = {"begun", *(f"{entry.cell_id} ok" for entry in cells)}
    assert [set(text.splitlines()) for text in said] == [everything, everything]  # Ray is quiet
    times = Counter(seed for seed, _ in starts())
    assert times == {**{str(seed): 1 for seed in range(8)}, "3": 2}


@pytest.mark.thorough
def test_a_driver_is_killed_and_the_same_command_goes_on(home, odd, odd_cells, drive, cluster):
    plugin, starts = odd("time.sleep(1.0)")
    cells = odd_cells(6)

    first = drive(plugin, cells, cluster.address)
    until(lambda: len(records(home)) >= 2 and len(starts()) > len(records(home)))
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    done = records(home)

    second = drive(plugin, cells, cluster.address)
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0, said
    found = records(home)
    assert len(found) == 6
    assert {name: found[name] for name in done} == done
    assert all(read_record(path).status == "ok" for path in home.glob("test/records/*"))
    assert len(starts()) <= 6 + 2  # what was in hand


def test_our_own_cluster_ends_with_the_sweep(home, odd, odd_cells, drive, short, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", short)
    plugin, starts = odd("time.sleep(0 if client.cell.seed == 0 else 100)")
    driver = drive(plugin, odd_cells(3), address="")
    until(lambda: len(records(home)) == 1 and len(starts()) == 3)
    assert len(list(Path(short).iterdir())) == 1
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    asked = time.monotonic()
    said, _ = driver.communicate(timeout=240)  # ends when nobody holds the pipe any more
    assert time.monotonic() - asked < 120
    assert said.splitlines()[0] == "begun"
    assert "KeyboardInterrupt" in said
    assert not list(Path(short).iterdir())
    assert len(records(home)) == 1
    assert not list(home.glob("test/running/*"))


@pytest.mark.thorough
def test_the_slurm_script_runs_a_sweep_and_leaves_nothing(tmp_path, home):
    tools, root = tmp_path / "tools", Path(__file__).parents[2]
    tools.mkdir()
    for name, body in {
        "scontrol": "echo $SLURM_JOB_NODELIST | tr , '\\n'",
        "srun": 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"',
        "fedbench": f'exec {sys.executable} -m fedbench.cli.main "$@"',
        "python": f'exec {sys.executable} "$@"',
        "ray": f'exec {sys.executable} -c "from ray.scripts.scripts import main; main()" "$@"',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(tools)
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE)
    job = 100_000 + os.getpid()
    slurm = {
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NODELIST": "localhost,localhost",
        "SLURM_CPUS_PER_TASK": "1",
    }
    process = subprocess.Popen(
        ["bash", str(root / "scripts/slurm/ray.sh"), str(suite), "--device", "cpu", "--offline"],
        env={
            **os.environ,
            **slurm,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(root),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hearing,
    )
    try:
        said, _ = process.communicate(timeout=400)  # ends when Ray has ended, too
    finally:
        with suppress(ProcessLookupError):  # nobody of the group is left
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said
    assert len(list(home.glob("tiny/records/*.json"))) == 4
    assert not Path(f"/tmp/ray-{job}").exists()
