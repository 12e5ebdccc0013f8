"""Whether many equal networks train faster stacked than one after another, and by how much.

A step of all networks is one call of ``torch.func.vmap`` over their stacked weights, against a
plain loop over the networks. Each network has batches of its own. Steps are equal: forward,
backward, SGD with momentum; the loop has torch's optimiser, the stack the same update by hand.

Run ``python benchmarks/speed/stacked.py``; it asserts nothing.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from timing import Row, interleave, ratio, ready, report, save
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from fedbench.models.factory import build
from fedbench.models.settings import Model

LR, MOMENTUM = 0.01, 0.9


class Crowd:
    """So many ConvNets with batches of their own, and two ways to train them.

    Args:
        count: Networks.
        width: Of each.
        batch: Images in a batch.
        steps: In each measurement.
        device: Where to compute.
        size: Height and width of the images in pixels.
    """

    def __init__(
        self, count: int, width: int, batch: int, steps: int, device: str, size: int = 32
    ) -> None:
        model, kind = Model(name="convnet", width=width), torch.device(device).type
        self.nets = [
            build(model, channels=3, size=size, classes=10, seed=seed, device=kind).to(device)
            for seed in range(count)
        ]
        source = torch.Generator().manual_seed(0)
        shape = (count, batch, 3, size, size)
        self.images = torch.randn(shape, generator=source).to(device)
        self.labels = torch.randint(0, 10, (count, batch), generator=source).to(device)
        self.steps = steps

    def one_by_one(self, steps: int | None = None) -> list[nn.Module]:
        """Train the networks one after another, each through all of its steps."""
        trained = []
        for net, images, labels in zip(self.nets, self.images, self.labels, strict=True):
            mine = copy.deepcopy(net)
            optimizer = torch.optim.SGD(mine.parameters(), lr=LR, momentum=MOMENTUM)
            for _ in range(self.steps if steps is None else steps):
                optimizer.zero_grad()
                functional.cross_entropy(mine(images), labels).backward()
                optimizer.step()
            trained.append(mine)
        return trained

    def stacked(self, steps: int | None = None) -> dict[str, Tensor]:
        """Train all networks at once and return their stacked weights."""
        weights, buffers = stack_module_state(self.nets)
        weights = {name: value.detach().clone() for name, value in weights.items()}
        shell = copy.deepcopy(self.nets[0]).to("meta")

        def loss(weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
            logits = functional_call(shell, (weights, buffers), (images,))
            return functional.cross_entropy(logits, labels)

        slopes = vmap(grad(loss))
        speed = {name: torch.zeros_like(value) for name, value in weights.items()}
        for _ in range(self.steps if steps is None else steps):
            found = slopes(weights, self.images, self.labels)
            for name, value in weights.items():
                value.sub_(speed[name].mul_(MOMENTUM).add_(found[name]), alpha=LR)
        return weights

    @torch.no_grad()
    def gap(self) -> float:
        """Return the largest difference of weights after one step, as a share of the largest step.

        Over all weights: a bias before a normalisation moves by rounding alone.
        """
        with torch.enable_grad():
            nets, weights = self.one_by_one(1), self.stacked(1)
        error = step = 0.0
        for number, (net, start) in enumerate(zip(nets, self.nets, strict=True)):
            before = dict(start.named_parameters())
            for name, value in net.named_parameters():
                step = max(step, float((value - before[name]).abs().max()))
                error = max(error, float((value - weights[name][number]).abs().max()))
        return error / step


def rows(crowd: Crowd, name: str, repeats: int) -> list[Row]:
    """Compare the two ways, once they are known to do the same."""
    ways: dict[str, Callable[[], object]] = {
        "stacked": crowd.stacked,
        "one by one": crowd.one_by_one,
    }
    gap = crowd.gap()
    seconds = interleave(ways, repeats)
    apart = 1000 * statistics.median(seconds["one by one"]) / (crowd.steps * len(crowd.nets))
    return [
        Row(f"{name}: gap after a step", gap, "of the step", "<= 1e-4"),
        Row(f"{name}: a step of one network, one by one", apart, "ms"),
        Row(f"{name}: stacked, times as fast", ratio(seconds, "stacked", "one by one"), "x",
            ">= 3 to adopt it"),
    ]  # fmt: skip


def main() -> None:
    """Measure every combination that was asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = str(ready(options.device))
    table: list[Row] = []
    title = "Stacked training"
    for count in options.counts:
        for width in options.widths:
            for batch in options.batches:
                name = f"{count} ConvNets, width {width}, batch {batch}"
                try:
                    crowd = Crowd(count, width, batch, options.steps, device, options.size)
                    table += rows(crowd, name, options.repeats)
                except torch.OutOfMemoryError:
                    table.append(Row(f"{name}: stacked", 0.0, "x", "the GPU's memory is too small"))
                save(title, table, options.json)
    report(title, table, options.json)


if __name__ == "__main__":
    main()
