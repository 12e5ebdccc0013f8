"""What a round costs beside its training, at 10 and at 1,000 clients, and what sharing saves.

Run ``python benchmarks/speed/federation.py``; it asserts nothing. The parts on many clients and
on bf16 need CIFAR-10 below FEDBENCH_DATA.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from timing import Row, interleave, ready, report
from torch.nn import functional

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.datasets import load_data
from fedbench.bench.cells.runtime import Runtime
from fedbench.bench.records.record import Record
from fedbench.config import parse
from fedbench.data.stream import Columns, Stream
from fedbench.files import data_root
from fedbench.models.factory import build
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.training.classifier import Classifier
from fedbench.training.recipe import Recipe
from fedbench.training.trainer import hushed

TINY = Model(name="convnet", width=4, depth=1)


def runtime(home: Path, threads: int, device: str = "cpu") -> Runtime:
    """Return a runtime that shares decoded data and nothing else."""
    return Runtime(home=home, data=data_root(), device=device, threads=threads, offline=True)


def compute(
    settings: dict[str, Any],
    home: Path,
    threads: int,
    *,
    device: str = "cpu",
    keep: bool = False,
) -> Record:
    """Run a cell in a home of its own, emptied first unless it is kept."""
    for part in ("artefacts", "speed"):
        if not keep:
            shutil.rmtree(home / part, ignore_errors=True)
    record = run_cell(parse(settings), runtime(home, threads, device), suite="speed")
    if record.status != "ok":
        raise SystemExit(record.traceback)
    return record


def client_round(home: Path, threads: int, repeats: int, device: str, rounds: int) -> list[Row]:
    """Measure one client-round of a tiny model and 5 steps, beside a bare loop of the same."""
    settings = {
        "data": {"name": "digits", "train_size": 320, "test_size": 50},
        "partition": {"scheme": "iid", "clients": 1},
        "models": TINY.model_dump(exclude_none=True),
        "recipe": {"augment": "none"},
        "evaluation": {"curve_size": 50},
        "method": {"name": "fedavg", "rounds": rounds, "epochs": 1},
    }
    data = load_data(parse(settings).data, runtime(home, threads))
    recipe = Recipe(epochs=1, augment="none")
    ledgers: list[dict[str, Any]] = []

    def through_fedbench() -> None:
        ledgers.append(compute(settings, home, threads, device=device).ledger)

    def network() -> Net:
        return build(TINY, channels=1, size=16, classes=10, seed=0).to(device)

    def batches() -> Stream:
        rows = Columns(data.train.images.to(device), data.train.labels.to(device))
        return Stream(rows, batch_size=64, seed=0, normalisation=data.constants)

    def bare() -> None:
        net = network()
        for _ in range(rounds):
            optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
            for images, labels in batches():
                optimizer.zero_grad()
                functional.cross_entropy(net(images), labels).backward()
                optimizer.step()

    def new_trainers() -> None:
        net = network()
        for _ in range(rounds):
            with hushed():
                trainer = Trainer(
                    max_epochs=1, logger=False, enable_checkpointing=False, devices=1,
                    accelerator="gpu" if device.startswith("cuda") else "cpu",
                    enable_progress_bar=False, enable_model_summary=False,
                )  # fmt: skip
                loader = batches()
                trainer.fit(
                    Classifier(net, recipe, steps_per_epoch=len(loader)), train_dataloaders=loader
                )

    seconds = interleave(
        {"fedbench": through_fedbench, "bare": bare, "new Trainers": new_trainers},
        repeats,
    )
    charged = [
        1000 * (ledger["client_seconds"] + ledger["server_seconds"]) / rounds
        for ledger in ledgers[1:]
    ]
    loop = [1000 * value / rounds for value in seconds["bare"]]
    trainers = [1000 * value / rounds for value in seconds["new Trainers"]]
    whole = [1000 * value / rounds for value in seconds["fedbench"]]

    def above(values: list[float]) -> float:
        return statistics.median(a - b for a, b in zip(values, loop, strict=True))

    return [
        Row("client-round, 5 steps: bare loop", statistics.median(loop), "ms"),
        Row("client-round above it (client and server)", above(charged), "ms", "at most 5"),
        Row("the same with curve, commit and set-up of the cell", above(whole), "ms"),
        Row("a new Trainer each time, above the bare loop", above(trainers), "ms"),
    ]


def many(clients: int) -> dict[str, Any]:
    """Return the settings of a run with clients of 50 images, 10 % of them in each of 2 rounds."""
    return {
        "data": {"name": "cifar10", "train_size": 50 * clients, "test_size": 500},
        "partition": {"scheme": "iid", "clients": clients},
        "models": {"name": "convnet", "width": 16},
        "evaluation": {"curve_size": 100},
        "participation": 0.1,
        "method": {"name": "fedavg", "rounds": 2, "epochs": 2},
    }


def scale(home: Path, threads: int, repeats: int) -> list[Row]:
    """Measure memory (a process each) and time (in turn, in one process) at 10 and 1,000."""
    memory: dict[int, list[float]] = {10: [], 1000: []}
    for _ in range(3):
        for clients, peaks in memory.items():
            done = subprocess.run(
                [sys.executable, __file__, "--peak", str(clients), "--home", str(home),
                 "--threads", str(threads)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            peaks.append(json.loads(done.stdout.splitlines()[-1]) / 1e6)
    # All ten clients work in each round of the small run, so that one round is no single sample.
    small = {**many(10), "participation": 1.0}
    times: dict[str, list[float]] = {"10": [], "1000": []}

    def run(name: str, settings: dict[str, Any], rounds: int) -> None:
        ledger = compute(settings, home, threads).ledger
        times[name].append((ledger["client_seconds"] + ledger["server_seconds"]) / rounds)

    interleave(
        {"10": lambda: run("10", small, 20), "1000": lambda: run("1000", many(1000), 200)}, repeats
    )
    factor = statistics.median(
        large / little for little, large in zip(times["10"][1:], times["1000"][1:], strict=True)
    )
    extra = statistics.median(memory[1000]) - statistics.median(memory[10])
    return [
        Row("peak memory, 1,000 clients above 10", extra, "MB", "at most 200"),
        Row("time of a client-round, 1,000 clients to 10", factor, "x", "0.8 to 1.2"),
    ]


def precision(home: Path, threads: int) -> list[Row]:
    """Measure bf16-mixed against fp32: seconds and accuracy of the same cells, 3 seeds."""
    ratios, gaps = [], []
    for seed in range(3):
        found = {}
        for name in ("32-true", "bf16-mixed"):
            settings = {
                "data": {"name": "cifar10", "train_size": 5000},
                "models": {"name": "convnet", "width": 32},
                "recipe": {"epochs": 10},
                "method": "centralised",
                "precision": name,
                "seed": seed,
            }
            found[name] = compute(settings, home, threads)
        ratios.append(
            found["32-true"].ledger["server_seconds"] / found["bf16-mixed"].ledger["server_seconds"]
        )
        gaps.append(
            100 * (found["bf16-mixed"].metrics["accuracy"] - found["32-true"].metrics["accuracy"])
        )
    return [
        Row("bf16-mixed, throughput to fp32 (10 epochs, 3 seeds)", statistics.median(ratios), "x"),
        Row("bf16-mixed, accuracy minus fp32, mean of 3 seeds", statistics.fmean(gaps), "points"),
        Row("bf16-mixed, standard deviation of that", statistics.stdev(gaps), "points"),
    ]


def sharing(home: Path, threads: int, repeats: int) -> list[Row]:
    """Measure two methods on one cell, with and without shared client trainings."""
    base = {
        "data": {"name": "digits"},
        "models": {"name": "convnet", "width": 16},
        "recipe": {"epochs": 5},
    }
    methods = ({"name": "fedavg", "preset": "one_shot"}, "ensemble")

    def both(*, share: bool) -> None:
        for number, method in enumerate(methods):
            compute({**base, "method": method}, home, threads, keep=share and number > 0)

    seconds = interleave(
        {"shared": lambda: both(share=True), "apart": lambda: both(share=False)}, repeats
    )
    return [
        Row(f"two methods, client trainings {name}", statistics.median(values), "s")
        for name, values in seconds.items()
    ]


def others(home: Path, threads: int, repeats: int) -> list[Row]:
    """Measure what is not the cost of one client-round."""
    rows = sharing(home, threads, repeats)
    if not (data_root() / "cifar10").is_dir():
        print("no CIFAR-10 below FEDBENCH_DATA: many clients and bf16 are left out")
        return rows
    return rows + scale(home, threads, repeats) + precision(home, threads)


def main() -> None:
    """Measure what was asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--device", default="cpu", help="of the part on one client-round")
    parser.add_argument("--rounds", type=int, default=40, help="of that part")
    parser.add_argument("--only-round", action="store_true", help="that part alone")
    parser.add_argument("--home", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--peak", type=int, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak is not None:
        record = compute(many(args.peak), args.home, args.threads)
        print(record.peak_memory_bytes)
        return
    device = str(ready(args.device))
    with tempfile.TemporaryDirectory() as folder:
        home = args.home or Path(folder)
        rows = client_round(home, args.threads, args.repeats, device, args.rounds)
        if not args.only_round:
            rows += others(home, args.threads, args.repeats)
        report("Federation", rows, args.json)


if __name__ == "__main__":
    main()
