"""The Ray executor: cells are tasks of a cluster, on this machine or on many.

Unlike the local executor it owns no workers: Ray starts them on whichever node has a core, or a
share of a GPU, free. Settings go out and records come back; all else lies in folders that every
node sees, and a cell's lock there holds over all of them. Ray is given only as many cells as can
run, so that a sweep can stop after those in hand, and its own retries are off: they can neither
see that a dead worker has left a record, nor tell a cell that kills its worker from a lost node.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fedbench.bench.cells.environment import available_cores
from fedbench.bench.cells.reasons import death
from fedbench.bench.cells.running import BusyError, in_hand, running_path
from fedbench.bench.executors.job import Event, Job, failure, finished, silent, work
from fedbench.bench.executors.place import session_folder
from fedbench.bench.records.record import Record
from fedbench.bench.suites.plan import Planned
from fedbench.config import parse
from fedbench.errors import FedbenchError, SettingsError, StoreError
from fedbench.files import writing
from fedbench.plugins import load_plugin

if TYPE_CHECKING:
    from ray import ObjectRef

    Answer = ObjectRef[Record | FedbenchError]

#: Seconds between two looks at heartbeats, free cells and the cluster's size.
LOOK = 1.0
#: Seconds that a cluster has to answer, and then to show a node that can compute.
_ANSWER, _NODES = 15.0, 60.0
#: Seconds that cancelled cells have to be gone.
_GRACE = 5.0
#: Deaths of workers, and losses of nodes, after which a cell has failed.
_DEATHS, _LOSSES = 2, 5
#: Ray needs little of it, because nothing large travels; in bytes, its least is 75 MiB.
_OBJECT_STORE = 80 * 2**20


def execute(
    cells: Sequence[Planned],
    job: Job,
    workers: int,
    address: str | None,
    on_event: Callable[[Event], None],
    go_on: Callable[[], bool],
    gpus_per_cell: float = 1.0,
) -> Generator[Record, None, None]:
    """Compute cells as tasks of a Ray cluster (see ``fedbench.bench.executors.execute``).

    A cell whose worker died is tried once more when all others are done; one whose node was lost
    goes on elsewhere at once. Where this process is connected to a cluster, that one is used.

    Args:
        cells: What to compute, in this order.
        job: Where and how. ``auto`` is a GPU if the cluster has one.
        workers: How many cells at once; 0 is as many as the cluster has room for.
        address: Of the cluster: ``HOST:PORT`` or ``auto``; by default ``RAY_ADDRESS``, or else a
            cluster on this machine that ends with the sweep.
        on_event: Called with what workers are doing, about once a second.
        go_on: Asked before Ray is given a cell; where it says no, those in hand are the last.
        gpus_per_cell: The share of a GPU that a cell takes, above 0 and at most 1.

    Raises:
        SettingsError: Ray is not installed, no cluster answers, it has nothing to compute with,
            or its nodes have another fedbench.
        StoreError: A node does not see the folder of the results, or it cannot be written.
    """
    if not 0 < gpus_per_cell <= 1:
        raise SettingsError(f"a cell takes one GPU or a share of it, not {gpus_per_cell:g}")
    if not cells:
        return
    ray = _import_ray()
    job = _portable(job)
    folder = job.runtime.home / job.suite
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _cluster(ray, address, workers):
        device, gpus = _needs(ray, job.runtime.device, gpus_per_cell)
        job = replace(job, runtime=replace(job.runtime, device=device))
        yield from _Sweep(ray, cells, job, workers, gpus).run(on_event, go_on)


class _Sweep:
    """The cells of a sweep and where each of them is.

    Args:
        ray: The library, connected.
        cells: What to compute, in this order.
        job: Where and how, in words that hold on every node.
        workers: How many cells at once; 0 is as many as there is room for.
        gpus: What a cell takes.
    """

    def __init__(
        self, ray: ModuleType, cells: Sequence[Planned], job: Job, workers: int, gpus: float
    ) -> None:
        self._ray, self._job, self._workers, self._gpus = ray, job, workers, gpus
        # A worker is not used again once it has seen a GPU: the next cell may get another one.
        calls = {"max_calls": 1} if gpus else {}
        self._task = ray.remote(
            num_cpus=1,
            num_gpus=gpus,
            max_retries=0,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
            **calls,
        )(_compute)
        self._room = self._measure()
        self._left = deque(cells)
        self._elsewhere: list[Planned] = []
        self._flying: dict[Answer, tuple[int, Planned]] = {}
        self._deaths: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()

    def run(
        self, on_event: Callable[[Event], None], go_on: Callable[[], bool]
    ) -> Generator[Record, None, None]:
        """Yield the record of every cell."""
        looked = time.monotonic()
        try:
            self._fill(go_on)
            while self._flying or self._left or self._elsewhere:
                for answer in self._answers():
                    record = self._hear(answer)
                    self._fill(go_on)  # before the caller takes its time
                    if record is not None:
                        yield record
                if time.monotonic() - looked >= LOOK:
                    yield from self._look_elsewhere()
                    self._watch(on_event)
                    self._room, looked = self._measure(), time.monotonic()
                    self._fill(go_on)
        finally:
            self._cancel()

    def _fill(self, go_on: Callable[[], bool]) -> None:
        """Hand Ray as many cells as there is room for; after a no, forget the rest."""
        while self._left and len(self._flying) < self._room:
            if not go_on():
                self._left.clear()
            else:
                self._submit(self._left.popleft())

    def _measure(self) -> int:
        return self._workers or _capacity(self._ray, self._gpus)

    def _submit(self, entry: Planned) -> None:
        """Hand Ray a cell, with what concerns it alone."""
        before = {entry.cell_id: self._job.before.get(entry.cell_id)}
        job = replace(self._job, before=before)
        answer = self._task.remote(entry.cell.model_dump(mode="json"), entry.cell_id, job)
        taken = {slot for slot, _ in self._flying.values()}
        slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        self._flying[answer] = slot, entry

    def _answers(self) -> list[Answer]:
        """Wait a little for cells to end."""
        if not self._flying:
            time.sleep(LOOK)
            return []
        ready: list[Answer] = self._ray.wait(list(self._flying), timeout=LOOK)[0]
        return ready

    def _hear(self, answer: Answer) -> Record | None:
        """Return the record of a cell that has ended, or put it back where it has none."""
        _, entry = self._flying.pop(answer)
        errors = self._ray.exceptions
        try:
            said: Record | FedbenchError = self._ray.get(answer)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError) as error:
            # Alone in its node's memory, more or less: when all others are done.
            starved = isinstance(error, errors.OutOfMemoryError)
            reason = death(-signal.SIGKILL if starved else None)
            return self._again(entry, self._deaths, _DEATHS, reason, self._left.append)
        except (errors.NodeDiedError, errors.LocalRayletDiedError, errors.ObjectLostError):
            reason = f"{_LOSSES} nodes were lost while they computed this cell; " + death(None)
            return self._again(entry, self._losses, _LOSSES, reason, self._left.appendleft)
        except errors.RayError as error:
            raise SettingsError(
                f"Ray cannot compute cell {entry.cell_id}: {error}; every node needs this Python "
                "environment with fedbench and the extra `cluster` in it"
            ) from error
        if isinstance(said, BusyError):
            self._elsewhere.append(entry)
            return None
        if isinstance(said, FedbenchError):
            raise said
        return said

    def _again(
        self,
        entry: Planned,
        count: Counter[str],
        bound: int,
        reason: str,
        put_back: Callable[[Planned], None],
    ) -> Record | None:
        """Put a cell back whose worker is gone, unless it has a record or no try left."""
        if (found := finished(entry, self._job)) is not None:
            return found
        count[entry.cell_id] += 1
        if count[entry.cell_id] >= bound:
            return failure(entry, self._job, reason)
        put_back(entry)
        return None

    def _look_elsewhere(self) -> Iterator[Record]:
        """Yield what other processes have finished; the rest may be tried again, as the last."""
        waiting, self._elsewhere = self._elsewhere, []
        for entry in waiting:
            if (found := finished(entry, self._job)) is not None:
                yield found
            else:
                self._left.append(entry)

    def _watch(self, on_event: Callable[[Event], None]) -> None:
        """Tell what the heartbeats of the cells in hand say."""
        slots = {entry.cell_id: slot for slot, entry in self._flying.values()}
        for beat in in_hand(self._job.runtime.home / self._job.suite):
            if beat.cell_id in slots:
                at = beat.round, beat.rounds, beat.stage, beat.done, beat.total
                on_event(Event(slots[beat.cell_id], beat.cell_id, *at))

    def _cancel(self) -> None:
        """Stop the cells in hand, whatever they are doing."""
        if not self._flying:
            return
        for answer in self._flying:
            self._ray.cancel(answer, force=True)
        self._ray.wait(list(self._flying), num_returns=len(self._flying), timeout=_GRACE)
        home, suite = self._job.runtime.home, self._job.suite
        for _, entry in self._flying.values():
            running_path(home, suite, entry.cell_id).unlink(missing_ok=True)


def _compute(settings: dict[str, Any], cell_id: str, job: Job) -> Record | FedbenchError:
    """Be a worker: return a cell's record, or why it cannot be computed here."""
    try:
        for plugin in job.plugins:
            load_plugin(plugin)
        cell, node, folder = parse(settings), platform.node(), job.runtime.home / job.suite
        if cell.cell_id != cell_id:
            raise SettingsError(
                f"to node {node}, cell {cell_id} is {cell.cell_id}: it has another version of "
                "fedbench, or of a plugin; all nodes need the same"
            )
        if not folder.is_dir():
            raise StoreError(
                f"node {node} does not see {folder}; set FEDBENCH_HOME to a folder that all nodes "
                "share under the same path"
            )
        return work(Planned(cell, cell_id, None), job, silent, wait=False)
    except FedbenchError as error:
        return error


