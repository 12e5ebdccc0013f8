"""The Ray executor's decisions, with a Ray that computes in this process and fails as told."""

import dataclasses
import sys
from collections import deque
from pathlib import Path

import pytest

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.running import Heartbeat, running_path
from fedbench.bench.executors import cluster, execute
from fedbench.bench.executors.job import Event, Job, silent
from fedbench.bench.records.record import find_record, record_path, write_record
from fedbench.bench.suites.plan import planned
from fedbench.config import parse
from fedbench.errors import SettingsError, StoreError
from fedbench.federation.context import Progress
from fedbench.files import Lock, write_atomic

exceptions = pytest.importorskip("ray").exceptions
LOST = exceptions.NodeDiedError("gone")
CRASHED = exceptions.WorkerCrashedError()
STARVED = exceptions.OutOfMemoryError("no memory")


@dataclasses.dataclass(eq=False)
class Answer:
    function: object
    values: tuple


class FakeRay:
    """Computes a task when it is waited for; a cell's outcomes may be scripted beforehand."""

    exceptions = exceptions

    def __init__(self, **resources):
        self.resources, self.script = resources or {"CPU": 2.0}, {}
        self.options, self.tasks, self.hand, self.most = {}, [], [], 0
        self.cancelled = []

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return self.resources

    def remote(self, **options):
        self.options = options
        ray = self

        class Function:
            def __init__(self, function):
                self.function = function

            def remote(self, *values):
                ray.tasks.append(values)
                ray.hand.append(Answer(self.function, values))
                ray.most = max(ray.most, len(ray.hand))
                return ray.hand[-1]

        return Function

    def wait(self, answers, num_returns=1, timeout=None):
        return answers[:num_returns], answers[num_returns:]

    def get(self, answer):
        self.hand.remove(answer)
        function, values = answer.function, answer.values
        outcome = self.script.get(values[1], deque()) and self.script[values[1]].popleft()
        if isinstance(outcome, tuple):  # dies when it is done
            function(*values)
            outcome = outcome[0]
        if isinstance(outcome, Exception):
            raise outcome
        return function(*values)

    def cancel(self, answer, force):
        assert force
        self.cancelled.append(answer.values[1])

    def order(self):
        return [values[1] for values in self.tasks]


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setattr(cluster, "_import_ray", lambda: fake)
    monkeypatch.setattr(cluster, "LOOK", 0.0)
    return fake


@pytest.fixture
def cells(tiny):
    small = {"data": {"train_size": 40, "test_size": 20}, "partition": {"clients": 1}}
    return [planned(tiny("local", seed=seed, **small)) for seed in range(4)]


@pytest.fixture
def sweep(runtime):
    def run(cells, workers=0, means=runtime, **over):
        found = execute(
            cells, means, suite="test", profile=None, workers=workers, executor="ray", **over
        )
        return {record.cell_id: record for record in found}

    return run


def test_as_many_cells_are_in_hand_as_there_is_room_and_in_the_order_given(ray, cells, sweep):
    found = sweep(cells)
    assert {record.status for record in found.values()} == {"ok"}
    assert ray.order() == list(found) == [entry.cell_id for entry in cells]
    assert ray.most == 2
    assert ray.options["num_cpus"] == 1
    assert ray.options["num_gpus"] == 0
    assert ray.options["max_retries"] == 0
    assert ray.options["runtime_env"] == {"env_vars": {"OMP_NUM_THREADS": "1"}}
    assert "max_calls" not in ray.options


def test_workers_bound_the_cells_in_hand(ray, cells, sweep):
    sweep(cells[:3], 1)
    assert ray.most == 1
    ray.tasks.clear()
    sweep(cells[3:], 3)  # more than there is room for: an autoscaler may make it
    assert len(ray.tasks) == 1


def test_a_task_carries_only_what_its_cell_needs(ray, cells, sweep):
    sweep(cells)
    for settings, cell_id, job in ray.tasks:
        assert parse(settings).cell_id == cell_id
        assert job.before == {cell_id: None}


def test_nothing_is_submitted_after_a_no(ray, cells, sweep):
    says = iter([True, True, True, False])
    found = sweep(cells, go_on=lambda: next(says))  # a further question would be an error
    assert list(found) == [entry.cell_id for entry in cells[:3]]


def test_no_cells_need_no_cluster(monkeypatch, sweep):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert sweep([]) == {}


