"""How many cells an hour one device computes, by the number of workers that share it.

Small networks leave a GPU idle most of the time, so several cells at once are faster in sum. A
cell is one-shot FedAvg of five ConvNets on CIFAR-10 below FEDBENCH_DATA, or else on enlarged
digits. Every sweep starts its own workers, as a user's does.

Run ``python benchmarks/speed/card.py --device cuda``; it asserts nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from sweep import cells, sweep
from timing import Row, report

from fedbench.bench.records import Record
from fedbench.files import data_root


def settings(width: int, epochs: int, images: int) -> dict[str, Any]:
    """Return the settings of the cells."""
    found = (data_root() / "cifar10").is_dir()
    data = {"name": "cifar10", "train_size": images, "test_size": 1000}
    small = {"name": "digits", "train_size": min(images, 1400), "image_size": 32}
    return {
        "data": data if found else small,
        "partition": {"scheme": "iid", "clients": 5},
        "models": {"name": "convnet", "width": width},
        "recipe": {"epochs": epochs},
        "evaluation": {"curve_size": 100},
        "method": {"name": "fedavg", "preset": "one_shot"},
    }


def peak(records: list[Record]) -> float:
    """Return the largest memory that a cell took on the device, in MB; 0 on a CPU."""
    return max(float(record.peak_device_memory_bytes or 0) for record in records) / 1e6


def rows(wish: dict[str, Any], counts: list[int], device: str) -> list[Row]:
    """Sweep twice as many cells as there are workers, at least four, for each number of them."""
    found, most = {}, 0.0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        sweep(home, cells(wish, 1), "local", 1, device)  # libraries, and the decoded data
        for workers in counts:
            entries = cells(wish, max(4, 2 * workers))
            began = time.perf_counter()
            records = sweep(home, entries, "local", workers, device)
            found[workers] = 3600 * len(entries) / (time.perf_counter() - began)
            most = max(most, peak(records))
    first = counts[0]
    return [
        Row("a cell's peak memory on the device", most, "MB"),
        *(Row(f"{workers} workers", rate, "cells/h") for workers, rate in found.items()),
        *(
            Row(f"{workers} workers / {first}", found[workers] / found[first], "x",
                "the best >= 2.5 on a GPU")
            for workers in counts[1:]
        ),
    ]  # fmt: skip


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    wish = settings(options.width, options.epochs, options.images)
    table = rows(wish, options.workers, options.device)
    report(f"Cells on one device, ConvNet-{options.width}", table, options.json, options.device)


if __name__ == "__main__":
    main()
