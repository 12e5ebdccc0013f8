"""Who computes the cells of a sweep: processes of this machine, or the workers of a Ray cluster.

Both yield the same records, bit for bit on the CPU: one thread a cell, seeds derived by name.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from fedbench.bench.executors.job import Event, Job, silent
from fedbench.bench.records.record import Record, record_path, stamp
from fedbench.bench.suites.plan import Planned

if TYPE_CHECKING:
    from fedbench.bench.cells.runtime import Runtime

Executor = Literal["local", "ray"]

__all__ = ["Event", "Executor", "Job", "execute"]


def execute(
    cells: Sequence[Planned],
    runtime: Runtime,
    *,
    suite: str,
    profile: str | None,
    workers: int,
    executor: Executor = "local",
    address: str | None = None,
    gpus_per_cell: float = 1.0,
    plugins: Sequence[str] = (),
    devices: Sequence[str] = (),
    on_event: Callable[[Event], None] = lambda _: None,
    go_on: Callable[[], bool] = lambda: True,
) -> Generator[Record, None, None]:
    """Compute cells and yield their records as they are finished.

    A cell whose worker dies is tried again, and has failed if its worker dies once more. Closing
    the generator, or an exception such as Ctrl-C in it, stops all workers; a cell in hand goes on
    at its last commit when it is next computed.

    Args:
        cells: What to compute, in this order.
        runtime: Where; each worker takes its threads on the CPU, one where it says 0.
        suite: Names the folder of the records.
        profile: A label.
        workers: How many cells at once; at least 1, or 0 for all that a cluster has room for.
        executor: `local` processes, or tasks of a `ray` cluster.
        address: Of the Ray cluster; where None, ``RAY_ADDRESS`` or a cluster on this machine.
        gpus_per_cell: The share of a GPU that a cell takes on a cluster, at most 1.
        plugins: Loaded by each worker first (see ``fedbench.plugins.load_plugin``).
        devices: Given to the workers in turn; the runtime's device where there are none.
        on_event: Called with what workers are doing, while a record is waited for.
        go_on: Asked before a worker is given a cell; where it says no, those in hand are the last.
    """
    quiet = replace(runtime, threads=runtime.threads or 1, show=silent, say=silent)
    before = {e.cell_id: stamp(record_path(runtime.home, suite, e.cell_id)) for e in cells}
    given = tuple(devices) or (runtime.device,)
    job = Job(quiet, suite, profile, tuple(plugins), given, before)
    if executor == "ray":
        from fedbench.bench.executors import cluster

        return cluster.execute(cells, job, workers, address, on_event, go_on, gpus_per_cell)
    from fedbench.bench.executors import local

    return local.execute(cells, job, workers, on_event, go_on)