def _portable(job: Job) -> Job:
    """Return a job whose paths hold in any working directory."""
    means = job.runtime
    plugins = tuple(
        str(Path(plugin).absolute()) if plugin.endswith(".py") else plugin for plugin in job.plugins
    )
    runtime = replace(means, home=means.home.absolute(), data=means.data.absolute())
    return replace(job, runtime=runtime, plugins=plugins)


def _import_ray() -> ModuleType:
    # Read when Ray is imported: its notes about workers would land in the progress display.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise SettingsError(
            "Ray is not installed; install the extra `cluster` (fedbench-oneshot[cluster]) from "
            "the checkout, as `make setup` does, or say --executor local"
        ) from error
    return ray


@contextmanager
def _cluster(ray: ModuleType, address: str | None, workers: int) -> Iterator[None]:
    """Be connected for the length of the block; a cluster of our own ends with it."""
    if ray.is_initialized():
        yield
        return
    with ExitStack() as stack:
        restore = _keep_sigterm()
        stack.callback(restore)
        options: dict[str, Any]
        if address in (None, "auto"):
            address = os.environ.get("RAY_ADDRESS") or address
        if address is None:
            folder = session_folder()
            stack.callback(shutil.rmtree, folder.parent, ignore_errors=True)
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            options = {
                "address": "local",
                "num_cpus": workers or available_cores(),
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE,
                "_temp_dir": str(folder),
            }
        else:
            _probe(address)
            options = {"address": address}
        stack.callback(ray.shutdown)
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise _unreachable(address or "this machine", str(error)) from error
        restore()
        yield


