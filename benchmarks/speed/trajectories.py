"""What an iteration of trajectory matching costs: time and memory over the number of inner steps.

Run ``python benchmarks/speed/trajectories.py``; it asserts nothing. The plain way keeps the graph
of all inner steps. Memory is what one iteration adds to a process of its own (on a GPU, its largest
allocation). Random images serve as well as real ones here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from timing import Row, interleave, ratio, report

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.environment import PeakMemory
from fedbench.bench.cells.runtime import Runtime
from fedbench.config import parse
from fedbench.data import dsa
from fedbench.models.factory import build
from fedbench.models.settings import Model
from fedbench.synthesis.matching.trajectories import Gradient, InnerLoop, Segment, Way, draw_batches

CLASSES, CHANNELS, SIZE = 10, 3, 32
WAYS: tuple[Way, ...] = ("unrolled", "recomputed")


class Setting:
    """One size of the problem.

    Args:
        width: Of the ConvNet.
        ipc: Images of a class.
        device: Where to compute.
    """

    def __init__(self, width: int, ipc: int, device: torch.device) -> None:
        source = torch.Generator().manual_seed(0)
        self.device, self.count = device, CLASSES * ipc
        self.labels = torch.arange(CLASSES).repeat_interleave(ipc).to(device)
        shape = (self.count, CHANNELS, SIZE, SIZE)
        self.images = torch.randn(*shape, generator=source).to(device)
        self.lr = torch.tensor(0.01, device=device)
        model = Model(name="convnet", width=width)
        self.net = build(model, channels=CHANNELS, size=SIZE, classes=CLASSES, seed=0).to(device)
        start = tuple(weight.detach().clone() for weight in self.net.parameters())
        self.segment = Segment(start, tuple(weight + 0.01 * torch.sign(weight) for weight in start))

    def iteration(self, way: Way, steps: int, *, bf16: bool = False) -> Gradient:
        """Compute the gradient of one iteration."""
        source = torch.Generator().manual_seed(1)
        ops = dsa.parse(dsa.STRATEGY)
        batches = draw_batches(self.count, steps, None, ops, SIZE, source, self.device)
        loop = InnerLoop(self.net, self.labels, bf16=bf16)
        call = loop.unrolled if way == "unrolled" else loop.recomputed
        found = call(self.segment, self.images, self.lr, batches)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return found


def times(setting: Setting, steps: list[int], repeats: int) -> list[Row]:
    """Compare the two ways, and bfloat16 with float32."""
    rows = []
    for count in steps:
        variants: dict[str, Callable[[], object]] = {
            way: lambda way=way, count=count: setting.iteration(way, count)  # type: ignore[misc]
            for way in WAYS
        }
        variants["bf16"] = lambda count=count: setting.iteration("recomputed", count, bf16=True)  # type: ignore[misc]
        seconds = interleave(variants, repeats)
        plain = 1000 * statistics.median(seconds["unrolled"])
        cost = 1 / ratio(seconds, "recomputed", "unrolled")
        rows += [
            Row(f"N = {count}: iteration, plain", plain, "ms"),
            Row(f"N = {count}: recomputed takes", cost, "x", "<= 1.5"),
            Row(f"N = {count}: bf16, times as fast", ratio(seconds, "bf16", "recomputed"), "x"),
            *differences(setting, count),
        ]
    return rows


def differences(setting: Setting, steps: int) -> list[Row]:
    """Compare the gradients themselves."""
    exact = setting.iteration("unrolled", steps)
    rows = []
    for name, bf16 in (("recomputed", False), ("bf16", True)):
        found = setting.iteration("recomputed", steps, bf16=bf16)
        gap = (found.images - exact.images).norm() / exact.images.norm()
        rows.append(Row(f"N = {steps}: {name}, gap of the gradient", float(gap), "of its length"))
    return rows


def added_memory(way: Way, steps: int, setting: Setting) -> float:
    """Return the bytes that one iteration, the first of its process, adds at its peak.

    On a CPU that includes what torch loads for it, which is the same for all.
    """
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setting.device)
        before = torch.cuda.memory_allocated(setting.device)
        setting.iteration(way, steps)
        return float(torch.cuda.max_memory_allocated(setting.device) - before)
    memory = PeakMemory()
    before = memory.read()
    setting.iteration(way, steps)
    return float(memory.read() - before)


def memory(options: argparse.Namespace) -> list[Row]:
    """Measure the memory of an iteration, a process each."""
    rows = []
    for way in WAYS:
        found = []
        for count in options.steps:
            done = subprocess.run(
                [sys.executable, __file__, "--peak", way, str(count), "--width", str(options.width),
                 "--ipc", str(options.ipc), "--device", options.device],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            found.append(json.loads(done.stdout.splitlines()[-1]) / 1e6)
        rows += [
            Row(f"memory of an iteration, {way}, N = {count}", value, "MB")
            for count, value in zip(options.steps, found, strict=True)
        ]
        target = "<= 1.1" if way == "recomputed" else ""
        rows.append(Row(f"{way}: most against least", max(found) / min(found), "x", target))
    return rows


def experts(width: int, repeats: int) -> list[Row]:
    """Compare training an expert, every epoch kept, with training a classifier as long."""

    def train(folder: str, epochs: int, *, expert: bool) -> float:
        method = (
            {
                "name": "trajectory_matching", "experts": 1, "start_epochs": epochs,
                "expert_batch": 64, "iterations": 0, "augment": "none", "restarts": 0,
            }
            if expert
            else {"name": "fedavg", "preset": "one_shot"}
        )  # fmt: skip
        settings = {
            "data": {"name": "digits", "image_size": SIZE},
            "partition": {"scheme": "iid", "clients": 1},
            "models": {"name": "convnet", "width": width},
            "recipe": {"epochs": epochs, "batch_size": 64, "momentum": 0.0, "augment": "none"},
            "student": {"epochs": 0},
            "budget": {"ipc": 1},
            "method": method,
        }
        home = Path(folder)
        runtime = Runtime(home=home, data=home, device="cpu", threads=1, offline=True, refresh=True)
        record = run_cell(parse(settings), runtime, suite="speed")
        if record.status != "ok":
            raise SystemExit(record.traceback)
        return float(record.ledger["client_seconds"])

    found: dict[str, list[float]] = {"expert": [], "classifier": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(-1, repeats):
            for name in found:
                seconds = train(folder, 5, expert=name == "expert")
                if turn >= 0:
                    found[name].append(seconds)
    return [
        Row("experts: share of the classifier's throughput",
            ratio(found, "expert", "classifier"), "x", ">= 0.95"),
    ]  # fmt: skip


def main() -> None:
    """Measure what was asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 30, 50])
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--no-experts", action="store_true")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    parser.add_argument("--peak", nargs=2, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    setting = Setting(options.width, options.ipc, torch.device(options.device))
    if options.peak is not None:
        way = WAYS[WAYS.index(options.peak[0])]
        print(added_memory(way, int(options.peak[1]), setting))
        return
    rows = [
        *times(setting, options.steps, options.repeats),
        *([] if options.no_memory else memory(options)),
        *([] if options.no_experts else experts(options.width, options.repeats)),
    ]
    title = f"Trajectory matching, ConvNet of width {options.width}, ipc {options.ipc}"
    report(title, rows, options.json)


if __name__ == "__main__":
    main()
