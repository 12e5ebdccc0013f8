"""What a student learns of its teachers' logits: FD-1, FD-3, objectives, scales."""

import pytest
import torch
from torch.nn import functional

from fedbench.training.distillation import Distillation, distillation_loss

OBJECTIVES = ("avg_logits", "avg_losses", "avg_probs")
ONE = torch.ones(1)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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


def test_the_scale_is_a_factor_and_its_square_undoes_the_temperature_in_gradients():
    student, teachers = draw(6, 5).requires_grad_(), draw(2, 6, 5, seed=1)
    shares = torch.tensor([0.5, 0.5])
    plain = Distillation(temperature=4.0).loss(student, teachers, shares)
    assert torch.equal(plain, distillation_loss(student, teachers, shares, temperature=4.0))
    scaled = Distillation(temperature=4.0, squared=True, share=0.5)
    assert torch.allclose(scaled.loss(student, teachers, shares), 8 * plain)
    sizes = []
    for temperature in (20.0, 40.0):
        loss = Distillation(temperature=temperature, squared=True).loss(student, teachers, shares)
        sizes.append(torch.autograd.grad(loss, student)[0].norm())
    assert torch.allclose(*sizes, rtol=0.05)
