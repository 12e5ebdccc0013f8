"""What an iteration of distribution matching costs, at the server and at a client.

Run ``python benchmarks/speed/matching.py``; it asserts nothing. The reference way is that of DM's
code: class by class, real and synthetic images each through a network whose weights ask for
gradients. Random images serve as well as real ones here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from timing import Row, finish, interleave, ratio, ready, report
from torch import Tensor

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.runtime import Runtime
from fedbench.config import parse
from fedbench.data import dsa
from fedbench.models.factory import build
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.seeding import generator
from fedbench.synthesis.matching.distribution import (
    CHUNK,
    Descent,
    Embedding,
    MomentLoader,
    Moments,
    class_moments,
)
from fedbench.synthesis.matching.matcher import DistributionMatching
from fedbench.training.pool import TrainerPool
from fedbench.training.recipe import Precision

CLASSES, CHANNELS, SIZE, REAL = 10, 3, 32, 100
LR = 20.0
PRECISIONS: tuple[Precision, ...] = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class Compiled(Embedding):
    """Networks whose weights are laid into one that is compiled: each seed's would be anew."""

    shell: Net | None = None

    @classmethod
    def of(cls, plain: Embedding, backend: str) -> Compiled:
        """Return the same networks, by ``torch.compile``."""
        shell = plain.network(0)
        shell.features = torch.compile(shell.features, backend=backend)  # type: ignore[method-assign]
        return cls(
            plain.model, plain.channels, plain.size, plain.classes, plain.device, plain.ops, shell
        )

    def network(self, seed: int) -> Net:
        """Return the compiled network with a seed's weights."""
        assert self.shell is not None
        self.shell.load_state_dict(super().network(seed).state_dict())
        return self.shell


class Setting:
    """One size of the problem, and its ways of taking steps.

    Args:
        width: Of the ConvNet.
        ipc: Synthetic images of a class.
        device: Where to compute.
        steps: In each measurement.
    """

    def __init__(self, width: int, ipc: int, device: torch.device, steps: int) -> None:
        source = torch.Generator().manual_seed(0)
        shape = (CHANNELS, SIZE, SIZE)
        self.model, self.device, self.steps = Model(name="convnet", width=width), device, steps
        self.real = {
            label: torch.randn(REAL, *shape, generator=source).to(device)
            for label in range(CLASSES)
        }
        self.start = torch.randn(CLASSES * ipc, *shape, generator=source)
        self.labels = torch.arange(CLASSES).repeat_interleave(ipc)
        self.embedding = Embedding(self.model, CHANNELS, SIZE, CLASSES, device, dsa.OPS)
        self.targets = [class_moments(self.embedding, seed, self.real) for seed in range(steps)]
        self.pools = {name: TrainerPool(str(device), name) for name in PRECISIONS}

    def reference(self, *, real: bool, steps: int | None = None) -> Tensor:
        """Take steps as the reference codes do, with the real images or with given means."""
        images = self.start.to(self.device, copy=True).requires_grad_()
        optimizer = torch.optim.SGD([images], lr=LR)
        for seed in range(steps or self.steps):
            net = build(
                self.model, channels=CHANNELS, size=SIZE, classes=CLASSES, seed=seed,
                device=self.device.type,
            )  # fmt: skip
            net.to(self.device)
            loss = torch.zeros((), device=self.device)
            for label in range(CLASSES):
                draw = dsa.draw(dsa.OPS, SIZE, generator(seed, "augmentation", label))
                if real:
                    mean = net.features(dsa.apply(self.real[label], draw)).detach().mean(0)
                else:
                    mean = self.targets[seed].means[label]
                mine = images[(self.labels == label).to(self.device)]
                loss = loss + (mean - net.features(dsa.apply(mine, draw)).mean(0)).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return images.detach()

    def ours(
        self,
        *,
        real: bool,
        precision: Precision = "32-true",
        chunk: int | None = None,
        steps: int | None = None,
        embedding: Embedding | None = None,
    ) -> Tensor:
        """Take the same steps in fedbench's way."""
        bf16, embedding = precision == "bf16-mixed", embedding or self.embedding

        def moments(step: int) -> Moments:
            if real:
                return class_moments(embedding, step, self.real, bf16=bf16)
            return self.targets[step]

        module = DistributionMatching(
            self.start, self.labels, embedding, Descent(lr=LR), chunk=chunk
        )
        count = steps or self.steps
        self.pools[precision].fit(module, MomentLoader(moments, count, seed=0), steps=count)
        return module.images.detach()

    def statistics(self, *, bf16: bool) -> None:
        """Compute what a client sends for these steps."""
        for seed in range(self.steps):
            class_moments(self.embedding, seed, self.real, bf16=bf16)

    @torch.no_grad()
    def forward(self, *, bf16: bool) -> None:
        """Push the same images through one network, and nothing else."""
        net, images = self.embedding.network(0), torch.cat(list(self.real.values()))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            for _ in range(self.steps):
                for part in torch.split(images, CHUNK[self.device.type]):
                    net.features(part)


