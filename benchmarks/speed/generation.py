"""What an epoch of generator and student costs through stages and Lightning, beside a bare loop.

Run ``python benchmarks/speed/generation.py``; it asserts nothing. The teachers are untrained: time
does not depend on what they know. The generator's loss is the same on both sides, so what is
compared is what carries it; the student's bare loop is written out.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from timing import Row, interleave, ratio, report
from torch import Tensor
from torch.nn import functional

from fedbench.data.normalisation import Normalisation
from fedbench.data.stream import Stream
from fedbench.federation.shelf import Shelf
from fedbench.federation.trail import Trail
from fedbench.models.factory import build
from fedbench.models.inference import Inference
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.synthesis.data_free.generation import Generation, Ticks, move
from fedbench.synthesis.data_free.generator import Generator
from fedbench.synthesis.data_free.pool import ImagePool
from fedbench.synthesis.data_free.terms import Seen, Terms
from fedbench.synthesis.student import Student
from fedbench.synthesis.teachers import Teachers
from fedbench.training.distillation import Distillation
from fedbench.training.pool import TrainerPool
from fedbench.training.recipe import Recipe

CPU = torch.device("cpu")
HALF = Normalisation((0.5,) * 3, (0.5,) * 3)
TERMS = Terms(batch_norm=1.0, adversarial=1.0)
TEMPERATURE = 20.0
RECIPE = Recipe(lr=0.005, augment="none")


def network(model: Model, seed: int) -> Net:
    return build(model, channels=3, size=32, classes=10, seed=seed).eval()


class Task:
    """One epoch: a generator of some steps, then passes over a pool of some batches."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.pool = options, TrainerPool("cpu", "32-true")
        model = Model(name=options.model, width=options.width)
        nets = [network(model, seed) for seed in range(1, 1 + options.teachers)]
        self.teachers = Teachers(nets, Inference(HALF, CPU))
        self.model, self.shares = model, torch.full((len(nets),), 1 / len(nets))
        self.images = ImagePool(Trail(Shelf(folder)), HALF, CPU)
        source = torch.Generator().manual_seed(0)
        for _ in range(options.batches):
            made = torch.rand(options.batch_size, 3, 32, 32, generator=source)
            self.images.add(HALF.of_unit(made), torch.zeros(options.batch_size, dtype=torch.int64))

    def module(self) -> Generation:
        """Return a new generator at work."""
        source = torch.Generator().manual_seed(1)
        net = Generator(3, 32, 100, self.options.maps, source)
        size, student = self.options.batch_size, network(self.model, 0).requires_grad_(False)
        return Generation(
            net,
            torch.randn(size, 100, generator=source),
            torch.arange(size) % 10,
            terms=TERMS,
            teachers=self.teachers,
            shares=self.shares,
            student=student,
            normalisation=HALF,
            view="flip_crop",
            lr=1e-3,
        )

    def generator_through_pool(self) -> None:
        """Train a generator as the methods do."""
        self.pool.fit(self.module(), Ticks(self.options.steps, 0), steps=self.options.steps)

    def generator_bare(self) -> None:
        """Train it by a plain loop."""
        module, student = self.module(), network(self.model, 0).requires_grad_(False)
        net, lowest, best = module.net.train(), torch.inf, torch.empty(0)
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, betas=(0.5, 0.999))
        for _ in range(self.options.steps):
            optimizer.zero_grad()
            images = net(module.noise)
            moved = HALF.of_unit(move(images, "flip_crop"))
            seen = Seen(moved, module.labels, lambda moved=moved: student(moved))
            loss = TERMS.loss(self.teachers, self.shares, seen)
            if loss.item() < lowest:
                lowest, best = loss.item(), images.detach()
            loss.backward()
            optimizer.step()
        assert len(best)

    def stream(self) -> Stream:
        """Return the pool in batches."""
        size = self.options.batch_size
        return Stream(self.images, batch_size=size, seed=0, normalisation=HALF)

    def student_through_pool(self) -> None:
        """Distil as the methods do."""
        module = Student(
            network(self.model, 0),
            RECIPE,
            ("made for", "clients", "classes"),
            epochs=1,
            steps_per_epoch=None,
            teacher=lambda images, _: self.teachers.logits(images).mean(0, keepdim=True),
            distillation=Distillation(temperature=TEMPERATURE, squared=True),
        )
        self.pool.fit(module, self.stream(), epochs=1)

    def student_bare(self) -> None:
        """Distil by a plain loop."""
        net = network(self.model, 0).train()
        optimizer = torch.optim.SGD(net.parameters(), lr=RECIPE.lr, momentum=RECIPE.momentum)
        for images, *_ in self.stream():
            with torch.no_grad():
                said: Tensor = self.teachers.logits(images).mean(0)
            optimizer.zero_grad()
            target = (said / TEMPERATURE).log_softmax(1)
            guess = (net(images) / TEMPERATURE).log_softmax(1)
            loss = functional.kl_div(guess, target, reduction="batchmean", log_target=True)
            (TEMPERATURE**2 * loss).backward()
            optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15, help="of a generator")
    parser.add_argument("--batches", type=int, default=10, help="in the pool")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--teachers", type=int, default=5)
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--maps", type=int, default=16, help="of the generator's last layer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        task, table = Task(options, Path(folder)), []
        about = f"{task.model.label}, {options.teachers} teachers, batch {options.batch_size}"
        for what, through, bare, target in (
            ("generator steps", task.generator_through_pool, task.generator_bare, ""),
            ("student steps", task.student_through_pool, task.student_bare, ">= 0.95"),
        ):
            seconds = interleave({"pool": through, "bare": bare}, options.repeats)
            name = f"{about}, {what}: pool / bare loop"
            table.append(Row(name, ratio(seconds, "pool", "bare"), "x", target))
    report("An epoch of generator and student", table, options.json)


if __name__ == "__main__":
    main()