def test_a_cell_that_kills_its_worker_is_tried_once_more_as_the_last(ray, cells, sweep, runtime):
    ids = [entry.cell_id for entry in cells]
    ray.script[ids[0]] = deque([CRASHED])
    ray.script[ids[1]] = deque([CRASHED, STARVED])
    found = sweep(cells)
    assert ray.order() == [*ids, ids[0], ids[1]]
    assert [found[name].status for name in ids] == ["ok", "failed", "ok", "ok"]
    assert "worker process died" in found[ids[1]].reason
    assert "want of memory" in found[ids[1]].reason
    assert find_record(runtime.home, "test", ids[1])[1] == found[ids[1]]


def test_a_lost_node_is_not_the_cells_fault(ray, cells, sweep):
    ids = [entry.cell_id for entry in cells]
    ray.script[ids[0]] = deque([LOST, exceptions.ObjectLostError("0", None, ""), LOST])
    ray.script[ids[1]] = deque([LOST] * 5)
    found = sweep(cells)
    assert [found[name].status for name in ids] == ["ok", "failed", "ok", "ok"]
    assert "5 nodes were lost" in found[ids[1]].reason
    assert ray.order()[:3] == [ids[0], ids[1], ids[0]]  # goes on at once


@pytest.mark.parametrize("death", [CRASHED, LOST])
def test_a_record_written_just_before_a_death_counts(ray, cells, sweep, death):
    ray.script[cells[0].cell_id] = deque([(death,)])
    assert sweep(cells)[cells[0].cell_id].status == "ok"
    assert len(ray.tasks) == 4


def test_a_failure_is_a_record_and_no_retry(ray, cells, sweep, runtime, monkeypatch):
    def broken(*_, **__):
        raise ValueError("no")

    monkeypatch.setattr("fedbench.bench.cells.cell._compute", broken)
    found = sweep(cells)
    assert {record.reason for record in found.values()} == {"ValueError: no"}
    assert len(ray.tasks) == 4


def test_a_cell_in_other_hands_is_waited_for_and_not_computed(ray, cells, sweep, runtime):
    mine, other = cells[:2]
    lock = Lock(runtime.home / "test" / "locks" / f"{other.cell_id}.lock")
    assert lock.acquire(wait=False)
    asked = []

    def go_on():
        asked.append(len(ray.tasks))
        if len(asked) == 5:
            lock.release()
            record = run_cell(other.cell, runtime, suite="apart")
            record = record.model_copy(update={"wall_seconds": 77.0})
            write_record(record_path(runtime.home, "test", other.cell_id), record)
        return True

    found = sweep([mine, other], go_on=go_on)
    assert found[other.cell_id].wall_seconds == 77.0
    assert found[mine.cell_id].status == "ok"


def test_a_cell_whose_other_owner_is_gone_is_computed(ray, cells, sweep, runtime):
    lock = Lock(runtime.home / "test" / "locks" / f"{cells[0].cell_id}.lock")
    assert lock.acquire(wait=False)
    found = sweep(cells[:1], go_on=lambda: len(ray.tasks) < 3 or lock.release() or True)
    assert found[cells[0].cell_id].status == "ok"
    assert len(ray.tasks) == 4


def test_a_no_ends_the_waiting_for_others(ray, cells, sweep, runtime):
    lock = Lock(runtime.home / "test" / "locks" / f"{cells[0].cell_id}.lock")
    assert lock.acquire(wait=False)
    assert sweep(cells[:1], go_on=lambda: len(ray.tasks) < 3) == {}


@pytest.fixture
def engine(ray, cells, runtime):
    job = Job(runtime, "test", None, (), ("cpu",))
    (runtime.home / "test").mkdir()
    return cluster._Sweep(ray, cells, job, 3, 0.0)


def test_heartbeats_of_our_cells_become_events(engine, cells, runtime):
    engine._fill(lambda: True)
    for entry in cells[1:]:
        path = running_path(runtime.home, "test", entry.cell_id)
        at = Progress(round=2, rounds=3, stage="client 1", done=4, total=5)
        beat = Heartbeat(path)
        beat.show(at)
        beat._write()
    events = []
    engine._watch(events.append)
    assert sorted(events, key=lambda event: event.worker) == [
        Event(slot, cells[slot].cell_id, 2, 3, "client 1", 4, 5) for slot in (1, 2)
    ]


def test_a_slot_is_used_again(engine, cells):
    engine._fill(lambda: True)
    assert [slot for slot, _ in engine._flying.values()] == [0, 1, 2]
    engine._hear(list(engine._flying)[1])
    engine._fill(lambda: True)
    assert [slot for slot, _ in engine._flying.values()] == [0, 2, 1]