def server(setting: Setting, repeats: int) -> list[Row]:
    """Compare iterations with the reference way, with and without the real images."""
    # After one step: later ones start apart by rounding, and a ReLU tells the sign of that.
    mine, theirs = (way(real=True, steps=1) for way in (setting.ours, setting.reference))
    gap = float((mine - theirs).abs().max() / (mine - setting.start.to(setting.device)).abs().max())
    seconds = interleave(
        {
            "reference": lambda: setting.reference(real=True),
            "fp32": lambda: setting.ours(real=True),
            "bf16": lambda: setting.ours(real=True, precision="bf16-mixed"),
            "server reference": lambda: setting.reference(real=False),
            "server fp32": lambda: setting.ours(real=False),
            "server bf16": lambda: setting.ours(real=False, precision="bf16-mixed"),
        },
        repeats,
    )

    def per_step(name: str) -> float:
        return 1000 * statistics.median(seconds[name]) / setting.steps

    return [
        Row("fp32: largest gap to the reference way's images", gap, "of the step",
            "<= 1e-4"),
        Row("iteration, reference way (100 real a class)", per_step("reference"), "ms"),
        Row("iteration, fp32: times as fast", ratio(seconds, "fp32", "reference"), "x",
            ">= 5 on a GPU"),
        Row("iteration, bf16: times as fast", ratio(seconds, "bf16", "reference"), "x", ">= 2"),
        Row("server's part, reference way", per_step("server reference"), "ms"),
        Row("server's part, fp32: times as fast",
            ratio(seconds, "server fp32", "server reference"), "x"),
        Row("server's part, bf16: times as fast",
            ratio(seconds, "server bf16", "server reference"), "x", ">= 2"),
    ]  # fmt: skip


def compiled(setting: Setting, repeats: int, backend: str) -> list[Row]:
    """Compare the server's part with and without ``torch.compile``."""
    rows = []
    for precision in PRECISIONS:
        embedding = Compiled.of(setting.embedding, backend)
        plain = partial(setting.ours, real=False, precision=precision)
        fast = partial(plain, embedding=embedding)
        finish()
        began = time.perf_counter()
        fast()
        finish()
        first = time.perf_counter() - began
        seconds = interleave({"compiled": fast, "plain": plain}, repeats)
        rows += [
            Row(f"server's part, {precision}, torch.compile ({backend}): times as fast",
                ratio(seconds, "compiled", "plain"), "x"),
            Row("compiling it once, and the first steps", first, "s"),
        ]  # fmt: skip
    return rows


def chunks(setting: Setting, repeats: int) -> list[Row]:
    """Compare chunk sizes: from one class to all at once."""
    ipc = len(setting.labels) // CLASSES
    sizes = sorted({ipc, 2 * ipc, 64, len(setting.labels)})
    rows = []
    for precision in PRECISIONS:
        seconds = interleave(
            {
                str(size): lambda size=size, precision=precision: setting.ours(  # type: ignore[misc]
                    real=False, precision=precision, chunk=size
                )
                for size in sizes
            },
            repeats,
        )
        rows += [
            Row(f"server's part, {precision}, chunks of {size}: times as fast as one class",
                ratio(seconds, str(size), str(ipc)), "x")
            for size in sizes[1:]
        ]  # fmt: skip
    return rows


def client(setting: Setting, repeats: int) -> list[Row]:
    """Compare a client's statistics with nothing but the forward passes of the same images."""
    seconds = interleave(
        {
            "statistics fp32": lambda: setting.statistics(bf16=False),
            "bound fp32": lambda: setting.forward(bf16=False),
            "statistics bf16": lambda: setting.statistics(bf16=True),
            "bound bf16": lambda: setting.forward(bf16=True),
        },
        repeats,
    )
    images = setting.steps * CLASSES * REAL
    rows = []
    for precision in ("fp32", "bf16"):
        own, bound = f"statistics {precision}", f"bound {precision}"
        rate = images / statistics.median(seconds[own])
        rows += [
            Row(f"client statistics, {precision}", rate, "images/s"),
            Row("share of the forward-only bound", ratio(seconds, own, bound), "x", ">= 0.9"),
        ]
    return rows


def peak(clients: int, iterations: int, home: Path) -> float:
    """Return the peak memory in bytes of a run on the digits."""
    settings = {
        "data": {"name": "digits"},
        "partition": {"scheme": "iid", "clients": clients},
        "models": {"name": "convnet", "width": 32},
        "budget": {"ipc": 1},
        "student": {"epochs": 1},
        "method": {
            "name": "collabdm", "iterations": iterations, "initial": "noise", "samples": 2,
        },
    }  # fmt: skip
    runtime = Runtime(home=home, data=home, device="cpu", threads=1, offline=True)
    record = run_cell(parse(settings), runtime, suite="speed")
    if record.status != "ok":
        raise SystemExit(record.traceback)
    return float(record.peak_memory_bytes or 0)


def memory() -> list[Row]:
    """Measure peaks, a process each: over clients, and over networks."""
    found = {}
    for clients, iterations in ((5, 10), (50, 10), (500, 10), (5, 400)):
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run(
                [sys.executable, __file__, "--peak", str(clients), str(iterations), home],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            shutil.rmtree(Path(home) / "speed", ignore_errors=True)
        found[clients, iterations] = json.loads(done.stdout.splitlines()[-1]) / 1e6
    return [
        Row(f"peak memory, {clients} clients, T = {iterations}", value, "MB")
        for (clients, iterations), value in found.items()
    ]


def main() -> None:
    """Measure what was asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--compile", metavar="BACKEND", help="torch.compile as well: inductor")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    parser.add_argument("--peak", nargs=3, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak is not None:
        print(peak(int(options.peak[0]), int(options.peak[1]), Path(options.peak[2])))
        return
    torch.set_num_threads(options.threads)
    setting = Setting(options.width, options.ipc, ready(options.device), options.steps)
    rows = [
        *server(setting, options.repeats),
        *chunks(setting, options.repeats),
        *client(setting, options.repeats),
        *(compiled(setting, options.repeats, options.compile) if options.compile else []),
        *([] if options.no_memory else memory()),
    ]
    title = f"Distribution matching, ConvNet of width {options.width}, ipc {options.ipc}"
    report(title, rows, options.json)


if __name__ == "__main__":
    main()
