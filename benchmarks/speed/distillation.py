"""What distillation through the pool costs, beside a bare loop on the same batches.

Run ``python benchmarks/speed/distillation.py``; it asserts nothing. The public images are random:
time does not depend on what is on them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from timing import Row, interleave, ratio, ready, report
from torch import Tensor, nn
from torch.nn import functional

from fedbench.data.normalisation import Normalisation
from fedbench.data.stream import Columns, Stream
from fedbench.models.factory import build
from fedbench.models.settings import Model
from fedbench.synthesis.student import Student
from fedbench.training.pool import TrainerPool
from fedbench.training.recipe import Recipe

HALF = (0.5, 0.5, 0.5)
LR = 1e-3


def network(model: Model, device: str, seed: int = 0) -> nn.Module:
    kind = torch.device(device).type
    return build(model, channels=3, size=32, classes=10, seed=seed, device=kind).to(device)


class Task:
    """One student's distillation from five teachers, by a table of logits or batch by batch."""

    def __init__(
        self, model: Model, count: int, batch_size: int, steps: int, augment: str, device: str
    ) -> None:
        source = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=source)
        self.images = self.images.to(device)
        self.table = torch.randn(5, count, 10, generator=source).to(device)
        self.nets = [network(model, device, seed).eval() for seed in range(1, 6)]
        self.model, self.batch_size, self.steps = model, batch_size, steps
        self.augment, self.shares = augment, torch.full((5,), 0.2, device=device)
        self.device, self.pool = device, TrainerPool(device, "32-true")

    def loader(self) -> Stream:
        """Return the public images with their positions."""
        return Stream(
            Columns(self.images, torch.arange(len(self.images), device=self.device)),
            batch_size=self.batch_size,
            seed=0,
            normalisation=Normalisation(HALF, HALF),
            augment="flip_crop" if self.augment == "flip_crop" else "none",
        )

    def teach(self, images: Tensor, places: Tensor) -> Tensor:
        """Return the teachers' logits of a batch."""
        if self.augment == "none":
            return self.table[:, places]
        return torch.stack([net(images) for net in self.nets])

    def through_pool(self) -> None:
        """Distil as the methods do."""
        module = Student(
            network(self.model, self.device),
            Recipe(optimizer="adam", lr=LR),
            ("places",),
            epochs=self.steps,
            teacher=lambda images, row: self.teach(images, row["places"]),
            shares=self.shares,
        )
        self.pool.fit(module, self.loader(), steps=self.steps)

    def bare(self) -> None:
        """Distil by a plain loop."""
        net, loader, done = network(self.model, self.device).train(), self.loader(), 0
        optimizer = torch.optim.Adam(net.parameters(), lr=LR)
        while done < self.steps:
            for images, places in loader:
                with torch.no_grad():
                    teachers = self.teach(images, places)
                optimizer.zero_grad()
                target = torch.einsum("k,kbc->bc", self.shares, teachers).softmax(dim=-1)
                guess = net(images).log_softmax(dim=-1)
                functional.kl_div(guess, target, reduction="batchmean").backward()
                optimizer.step()
                done += 1
                if done == self.steps:
                    break


def rows(
    model: Model, count: int, batch_size: int, steps: int, repeats: int, device: str
) -> list[Row]:
    found = []
    for augment, teachers in (("none", "a table of logits"), ("flip_crop", "five networks")):
        task = Task(model, count, batch_size, steps, augment, device)
        seconds = interleave({"pool": task.through_pool, "bare": task.bare}, repeats)
        name = f"{model.label}, {count} images, batch {batch_size}, {teachers}: pool / bare loop"
        found.append(Row(name, ratio(seconds, "pool", "bare"), "x", ">= 0.95"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--model", default="convnet")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = str(ready(options.device))
    table, model = [], Model(name=options.model, width=options.width)
    for count, batch_size in ((5000, 32), (266, 64)):
        table += rows(model, count, batch_size, options.steps, options.repeats, device)
    report("Distillation through the pool", table, options.json)


if __name__ == "__main__":
    main()