def test_closing_cancels_what_is_in_hand(ray, cells, runtime):
    records = execute([*cells], runtime, suite="test", profile=None, workers=3, executor="ray")
    next(records)
    stale = running_path(runtime.home, "test", cells[2].cell_id)
    write_atomic(stale, "{}")
    records.close()
    assert ray.cancelled == [entry.cell_id for entry in cells[1:]]
    assert not stale.exists()


@pytest.mark.parametrize(
    ("device", "there", "share", "expected"),
    [
        ("auto", {"CPU": 4.0, "GPU": 2.0}, 0.25, ("cuda", 0.25, 4)),
        ("cuda", {"CPU": 16.0, "GPU": 2.0}, 0.3, ("cuda", 0.3, 6)),
        ("cuda", {"CPU": 16.0, "GPU": 1.0}, 0.1, ("cuda", 0.1, 10)),
        ("cpu", {"CPU": 4.0, "GPU": 2.0}, 1.0, ("cpu", 0.0, 4)),
        ("auto", {"CPU": 3.0}, 0.5, ("cpu", 0.0, 3)),
    ],
)
def test_gpus_are_asked_for_in_shares(device, there, share, expected):
    fake = FakeRay(**there)
    name, gpus = cluster._needs(fake, device, share)
    assert (name, gpus, cluster._capacity(fake, gpus)) == expected


def test_a_worker_that_has_seen_a_gpu_is_not_used_again(cells, runtime):
    fake = FakeRay(CPU=1.0, GPU=1.0)
    cluster._Sweep(fake, cells, Job(runtime, "test", None, (), ("cuda",)), 0, 0.5)
    assert fake.options["max_calls"] == 1
    assert fake.options["num_gpus"] == 0.5


@pytest.mark.parametrize(
    ("device", "words"), [("cuda", "no node with a GPU"), ("cuda:1", "say --device cuda")]
)
def test_a_device_that_no_node_has_is_an_error(
    ray, cells, sweep, runtime, monkeypatch, device, words
):
    monkeypatch.setattr(cluster, "_NODES", 0.0)
    with pytest.raises(SettingsError, match=words):
        sweep(cells, means=dataclasses.replace(runtime, device=device))


def test_a_share_above_one_gpu_is_an_error(runtime, cells):
    job = Job(runtime, "test", None, (), ("cuda",))
    with pytest.raises(SettingsError, match="not 2"):
        next(cluster.execute(cells, job, 0, None, silent, lambda: True, gpus_per_cell=2.0))


def test_paths_hold_in_any_working_directory(ray, cells, runtime, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    means = dataclasses.replace(runtime, home=Path("runs"), data=Path("data"))
    job = cluster._portable(Job(means, "test", None, ("mine.py", "a.module"), ("cpu",)))
    assert job.runtime.home == tmp_path / "runs"
    assert job.runtime.data == tmp_path / "data"
    assert job.plugins == (str(tmp_path / "mine.py"), "a.module")


def test_a_node_with_another_fedbench_stops_the_sweep(ray, cells, sweep, monkeypatch):
    monkeypatch.setattr(cluster, "parse", lambda _: cells[1].cell)
    with pytest.raises(SettingsError, match="another version of fedbench"):
        sweep(cells[:1])


def test_a_node_without_the_shared_folder_stops_the_sweep(ray, cells, runtime):
    settings, cell_id = cells[0].cell.model_dump(mode="json"), cells[0].cell_id
    said = cluster._compute(settings, cell_id, Job(runtime, "unseen", None, (), ("cpu",)))
    assert isinstance(said, StoreError)
    assert f"does not see {runtime.home / 'unseen'}" in str(said)


def test_what_ray_cannot_do_is_named(ray, cells, sweep):
    ray.script[cells[0].cell_id] = deque([exceptions.RuntimeEnvSetupError("no such thing")])
    with pytest.raises(SettingsError, match=r"no such thing.*every node needs"):
        sweep(cells)


def test_without_ray_the_error_names_the_extra(cells, sweep, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match="extra `cluster`"):
        sweep(cells)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:9", "no answer within 0.2 seconds"),
        ("nonsense", "no answer within 0.2 seconds"),
        ("ray://127.0.0.1:9", "a sweep has to run on a node"),
    ],
)
def test_an_address_where_nobody_answers_is_named(cells, sweep, monkeypatch, address, why):
    monkeypatch.setattr(cluster, "_ANSWER", 0.2)
    with pytest.raises(SettingsError, match=f"at {address}: {why}.*ray start --head"):
        sweep(cells, address=address)
