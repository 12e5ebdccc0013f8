"""Trajectory matching: the loss, two ways to its gradient, what steps see, experts that stand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from fedbench.data import dsa
from fedbench.models.factory import build
from fedbench.models.settings import Model
from fedbench.synthesis.matching.trajectories import (
    Batch,
    InnerLoop,
    Segment,
    distance,
    draw_batches,
    length,
    moves,
)

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 0, 1, 1, 2])


def network(dtype=torch.float64, norm="instance"):
    model = Model(name="convnet", width=4, depth=2, norm=norm)
    return build(model, channels=1, size=8, classes=3, seed=0).to(dtype)


OPS = dsa.parse("color_crop_cutout_flip")  # the others compute places in float32


def parts(steps=5, size=3, dtype=torch.float64, ops=OPS):
    """Return an inner loop, a segment, images, a learning rate and batches."""
    net, source = network(dtype), torch.Generator().manual_seed(3)

    def noise(like):
        return torch.randn(like.shape, generator=source, dtype=dtype)

    start = tuple(weight.detach().clone() for weight in net.parameters())
    target = tuple(weight + 0.05 * noise(weight) for weight in start)
    images = torch.randn(5, 1, 8, 8, generator=source, dtype=dtype)
    batches = draw_batches(5, steps, size, ops, 8, source, CPU)
    return (
        InnerLoop(net, LABELS),
        Segment(start, target),
        images,
        torch.tensor(0.1).to(dtype),
        batches,
    )


@pytest.mark.parametrize("ways", ["unrolled", "recomputed"])
def test_mt_1_a_student_that_does_not_move_has_a_loss_of_one(ways):
    loop, segment, images, lr, batches = parts()
    for rate, steps in ((torch.zeros_like(lr), batches), (lr, [])):
        found = getattr(loop, ways)(segment, images, rate, steps)
        assert float(found.loss) == 1.0
        assert not found.images.any()


def test_mt_1_a_student_at_the_target_has_a_loss_of_zero():
    _, segment, *_ = parts()
    assert float(distance(segment.target, segment)) == 0.0


def test_mt_2_the_loss_does_not_change_with_the_size_of_the_step():
    _, segment, *_ = parts()
    end = tuple(weight + 0.3 * torch.sin(100 * weight) for weight in segment.start)

    def scaled(weights, factor):
        return tuple(s + factor * (w - s) for w, s in zip(weights, segment.start, strict=True))

    whole = distance(end, segment)
    for factor in (0.01, 7.0):
        other = Segment(segment.start, scaled(segment.target, factor))
        torch.testing.assert_close(distance(scaled(end, factor), other), whole)


@pytest.mark.parametrize("steps", [1, 4, 10, 11, 23])
def test_both_ways_give_the_same_gradient(steps):
    loop, segment, images, lr, batches = parts(steps)
    one = loop.unrolled(segment, images, lr, batches)
    other = loop.recomputed(segment, images, lr, batches)
    for name in ("loss", "images", "lr"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-5, atol=0)


def test_the_gradient_is_that_of_finite_differences():
    loop, segment, images, lr, batches = parts(3, ops=())
    found = loop.recomputed(segment, images, lr, batches)
    step = 1e-6

    def loss(pixels, rate):
        return float(loop.recomputed(segment, pixels, rate, batches).loss)

    place = found.images.abs().flatten().argmax()
    nudge = torch.zeros_like(images).flatten()
    nudge[place] = step
    nudge = nudge.view_as(images)
    slope = (loss(images + nudge, lr) - loss(images - nudge, lr)) / (2 * step)
    assert slope == pytest.approx(float(found.images.flatten()[place]), rel=1e-4)
    slope = (loss(images, lr + step) - loss(images, lr - step)) / (2 * step)
    assert slope == pytest.approx(float(found.lr), rel=1e-4)


@pytest.mark.parametrize("ways", ["unrolled", "recomputed"])
def test_mt_3_pixels_and_rate_have_gradients_and_experts_have_none(ways):
    loop, segment, images, lr, batches = parts()
    found = getattr(loop, ways)(segment, images, lr, batches)
    assert found.images.abs().sum() > 0
    assert float(found.lr) != 0
    for weight in (*segment.start, *segment.target, images, lr, found.loss):
        assert not weight.requires_grad
        assert weight.grad is None


def test_mt_5_the_loss_falls_where_there_is_one_expert():
    net, source = network(torch.float32), torch.Generator().manual_seed(0)
    real = torch.randn(30, 1, 8, 8, generator=source) + torch.arange(3.0).repeat(10).view(
        -1, 1, 1, 1
    )
    labels = torch.arange(3).repeat(10)
    start = tuple(weight.detach().clone() for weight in net.parameters())
    expert = InnerLoop(net, labels)
    weights = start
    everything = Batch(torch.arange(30), None)
    for _ in range(10):
        slopes = expert.gradient(tuple(w.requires_grad_() for w in weights), real, everything)
        weights = tuple((w - 0.1 * g).detach() for w, g in zip(weights, slopes, strict=True))
    segment = Segment(tuple(w.detach() for w in start), weights)
    images = torch.randn(5, 1, 8, 8, generator=source)
    loop, lr = InnerLoop(net, LABELS), torch.tensor(0.1)
    losses = []
    for _ in range(30):
        batches = draw_batches(5, 10, None, (), 8, source, CPU)
        found = loop.recomputed(segment, images, lr, batches)
        images = images - 5.0 * found.images
        losses.append(float(found.loss))
    assert losses[-1] < 0.7 * losses[0]


def test_an_inner_step_is_one_of_gradient_descent():
    loop, segment, images, lr, batches = parts(1, ops=())
    net = network()
    places = batches[0].places
    functional.cross_entropy(net(images[places]), LABELS[places]).backward()
    moved = tuple(w.detach() - 0.1 * w.grad for w in net.parameters())
    expected = distance(moved, segment)
    torch.testing.assert_close(loop.recomputed(segment, images, lr, batches).loss, expected)


def test_steps_see_all_images_pass_by_pass():
    source = torch.Generator().manual_seed(0)
    batches = draw_batches(5, 6, 2, dsa.parse(dsa.STRATEGY), 8, source, CPU)
    assert [len(batch.places) for batch in batches] == [2, 2, 1, 2, 2, 1]
    for first in (0, 3):
        seen = torch.cat([batch.places for batch in batches[first : first + 3]])
        assert sorted(seen.tolist()) == list(range(5))
    for batch in batches:  # every image has parameters of its own
        assert batch.draw is not None
        assert len(batch.draw.values) == len(batch.places)
    assert {len(batch.places) for batch in draw_batches(5, 3, None, (), 8, source, CPU)} == {5}


def test_experts_that_stand_are_told_from_those_that_move():
    _, segment, *_ = parts(dtype=torch.float32)
    assert moves(segment)
    assert not moves(Segment(segment.start, segment.start))
    hair = tuple(weight * (1 + 1e-7) for weight in segment.start)
    assert not moves(Segment(segment.start, hair))
    broken = tuple(torch.full_like(weight, math.nan) for weight in segment.start)
    assert not moves(Segment(segment.start, broken))
    assert float(length(segment)) > 0


def test_bfloat16_changes_digits_and_nothing_else():
    loop, segment, images, lr, batches = parts(dtype=torch.float32)
    half = InnerLoop(network(torch.float32), LABELS, bf16=True)
    exact, rough = (each.recomputed(segment, images, lr, batches) for each in (loop, half))
    assert rough.images.dtype == torch.float32
    assert not torch.equal(exact.images, rough.images)
    alike = functional.cosine_similarity(exact.images.flatten(), rough.images.flatten(), dim=0)
    assert alike > 0.98
