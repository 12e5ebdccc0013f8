"""How many cells an hour one device computes, by the number of workers that share it.

Small networks leave a GPU idle most of the time, so several cells at once are faster in sum. A
cell is one-shot FedAvg of five ConvNets on CIFAR-10 below FEDBENCH_DATA, or else on enlarged
digits. Every sweep starts its own workers, as a user's does.

Run ``python benchmarks/speed/gpu.py --device cuda``; it asserts nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep import cells, sweep
from timing import Row, report, save

from fedbench.bench.cells.lookup import data_sources
from fedbench.bench.records.record import Record
from fedbench.data.settings import Data
from fedbench.files import data_root

#: Training images of the digits that are taken.
_DIGITS = 1000


def settings(width: int, epochs: int, images: int) -> dict[str, Any]:
    """Return the settings of the cells, as many steps on either data set."""
    data: dict[str, Any] = {"name": "cifar10", "train_size": images, "test_size": 1000}
    if not data_sources(Data(name="cifar10"), data_root()).found:
        count = min(images, _DIGITS)
        data = {"name": "digits", "train_size": count, "image_size": 32}
        epochs *= images // count
    return {
        "data": data,
        "partition": {"scheme": "iid", "clients": 5},
        "models": {"name": "convnet", "width": width},
        "recipe": {"epochs": epochs},
        "evaluation": {"curve_size": 100},
        "method": {"name": "fedavg", "preset": "one_shot"},
    }


def peak(records: list[Record]) -> float:
    """Return the largest memory that a cell took on the device, in MB; 0 on a CPU."""
    return max(float(record.peak_device_memory_bytes or 0) for record in records) / 1e6


def rates(wish: dict[str, Any], counts: list[int], device: str) -> Iterator[Row]:
    """Sweep twice as many cells as there are workers, at least four, for each number of them."""
    first = None
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        # Libraries and decoded data come first: they are no part of a rate.
        alone = sweep(home, cells(wish, 1), "local", 1, device)
        yield Row("a cell's peak memory on the device", peak(alone), "MB")
        for workers in counts:
            entries = cells(wish, max(4, 2 * workers))
            began = time.perf_counter()
            sweep(home, entries, "local", workers, device)
            rate = 3600 * len(entries) / (time.perf_counter() - began)
            yield Row(f"{workers} at once", rate, "cells/h")
            if first is not None:
                yield Row(f"{workers} at once / {counts[0]}", rate / first, "x",
                          "the best >= 2.5 on a GPU")  # fmt: skip
            first = first or rate


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    wish = settings(options.width, options.epochs, options.images)
    title, table = f"Cells on one device, ConvNet-{options.width}", []
    for row in rates(wish, options.workers, options.device):
        table.append(row)
        save(title, table, options.json, options.device)
    report(title, table, options.json, options.device)


if __name__ == "__main__":
    main()
