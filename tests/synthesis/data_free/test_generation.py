"""A generator at work: the best batch is kept, and nothing but generator and noise is moved."""

import pytest
import torch
from torch.nn import functional

from fedbench.data import augment
from fedbench.data.normalisation import Normalisation
from fedbench.models.factory import build
from fedbench.models.inference import Inference
from fedbench.models.settings import Model
from fedbench.synthesis.data_free.generation import Generation, Ticks, move
from fedbench.synthesis.data_free.generator import Generator
from fedbench.synthesis.data_free.terms import Terms
from fedbench.synthesis.teachers import Teachers
from fedbench.training.pool import TrainerPool

SCALE = Normalisation((0.4,), (0.3,))
POOL = TrainerPool("cpu", "32-true")
RESNET = Model(name="resnet8", width=4)


def network(seed):
    return build(RESNET, channels=1, size=16, classes=4, seed=seed).eval()


class Bench:
    """Two teachers, a student and a generator of sixteen images."""

    def __init__(self, **options):
        source = torch.Generator().manual_seed(0)
        inference = Inference(SCALE, torch.device("cpu"))
        self.teachers, self.student = Teachers([network(1), network(2)], inference), network(3)
        self.module = Generation(
            Generator(1, 16, 8, 4, source),
            torch.randn(16, 8, generator=source),
            torch.arange(16) % 4,
            **{
                "terms": Terms(batch_norm=1, adversarial=1),
                "teachers": self.teachers,
                "shares": torch.tensor([0.5, 0.5]),
                "student": self.student,
                "normalisation": SCALE,
                "view": "flip_crop",
                "lr": 1e-3,
                **options,
            },
        )

    def fit(self, steps):
        POOL.fit(self.module, Ticks(steps, seed=1), steps=steps)
        return self.module


def state(net):
    return [value.clone() for value in net.state_dict().values()]


def test_de_1_nothing_of_teachers_and_student_changes():
    bench = Bench()
    watched = [*bench.teachers.nets, bench.student.requires_grad_(False)]
    before = [state(net) for net in watched]
    noise = bench.module.noise.detach().clone()
    bench.fit(3)
    for net, old in zip(watched, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(old, state(net), strict=True))
        assert all(weight.grad is None for weight in net.parameters())
    assert not torch.equal(bench.module.noise, noise)
    assert not list(bench.module.children())[1:]  # teachers and student are no part of it


def test_the_batch_of_the_lowest_loss_is_kept_as_it_was_before_it_was_moved():
    losses, made = [], []

    class Watched(Generation):
        def training_step(self, batch, batch_idx):
            made.append(self.net(self.noise).detach())
            loss = super().training_step(batch, batch_idx)
            losses.append(loss.item())
            return loss

    bench = Bench(lr=0.05)
    bench.module.__class__ = Watched
    found = bench.fit(8)
    place = losses.index(min(losses))
    assert place > 0
    # BatchNorm of the generator normalises by the batch, so asking again gives the same images.
    assert torch.equal(found.best, made[place])
    assert found.lowest.item() == min(losses)
    assert 0 <= found.best.min() < found.best.max() <= 1


def test_it_finds_images_that_teachers_recognise():
    bench = Bench(terms=Terms(), view="none", lr=0.01)
    for net in bench.teachers.nets:  # untrained ones hardly care what they see
        net.head.weight.mul_(30)

    def loss(images):
        said = bench.teachers.logits(SCALE.of_unit(images)).mean(0)
        return functional.cross_entropy(said, bench.module.labels).item()

    first = loss(bench.module.net(bench.module.noise))
    assert loss(bench.fit(40).best) < 0.8 * first


def test_a_bound_on_the_gradient_is_for_the_generator_alone():
    free, bound = Bench(), Bench(clip_norm=1e-9)
    before = bound.module.net.first.weight.detach().clone()
    # Adam divides by the gradient's size, so the bound shows where it falls below Adam's epsilon.
    free.fit(1)
    bound.fit(1)
    moved = [(bench.module.net.first.weight - before).abs().max() for bench in (free, bound)]
    assert moved[1] < 0.2 * moved[0]
    assert torch.allclose(free.module.noise, bound.module.noise)


@pytest.mark.parametrize("kind", ["none", "crop", "flip", "flip_crop"])
def test_images_are_moved_as_training_images_are_and_gradients_pass(kind):
    images = torch.rand(12, 3, 16, 16, requires_grad=True)
    torch.manual_seed(5)
    moved = move(images, kind)
    torch.manual_seed(5)
    draws = augment.draw(len(images), kind, images.shape[-1], torch.default_generator)
    expected = augment.apply(images.detach(), draws)
    assert torch.equal(moved, expected)
    moved.sum().backward()
    seen = images.grad.bool()
    assert seen.all() == (kind in ("none", "flip"))
    assert set(images.grad.unique().tolist()) <= {0.0, 1.0}
