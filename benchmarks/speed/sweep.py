"""What two workers gain over one, and what the runner costs beside training, local and on Ray.

Run ``python benchmarks/speed/sweep.py``; it asserts nothing. Ray's cluster is started once: its
start stands in a row of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timing import Row, interleave, ratio, report

from fedbench.bench.cells.runtime import Runtime
from fedbench.bench.executors import Executor, execute
from fedbench.bench.records.record import Record
from fedbench.bench.suites.plan import Planned, planned
from fedbench.config import parse
from fedbench.files import data_root

EQUAL = {
    "data": {"name": "digits"},
    "models": {"name": "convnet", "width": 16},
    "recipe": {"epochs": 4},
    "method": "centralised",
}
TINY = {
    "data": {"name": "digits", "train_size": 120, "test_size": 60},
    "partition": {"scheme": "iid", "clients": 2},
    "models": {"name": "convnet", "width": 4, "depth": 2},
    "recipe": {"epochs": 1, "batch_size": 16},
    "evaluation": {"curve_size": 30},
    "method": {"name": "fedavg", "preset": "one_shot"},
}
WORKERS = 2


def cells(settings: dict[str, Any], count: int) -> list[Planned]:
    """Return cells that differ in their seed and share no training."""
    return [planned(parse({**settings, "seed": seed})) for seed in range(count)]


def sweep(
    home: Path,
    entries: Sequence[Planned],
    executor: Executor,
    workers: int,
    device: str = "cpu",
) -> list[Record]:
    """Compute cells, none of which has been computed before."""
    for part in ("artefacts", "speed"):
        shutil.rmtree(home / part, ignore_errors=True)
    means = Runtime(home=home, data=data_root(), device=device, offline=True)
    records = list(
        execute(entries, means, suite="speed", profile=None, workers=workers, executor=executor)
    )
    for record in records:
        if record.status != "ok":
            raise SystemExit(record.reason)
    return records


def start(home: Path) -> Row:
    """Measure what a Ray sweep costs that has nothing to do."""
    began = time.perf_counter()
    sweep(home, cells(TINY, WORKERS), "ray", WORKERS)
    seconds = time.perf_counter() - began
    return Row(f"Ray: start, {WORKERS} tiny cells, stop", seconds, "s")


def speed_up(home: Path, count: int, repeats: int) -> list[Row]:
    """Measure the time of equal cells, one worker against two."""
    entries = cells(EQUAL, count)
    variants = {
        f"{executor} {workers}": lambda e=executor, w=workers: sweep(home, entries, e, w)
        for executor in ("local", "ray")
        for workers in (1, WORKERS)
    }
    seconds = interleave(variants, repeats)
    one = statistics.median(seconds["local 1"])
    return [
        Row(f"{count} equal cells, local, 1 worker", one, "s"),
        *(
            Row(
                f"speed-up of {WORKERS} workers, {executor}",
                ratio(seconds, f"{executor} {WORKERS}", f"{executor} 1"),
                "x",
                f"near {WORKERS}",
            )
            for executor in ("local", "ray")
        ),
        Row("Ray to local, 2 workers", ratio(seconds, "local 2", "ray 2"), "x time"),
    ]


def own_seconds(record: Record) -> float:
    """Return the seconds that a cell trained and evaluated for, without what it took over."""
    ledger = record.ledger
    trained = ledger["client_seconds"] + ledger["server_seconds"] - ledger["shared_seconds"]
    return float(trained + record.evaluation_seconds)


def overhead(home: Path, count: int, repeats: int) -> list[Row]:
    """Measure what is neither training nor evaluation in a sweep of tiny cells, per cell."""
    entries = cells(TINY, count)
    found: dict[str, list[tuple[float, float, float]]] = {"local": [], "ray": []}

    def run(executor: Executor) -> None:
        began = time.perf_counter()
        records = sweep(home, entries, executor, WORKERS)
        spent = WORKERS * (time.perf_counter() - began)
        own = sum(own_seconds(record) for record in records)
        inside = sum(record.wall_seconds for record in records) - own
        found[executor].append((own / count, (spent - own) / count, inside / count))

    interleave({"local": lambda: run("local"), "ray": lambda: run("ray")}, repeats)

    def median(executor: str, place: int) -> float:
        return 1000 * statistics.median(values[place] for values in found[executor][1:])

    return [
        Row(f"{count} tiny cells: training and evaluation of each", median("local", 0), "ms"),
        Row("beside them, local, per cell", median("local", 1), "ms", "at most 50"),
        Row("of it within the cell (data, set-up, commits)", median("local", 2), "ms"),
        Row("beside them, Ray, per cell", median("ray", 1), "ms"),
    ]


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cells", type=int, default=200, help="tiny cells of a sweep")
    parser.add_argument("--equal", type=int, default=8, help="equal cells of a sweep")
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    import ray

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        rows = [start(home)]
        ray.init(
            address="local",
            num_cpus=WORKERS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=f"{folder}/ray",
        )
        rows += speed_up(home, args.equal, args.repeats)
        rows += overhead(home, args.cells, args.repeats)
        ray.shutdown()
        report("Sweeps", rows, args.json)


if __name__ == "__main__":
    main()
