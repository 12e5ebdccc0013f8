"""What a step of Deep Inversion costs beside the reference codes' way, and what teachers add to it.

Run ``python benchmarks/speed/inversion.py``; it asserts nothing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from timing import Row, interleave, ratio, report
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from fedbench.data.normalisation import Normalisation
from fedbench.data.stream import Columns, Stream
from fedbench.models.factory import build
from fedbench.models.inference import Inference
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.synthesis.data_free.inversion import Descent, Group, Inverter, Terms
from fedbench.synthesis.data_free.lessons import Lesson, Tutor
from fedbench.synthesis.student import Student
from fedbench.synthesis.teachers import Teachers, frozen
from fedbench.training.distillation import Distillation
from fedbench.training.pool import TrainerPool
from fedbench.training.recipe import Recipe

HALF = Normalisation((0.5,) * 3, (0.5,) * 3)
TERMS = Terms(1e-3, 0.0, 10.0, 10.0)
NARROW = Model(name="resnet8", width=16)
STEPS = 20  # of a student's epoch


class Hook:
    """The reference codes' hook of one layer: it stays, and keeps its last gap."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        self.gap = torch.zeros(())
        layer.register_forward_hook(self._hear)

    def _hear(self, layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        (given,) = inputs
        channels = given.shape[1]
        mean = given.mean([0, 2, 3])
        var = given.permute(1, 0, 2, 3).contiguous().view(channels, -1).var(1, unbiased=False)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        self.gap = torch.norm(layer.running_var - var, 2) + torch.norm(layer.running_mean - mean, 2)


def net(model: Model, seed: int, device: torch.device) -> Net:
    made = build(model, channels=3, size=32, classes=10, seed=seed, device=device.type)
    return made.to(device).eval()


def reference(model: Model, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss as NVlabs' and S3's codes compute it, weights requiring gradients."""
    teacher, student = (
        net(model, seed, device).to(memory_format=torch.contiguous_format) for seed in (0, 1)
    )
    hooks = [Hook(part) for part in teacher.modules() if isinstance(part, nn.BatchNorm2d)]
    divergence = nn.KLDivLoss(reduction="batchmean")

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        said, guess = teacher(images), student(images)
        total = functional.cross_entropy(said, labels)
        shifts = (
            images[:, :, :, :-1] - images[:, :, :, 1:],
            images[:, :, :-1, :] - images[:, :, 1:, :],
            images[:, :, :-1, :-1] - images[:, :, 1:, 1:],
            images[:, :, 1:, :-1] - images[:, :, :-1, 1:],
        )
        total = total + TERMS.tv * sum(torch.norm(shift) for shift in shifts)
        total = total + TERMS.batch_norm * sum(hook.gap for hook in hooks)
        p, q = (functional.softmax(logits / 3, dim=1) for logits in (said, guess))
        mean = (0.5 * (p + q)).clamp(0.01, 0.99)
        p, q = p.clamp(0.01, 0.99), q.clamp(0.01, 0.99)
        js = 0.5 * divergence(p.log(), mean) + 0.5 * divergence(q.log(), mean)
        return total + TERMS.compete * (1 - js.clamp(0.0, 1.0))

    return loss


def step(repeats: int, model: Model, batch: int, device: torch.device) -> list[Row]:
    """One step, gradients to the images and Adam included."""
    images, labels = images_of(batch, device)
    theirs = reference(model, device)
    inference = Inference(HALF, device)
    rows, name = [], f"{model.label}, batch {batch}"
    with frozen(net(model, 1, device), inference) as student:
        ours = Inverter(Teachers([net(model, 0, device)], inference), TERMS, Descent(1, 0.1))
        mixed_inference = Inference(HALF, device, bf16=True)
        mixed = Inverter(Teachers([net(model, 0, device)], mixed_inference), TERMS, Descent(1, 0.1))
        gap = ours.loss(images, labels, Group((0,)), student) / theirs(images, labels) - 1
        variants = {
            "reference": _step(theirs, images, labels),
            "ours": _step(
                lambda x, y: ours.loss(x, y, Group((0,)), student), images, labels, alone=True
            ),
            "bf16": _step(
                lambda x, y: mixed.loss(x, y, Group((0,)), student), images, labels, alone=True
            ),
        }
        compiled = device.type == "cuda"
        if compiled:
            quick = torch.compile(lambda x, y: ours.loss(x, y, Group((0,)), student))
            variants["compiled"] = _step(quick, images, labels, alone=True)
        seconds = interleave(variants, repeats)
    rows.append(Row(f"loss, ours / reference - 1 ({name})", float(gap.detach()), "", "below 1e-3"))
    rows.append(
        Row(f"reference / ours ({name})", ratio(seconds, "ours", "reference"), "x", "at least 1.8")
    )
    rows.append(Row(f"reference / ours in bf16 ({name})", ratio(seconds, "bf16", "reference"), "x"))
    if compiled:
        rows.append(
            Row(f"ours / compiled ({name})", ratio(seconds, "compiled", "ours"), "x", "for a GPU")
        )
    rows.append(Row(f"our step ({name})", 1000 * statistics.median(seconds["ours"]), "ms"))
    return rows


def _step(
    loss: Callable[[Tensor, Tensor], Tensor], start: Tensor, labels: Tensor, *, alone: bool = False
) -> Callable[[], None]:
    images = start.clone().requires_grad_()
    adam = torch.optim.Adam([images], lr=0.1)

    def run() -> None:
        adam.zero_grad()
        if alone:
            (images.grad,) = torch.autograd.grad(loss(images, labels), images)
        else:
            loss(images, labels).backward()
        adam.step()
        if images.is_cuda:
            torch.cuda.synchronize()

    return run


def sampling(repeats: int, batch: int, device: torch.device) -> list[Row]:
    """Steps that ask n of K teachers: the time should follow n and not K."""
    images, labels = images_of(batch, device)
    inference = Inference(HALF, device)
    variants, terms = {}, Terms(1e-3, 0.0, 10.0)
    for count, asked in ((10, 1), (10, 2), (10, 4), (20, 2)):
        nets = [net(NARROW, seed, device) for seed in range(count)]
        inverter = Inverter(Teachers(nets, inference), terms, Descent(1, 0.1))
        group = Group(tuple(range(asked)))
        variants[f"{asked} of {count}"] = _step(
            lambda x, y, inverter=inverter, group=group: inverter.loss(x, y, group),
            images,
            labels,
            alone=True,
        )
    seconds = interleave(variants, repeats)
    return [
        Row("2 of 10 / 1 of 10", ratio(seconds, "1 of 10", "2 of 10"), "x", "2"),
        Row("4 of 10 / 1 of 10", ratio(seconds, "1 of 10", "4 of 10"), "x", "4"),
        Row("2 of 20 / 2 of 10", ratio(seconds, "2 of 10", "2 of 20"), "x", "1"),
    ]


def stacked(repeats: int, batch: int, device: torch.device) -> list[Row]:
    """Four teachers of one architecture, one after another and as one stack (``torch.vmap``)."""
    images, labels = images_of(batch, device)
    nets = [net(NARROW, seed, device).requires_grad_(False) for seed in range(4)]
    weights, buffers = stack_module_state(nets)
    skeleton = net(NARROW, 0, device)
    weights = {name: value.detach() for name, value in weights.items()}

    def apart(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([functional.cross_entropy(each(x), y) for each in nets]).mean()

    def together(x: Tensor, y: Tensor) -> Tensor:
        def one(state: dict[str, Tensor], kept: dict[str, Tensor]) -> Tensor:
            return functional.cross_entropy(functional_call(skeleton, (state, kept), (x,)), y)

        return vmap(one)(weights, buffers).mean()

    seconds = interleave(
        {
            "apart": _step(apart, images, labels, alone=True),
            "stack": _step(together, images, labels, alone=True),
        },
        repeats,
    )
    return [Row("stack of 4 / one by one", ratio(seconds, "apart", "stack"), "x", "below 1 pays")]


def epoch(repeats: int, batch: int, device: torch.device) -> list[Row]:
    """A student's epoch through Lightning, and the same steps in a bare loop."""
    images, labels = images_of(8 * batch, device)
    inference = Inference(HALF, device)
    tutor = Tutor(Teachers([net(NARROW, 0, device)], inference), [0])
    clients = torch.zeros_like(labels)
    recipe = Recipe(lr=0.1, batch_size=batch, weight_decay=5e-4)
    distillation = Distillation(temperature=3.0, squared=True)
    pool, student, bare = (
        TrainerPool(str(device), "32-true"),
        net(NARROW, 1, device),
        net(NARROW, 1, device),
    )
    columns = ("made for", "clients", "classes")

    def lesson() -> Lesson:
        rows = Columns(images, labels, clients, labels)
        stream = Stream(rows, batch_size=batch, seed=0, normalisation=HALF, augment="flip_crop")
        return Lesson([], [stream], steps=STEPS, seed=0)

    module = Student(student, recipe, columns, epochs=1, teacher=tutor, distillation=distillation)

    def through_pool() -> None:
        pool.fit(module, lesson(), epochs=1, keep_optimizer=True)

    def loop() -> None:
        sgd = torch.optim.SGD(bare.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        bare.train()
        for shown, _, whose, classes in lesson():
            with torch.no_grad():
                said = tutor(shown, {"clients": whose, "classes": classes})
            sgd.zero_grad()
            distillation.loss(bare(shown), said, torch.ones(1, device=device)).backward()
            sgd.step()

    seconds = interleave({"bare": loop, "pool": through_pool}, repeats)
    return [Row("bare loop / epoch", ratio(seconds, "pool", "bare"), "x", "at least 0.95")]


def images_of(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, 32, 32, generator=source)
    labels = torch.randint(0, 10, (count,), generator=source)
    return images.to(device), labels.to(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=256, help="images of ResNet-18's step")
    parser.add_argument("--small", action="store_true", help="leave out ResNet-18")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    rows = step(given.repeats, NARROW, 64, device)
    if not given.small:
        rows += step(max(given.repeats // 3, 1), Model(name="resnet18"), given.batch, device)
    rows += sampling(given.repeats, 32, device)
    rows += stacked(given.repeats, 32, device)
    rows += epoch(given.repeats, 64, device)
    report("Deep Inversion", rows, given.json)


if __name__ == "__main__":
    main()
