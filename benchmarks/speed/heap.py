"""What a training step costs where the C library keeps freed memory, and where it does not.

What ``training.heap`` sets lasts for a process, so that every variant is a process of its own; they
take turns. Ratios are of the processor's time, the system's with it, which other work on the
machine lengthens least. A variant's last loss shows that the bits are those of the other.

Run ``python benchmarks/speed/heap.py``; it asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from timing import Row, report
from torch.nn import functional

from fedbench.models.factory import build
from fedbench.models.settings import Model
from fedbench.training import heap


@dataclass(frozen=True)
class Case:
    """A network, its batches, and how many steps are timed."""

    model: Model
    batch: int
    steps: int
    precision: str = "32-true"
    channels: int = 3
    size: int = 32


CASES = {
    "convnet-w32": Case(Model(name="convnet", width=32), 64, 40),
    "convnet-w32 bf16": Case(Model(name="convnet", width=32), 64, 40, "bf16-mixed"),
    "convnet-w32 of 8x8": Case(Model(name="convnet", width=32), 64, 200, channels=1, size=8),
    "convnet-w128": Case(Model(name="convnet"), 64, 8),
    "dense_cnn": Case(Model(name="dense_cnn"), 128, 8),
    "resnet8": Case(Model(name="resnet8"), 512, 4),
    "resnet18": Case(Model(name="resnet18"), 32, 3),
}


@dataclass(frozen=True)
class Found:
    """What one process measured: seconds and pages of a step, and its last loss."""

    seconds: float
    pages: float
    loss: float


def measure(case: Case) -> Found:
    """Train in this process, as it is, and count after three steps."""
    net = build(case.model, channels=case.channels, size=case.size, classes=10, seed=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(case.batch, case.channels, case.size, case.size, generator=draw)
    targets = torch.randint(10, (case.batch,), generator=draw)

    def step() -> float:
        half = case.precision == "bf16-mixed"
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = functional.cross_entropy(net(images).float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(case.steps):
        loss = step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Found(seconds / case.steps, (after.ru_minflt - before.ru_minflt) / case.steps, loss)


def apart(name: str, kept: bool) -> Found:
    """Measure a case in a process of its own."""
    words = [sys.executable, __file__, "--case", name, *(["--keep"] if kept else [])]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return Found(**json.loads(said))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    parser.add_argument("--case", choices=CASES, help="measure one variant in this process")
    parser.add_argument("--keep", action="store_true", help="keep freed memory in it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.case:
        if options.keep and not heap.keep():
            sys.exit("nothing to compare: the C library is no glibc, or its variables are set")
        print(json.dumps(asdict(measure(CASES[options.case]))))
        return
    rows = []
    for name in CASES:
        turns = [(apart(name, False), apart(name, True)) for _ in range(options.repeats)]
        ratio = statistics.median(given.seconds / kept.seconds for given, kept in turns)
        rows.append(Row(f"{name}: given back and asked for again / kept", ratio, "x", "> 1"))
        for what, place in (("given back", 0), ("kept", 1)):
            pages = statistics.median(turn[place].pages for turn in turns)
            rows.append(Row(f"{name}: pages of a step, {what}", pages, ""))
        same = all(given.loss == kept.loss for given, kept in turns)
        rows.append(Row(f"{name}: equal losses", float(same), "", "1"))
    report("The C library's heap", rows, options.json)


if __name__ == "__main__":
    main()
