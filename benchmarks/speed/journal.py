"""What a stage's commit and a cell's log cost, beside stage and cell.

Run ``python benchmarks/speed/journal.py``; it asserts nothing.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import torch
from timing import Row, report
from torch import nn

from fedbench.bench.cells.logs import CellLog
from fedbench.bench.cells.running import Heartbeat
from fedbench.config import parse
from fedbench.federation import journal as journals
from fedbench.federation.context import Progress
from fedbench.federation.journal import Journal
from fedbench.federation.ledger import Clock, Ledger
from fedbench.federation.stages import stages
from fedbench.models.factory import build
from fedbench.models.settings import Model
from fedbench.training.trainer import Past, give_past


def trained(net: nn.Module) -> nn.Module:
    """Return a network with an Adam that has made a step, as a fit leaves it."""
    optimizer = torch.optim.Adam(net.parameters())
    for weight in net.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    give_past(net, Past(optimizers=[optimizer]))
    return net


def commits(net: nn.Module, folder: Path, repeats: int, curve: int) -> list[float]:
    """Return the milliseconds of each commit of a module with its optimiser.

    Args:
        net: What is kept.
        folder: For the journal.
        repeats: Commits.
        curve: Points that the cell has observed before.
    """
    journal, seconds, began = Journal(folder, Clock(Ledger())), [], 0.0
    journal.now.curves = [{"name": "global", "step": n, "accuracy": 0.5} for n in range(curve)]
    for step in stages(journal, "here", repeats, {"net": net}, {}, torch.device("cpu")):
        if step:
            seconds.append(1000 * (time.perf_counter() - began))
        began = time.perf_counter()
    return seconds


def logs(folder: Path, repeats: int) -> list[float]:
    """Return the milliseconds of each log with its heartbeat, of a cell of five rounds."""
    seconds, cell = [], parse({"data": {"name": "digits"}, "method": "local"})
    for number in range(repeats):
        began = time.perf_counter()
        log, beat = (folder / f"{number}.{end}" for end in ("log", "json"))
        with CellLog(log, capture=True) as diary, Heartbeat(beat):
            diary.begin(cell, "speed", "cpu", 1)
            for round in range(5):
                diary.show(Progress(round, 5, "client 0", 0, 1))
        seconds.append(1000 * (time.perf_counter() - began))
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    journals._SHARE = math.inf  # commit each time, whatever it costs
    shape = {"channels": 3, "size": 32, "classes": 10, "seed": 0}
    rows = []
    for name, curve in (("convnet", 100), ("convnet", 5000), ("resnet18", 100)):
        net = trained(build(Model(name=name), **shape))
        megabytes = 3 * sum(weight.numel() for weight in net.parameters()) * 4 / 1e6
        with tempfile.TemporaryDirectory() as folder:
            value = statistics.median(commits(net, Path(folder), options.repeats, curve))
        title = f"commit of {name} with Adam ({megabytes:.0f} MB), {curve} points of curves"
        rows.append(Row(title, value / 10, "%", "2 % of a stage of one second, small networks"))
    with tempfile.TemporaryDirectory() as folder:
        value = statistics.median(logs(Path(folder), options.repeats))
    rows.append(Row("log and heartbeat of five rounds", value / 10, "%", "of a cell of one second"))
    report("What a stage's commit costs of a stage of one second", rows, options.json)


if __name__ == "__main__":
    main()