def _keep_sigterm() -> Callable[[], None]:
    """Return what puts the handler of SIGTERM back that is there now; Ray replaces it."""
    before = signal.getsignal(signal.SIGTERM)

    def restore() -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)

    return restore


def _probe(address: str) -> None:
    """See whether a server answers, because Ray itself would ask for ever."""
    import grpc  # type: ignore[import-untyped]

    if address == "auto" or os.environ.get("RAY_USE_TLS", "0") != "0":  # Ray itself has to see
        return
    if "://" in address:
        raise _unreachable(address, "a sweep has to run on a node of the cluster")
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_ANSWER)
        except grpc.FutureTimeoutError:
            raise _unreachable(address, f"no answer within {_ANSWER:g} seconds") from None


def _unreachable(address: str, why: str) -> SettingsError:
    return SettingsError(
        f"cannot join a Ray cluster at {address}: {why}; `ray start --head --port 6379` starts "
        "one, `ray start --address HOST:6379` adds a machine to it, and this machine has to be "
        "one of them: --address HOST:6379 (docs/clusters.md); without --address, Ray runs on this "
        "machine alone"
    )


def _capacity(ray: ModuleType, gpus: float) -> int:
    """Return how many cells the cluster can compute at once."""
    there = ray.cluster_resources()
    cpus = int(there.get("CPU", 0))
    # A share cannot span two GPUs; the small number is for shares such as 0.1.
    return min(cpus, int(there.get("GPU", 0)) * int(1 / gpus + 1e-6)) if gpus else cpus


def _needs(ray: ModuleType, device: str, share: float) -> tuple[str, float]:
    """Return the device that cells are to use and how many GPUs each takes.

    Raises:
        SettingsError: The device has a number, or no node of the kind comes in time.
    """
    if device.startswith("cuda:"):
        raise SettingsError(
            f"{device} is a GPU of one machine, and Ray chooses where a cell runs; say --device "
            "cuda"
        )
    end = time.monotonic() + _NODES
    while True:
        for name, gpus in (("cuda", share), ("cpu", 0.0)):
            if device in (name, "auto") and _capacity(ray, gpus):
                return name, gpus
        if time.monotonic() > end:
            kind = "a GPU" if device == "cuda" else "a CPU"
            raise SettingsError(
                f"the cluster has had no node with {kind} for {_NODES:g} seconds: it has "
                f"{ray.cluster_resources()}; add one with `ray start --address HOST:6379`, or "
                "choose another --device"
            )
        time.sleep(LOOK)
