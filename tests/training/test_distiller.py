"""Distillation: bounds on logits, losses, and the fit of a student."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shared import File
from torch import nn
from torch.nn import functional
from toys import make_loader, make_net, same

from fedbench.data.loaders import BatchLoader
from fedbench.training.distillation import Distillation, distillation_loss
from fedbench.training.distiller import Distiller
from fedbench.training.logits import LogitBound
from fedbench.training.pool import TrainerPool

OBJECTIVES = ("avg_logits", "avg_losses", "avg_probs")
ONE = torch.ones(1)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(scale=st.floats(1e-3, 1e3), length=st.floats(0.5, 5))
def test_si_5_a_jump_sets_the_length_beyond_the_threshold(scale, length):
    logits = draw(20, 10) * scale
    bounded, before = LogitBound(length)(logits), logits.norm(dim=1)
    expected = torch.where(before > 1 / length, torch.tensor(length), before)
    assert torch.allclose(bounded.norm(dim=1), expected, rtol=1e-4)
    assert torch.equal(bounded.argmax(1), logits.argmax(1))


def test_si_5_at_the_sources_factor_the_threshold_is_two_fifths():
    rows = torch.tensor([[0.3, 0.2], [0.4, 0.3]])
    assert torch.allclose(LogitBound(2.5)(rows), torch.tensor([[0.3, 0.2], [2.0, 1.5]]))
    assert torch.equal(LogitBound(2.5, "clip")(rows), rows)
    assert torch.allclose(LogitBound(2.5, "clip")(rows * 100).norm(dim=1), torch.tensor(2.5))


@pytest.mark.parametrize("rule", ["jump", "clip"])
@pytest.mark.parametrize("length", [0.5, 2.5, 5.0])
def test_a_bound_has_no_trouble_with_zeros(length, rule):
    rows = torch.zeros(2, 3, requires_grad=True)
    LogitBound(length, rule)(rows).sum().backward()
    assert torch.isfinite(rows.grad).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fd_1_a_student_that_is_its_only_teacher_has_nothing_to_learn(objective):
    logits = draw(6, 5).requires_grad_()
    loss = distillation_loss(logits, logits.detach()[None], ONE, objective, 2.0)
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert logits.grad.abs().max() < 1e-6


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fd_3_holds_under_autocast_too(objective):
    student, teachers, shares = (
        draw(6, 5).requires_grad_(),
        draw(3, 6, 5, seed=1),
        torch.ones(3) / 3,
    )
    moved = teachers + torch.tensor([0.0, 60.0, 0.0]).view(3, 1, 1)
    grads = []
    for each in (teachers, moved):
        with torch.autocast("cpu", torch.bfloat16):
            loss = distillation_loss(student, each, shares, objective)
        grads += torch.autograd.grad(loss, student)
    assert torch.allclose(*grads, atol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fd_3_a_constant_on_all_logits_of_a_teacher_changes_nothing(objective):
    student, teachers, shares = draw(6, 5), draw(3, 6, 5, seed=1), torch.tensor([0.2, 0.3, 0.5])
    moved = teachers.clone()
    moved[1] += 7
    one, other = (distillation_loss(student, t, shares, objective) for t in (teachers, moved))
    assert torch.allclose(one, other, atol=1e-5)


def test_objectives_are_what_they_say():
    student, teachers, shares = draw(6, 5), draw(2, 6, 5, seed=1), torch.tensor([0.25, 0.75])
    guess = (student / 2).log_softmax(1)

    def divergence(target):
        return functional.kl_div(guess, target, reduction="batchmean")

    mean = (teachers * shares.view(2, 1, 1)).sum(0)
    probs = (teachers / 2).softmax(-1)
    expected = {
        "avg_logits": divergence((mean / 2).softmax(-1)),
        "avg_probs": divergence((probs * shares.view(2, 1, 1)).sum(0)),
        "avg_losses": 0.25 * divergence(probs[0]) + 0.75 * divergence(probs[1]),
    }
    for objective, value in expected.items():
        found = distillation_loss(student, teachers, shares, objective, 2.0)
        assert torch.allclose(found, value, atol=1e-6), objective


def places(count=25, seed=0):
    """Batches of images and their positions."""
    loader = make_loader(count, seed)
    return BatchLoader(
        loader.images,
        torch.arange(count),
        batch_size=8,
        seed=seed,
        mean=(0.5,),
        std=(0.25,),
        augment="none",
    )


def make_student(after_step=None, **plan):
    table = draw(2, 25, 3, seed=5)
    settings = Distillation(**{"lr": 0.01, "steps": 11, **plan})
    return Distiller(
        make_net(), lambda _, at: table[:, at], torch.tensor([0.5, 0.5]), settings, after_step
    )


def fit(module, steps=11, **options):
    TrainerPool("cpu", "32-true").fit(module, places(), steps=steps, **options)
    return module


def test_a_student_comes_nearer_to_its_teachers():
    module = make_student(lr=0.02, steps=60)
    loader = places()
    table = module._ask(None, torch.arange(25))

    def gap():
        images, order = (torch.cat(parts) for parts in zip(*loader, strict=True))
        with torch.no_grad():
            logits = module.net.eval()(images)
        return distillation_loss(logits, table[:, order], module.weights).item()

    before = gap()
    fit(module, 60)
    assert gap() < 0.7 * before
    assert not module.net.training


def test_fd_2_teachers_get_no_gradient_and_are_no_part_of_the_module():
    teacher = make_net().eval()
    kept = copy.deepcopy(teacher.state_dict())
    module = Distiller(
        make_net(), lambda batch, _: teacher(batch)[None], ONE, Distillation(0.01, 5)
    )
    fit(module, 5)
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(torch.equal(kept[name], value) for name, value in teacher.state_dict().items())
    assert set(module.state_dict()) == {f"net.{name}" for name in make_net().state_dict()}


def test_a_plan_is_adam_with_a_cosine_and_clipping():
    module = fit(make_student(schedule="cosine", clip_norm=0.1))
    net, table = make_net().train(), draw(2, 25, 3, seed=5)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 11)
    batches, loader, steps = [], places(), 11
    for epoch in range(4):
        loader.set_epoch(epoch)
        batches += list(loader)
    # Dropout is seeded by the pool; without it, both must agree.
    for part in (net, module_again := make_student(schedule="cosine", clip_norm=0.1)):
        for layer in part.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
    fit(module_again)
    for images, at in batches[:steps]:
        optimizer.zero_grad()
        target = table[:, at].mean(0).log_softmax(-1)
        guess = net(images).log_softmax(-1)
        functional.kl_div(guess, target, reduction="batchmean", log_target=True).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
        schedule.step()
    for mine, theirs in zip(module_again.net.parameters(), net.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    assert not same(module, module_again)


def test_the_bound_is_on_the_students_logits():
    loose, tight = (
        fit(make_student(logit_bound=bound)) for bound in (LogitBound(1e6, "clip"), LogitBound(0.5))
    )
    assert same(loose, fit(make_student()))
    assert not same(tight, loose)


def test_listening_ends_a_fit_and_changes_nothing_before():
    heard = []

    def listen(step):
        heard.append(step)
        return step == 6

    stopped = fit(make_student(listen))
    assert heard == [1, 2, 3, 4, 5, 6]
    assert same(stopped, fit(make_student(), 6))


def test_a_killed_distillation_goes_on_with_the_same_bits(tmp_path):
    class Killed(BaseException):
        pass

    def kill(done, *_):
        if done == 2:
            raise Killed

    path = tmp_path / "fit.ckpt"
    with pytest.raises(Killed):
        fit(
            make_student(schedule="cosine"),
            checkpoint=File(path),
            checkpoint_every=0,
            on_epoch=kill,
        )
    assert path.exists()
    resumed = fit(make_student(schedule="cosine"), checkpoint=File(path))
    assert same(resumed, fit(make_student(schedule="cosine")))
