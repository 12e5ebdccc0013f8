"""Which memory format trains each family fastest, by precision: what ``models.families`` declares.

A step is forward, backward and SGD. All variants of a family take turns. Figures are of the
processor's time, which other work on the machine lengthens least; on a GPU, of the clock. ``last``
has convolution weights in channels_last, and images as they come, because a convolution of such
weights gives such maps.

Run ``python benchmarks/speed/memory_format.py``; it asserts nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from timing import Row, finish, ready, report
from torch.nn import functional

from fedbench.models.factory import build
from fedbench.models.settings import Model


@dataclass(frozen=True)
class Case:
    """A network and its batches: fewer images for large networks, so that all take alike."""

    model: Model
    batch: int
    channels: int = 3
    size: int = 32


CASES = {
    "convnet-w32": Case(Model(name="convnet", width=32), 64),
    "convnet-w128": Case(Model(name="convnet"), 16),
    "convnet-w32-batch": Case(Model(name="convnet", width=32, norm="batch"), 64),
    "convnet-w32-none": Case(Model(name="convnet", width=32, norm="none"), 64),
    "dense_cnn": Case(Model(name="dense_cnn"), 64),
    "dense_cnn of 28x28": Case(Model(name="dense_cnn"), 64, channels=1, size=28),
    "resnet8": Case(Model(name="resnet8"), 64),
    "resnet8 of 8x8": Case(Model(name="resnet8"), 64, channels=1, size=8),
    "resnet20": Case(Model(name="resnet20"), 32),
    "resnet18": Case(Model(name="resnet18"), 8),
    "wrn16_4": Case(Model(name="wrn16_4"), 8),
    "mobilenet_v2": Case(Model(name="mobilenet_v2"), 16),
    "shufflenet_v2": Case(Model(name="shufflenet_v2"), 32),
    "vgg11": Case(Model(name="vgg11"), 16),
    "vgg16": Case(Model(name="vgg16"), 16),
}
FORMATS = {"contiguous": torch.contiguous_format, "last": torch.channels_last}
PRECISIONS = ("32-true", "bf16-mixed")


def step(
    case: Case, format: torch.memory_format, half: bool, device: str, batch: int
) -> Callable[[], None]:
    """Return a function that trains a network by one step."""
    net = build(case.model, channels=case.channels, size=case.size, classes=10, seed=0)
    net = net.to(device, memory_format=format)
    source = torch.Generator().manual_seed(0)
    images = torch.randn(batch, case.channels, case.size, case.size, generator=source).to(device)
    labels = torch.randint(0, 10, (batch,), generator=source).to(device)
    kind = torch.device(device).type
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast(kind, torch.bfloat16, enabled=half):
            logits = net(images)
        functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return run


def throughput(name: str, repeats: int, device: str) -> dict[tuple[str, str], float]:
    """Return images a second by precision and format; batches of 128 on a GPU."""
    case, on_gpu = CASES[name], torch.device(device).type == "cuda"
    batch, clock = (128, time.perf_counter) if on_gpu else (case.batch, time.process_time)
    variants = {
        (precision, format): step(case, FORMATS[format], precision != "32-true", device, batch)
        for precision in PRECISIONS
        for format in FORMATS
    }
    found: dict[tuple[str, str], list[float]] = {key: [] for key in variants}
    for turn in range(-1, repeats):
        for key, run in variants.items():
            finish()
            began = clock()
            run()
            finish()
            if turn >= 0:
                found[key].append(batch / (clock() - began))
    return {key: statistics.median(values) for key, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = str(ready(options.device))
    rows = []
    for name in options.only:
        speeds = throughput(name, options.repeats, device)
        for precision in PRECISIONS:
            plain, last = speeds[precision, "contiguous"], speeds[precision, "last"]
            rows += [
                Row(f"{name}, {precision}: contiguous", plain, "images/s"),
                Row(f"{name}, {precision}: channels_last", last, "images/s"),
                Row(f"{name}, {precision}: channels_last / contiguous", last / plain, "x"),
            ]
            print(f"{name:18} {precision:11} {plain:7.0f} {last:7.0f} {last / plain:.2f}")
    report("Memory format", rows, options.json)


if __name__ == "__main__":
    main()
