from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toys import make_classifier, make_loader

from fedbench.data.stream import Columns
from fedbench.seeding import isolated
from fedbench.training.classifier import Classifier
from fedbench.training.module import factor
from fedbench.training.pool import TrainerPool
from fedbench.training.recipe import Recipe


def simple_net():
    with isolated(3):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
        )


def trained(recipe, epochs=3, proximal=0.0):
    net, loader = simple_net(), make_loader()
    module = Classifier(net, recipe, epochs=epochs, steps_per_epoch=len(loader), proximal=proximal)
    TrainerPool("cpu", "32-true").fit(module, loader, epochs=epochs)
    return net.state_dict()


def by_hand(optimizer, epochs=3, scheduler=None, clip=None):
    """The loop that everybody writes."""
    net, loader = simple_net().train(), make_loader()
    optimizer = optimizer(net.parameters())
    scheduler = scheduler and scheduler(optimizer)
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            if clip:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
        if scheduler:
            scheduler.step()
    return net.state_dict()


def sgd(weights):
    return torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=5e-4)


SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}


@pytest.mark.parametrize("clip", [None, 0.3])
def test_bl_3_without_the_proximal_term_it_is_the_plain_loop_bit_for_bit(clip):
    ours, theirs = trained(Recipe(**SGD, clip_norm=clip), proximal=0), by_hand(sgd, clip=clip)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_adam_is_torchs():
    ours = trained(Recipe(optimizer="adam", lr=0.01, weight_decay=1e-3))
    theirs = by_hand(lambda weights: torch.optim.Adam(weights, lr=0.01, weight_decay=1e-3))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize(
    ("recipe", "scheduler"),
    [
        ({"schedule": "cosine"}, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 4)),
        (
            {"schedule": "step", "milestones": (0.3, 0.75)},
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 3]),
        ),
    ],
)
def test_schedules_are_torchs(recipe, scheduler):
    ours = trained(Recipe(**SGD, **recipe), epochs=4)
    theirs = by_hand(sgd, epochs=4, scheduler=scheduler)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=1e-6)
    plain = by_hand(sgd, epochs=4)
    assert not torch.allclose(ours["0.weight"], plain["0.weight"], rtol=1e-3)


@settings(deadline=None, max_examples=50)
@given(epochs=st.integers(1, 300), schedule=st.sampled_from(["constant", "cosine", "step"]))
def test_factors_start_at_one_and_never_rise(epochs, schedule):
    recipe = Recipe(schedule=schedule, milestones=(0.5, 0.9))
    values = [factor(recipe, epoch, epochs) for epoch in range(epochs + 1)]
    assert values[0] == 1
    assert all(0 <= after <= before for before, after in pairwise(values))


@pytest.mark.parametrize(("share", "epochs", "last"), [(0.5, 300, 149), (0.7, 10, 6), (0.5, 5, 2)])
def test_a_milestone_ends_its_share_of_the_epochs(share, epochs, last):
    recipe = Recipe(schedule="step", milestones=(share,))
    assert factor(recipe, last, epochs) == 1
    assert factor(recipe, last + 1, epochs) == pytest.approx(0.1)


def test_a_schedule_counts_its_own_epochs():
    # One pass over the loader makes three of the schedule's epochs here.
    rates = []

    class Spy(Classifier):
        def on_train_batch_start(self, batch, batch_idx):
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    module = Spy(simple_net(), Recipe(lr=1, schedule="step"), epochs=2, steps_per_epoch=1)
    TrainerPool("cpu", "32-true").fit(module, make_loader(), epochs=1)
    assert rates == [1, pytest.approx(0.1), pytest.approx(0.1)]


@pytest.mark.parametrize("mu", [0.5, 0.37])
def test_bl_3_gradient_of_the_proximal_term(mu):
    module = Classifier(simple_net(), Recipe(), steps_per_epoch=3, proximal=mu)
    start = [weight.detach().clone() for weight in module.net.parameters()]
    with torch.no_grad():
        for weight in module.net.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    module._proximal_term().backward()
    for weight, origin in zip(module.net.parameters(), start, strict=True):
        torch.testing.assert_close(weight.grad, mu * (weight.detach() - origin))
    value = sum(((w - s) ** 2).sum() for w, s in zip(module.net.parameters(), start, strict=True))
    torch.testing.assert_close(module._proximal_term(), mu / 2 * value)


def test_the_proximal_term_is_in_the_loss_and_pulls_towards_the_start():
    batch = next(iter(make_loader()))
    plain = Classifier(simple_net(), Recipe(), steps_per_epoch=3)
    near = Classifier(simple_net(), Recipe(), steps_per_epoch=3, proximal=2.0)
    with torch.no_grad():
        for module in (plain, near):
            module.net[4].bias.add_(1)
    torch.testing.assert_close(
        near.training_step(batch, 0) - plain.training_step(batch, 0), torch.tensor(2.0 / 2 * 3)
    )
    start, far, close = (
        simple_net().state_dict()["4.weight"],
        trained(Recipe(lr=0.1))["4.weight"],
        trained(Recipe(lr=0.1), proximal=5.0)["4.weight"],
    )
    assert (close - start).norm() < 0.8 * (far - start).norm()


def test_the_starting_weights_are_not_part_of_the_state():
    plain = make_classifier().state_dict()
    assert make_classifier(proximal=0.1).state_dict().keys() == plain.keys()


def test_clipping_bounds_the_step():
    module = Classifier(simple_net(), Recipe(lr=1.0, momentum=0, clip_norm=0.01), steps_per_epoch=3)
    before = [weight.detach().clone() for weight in module.net.parameters()]
    TrainerPool("cpu", "32-true").fit(module, make_loader(), steps=1)
    moved = torch.cat(
        [
            (weight.detach() - origin).flatten()
            for weight, origin in zip(module.net.parameters(), before, strict=True)
        ]
    )
    assert moved.norm() == pytest.approx(0.01, rel=1e-3)


def test_it_learns_and_gives_logits():
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    images = torch.randint(0, 60, (90, 1, 8, 8), generator=source) + labels.view(-1, 1, 1, 1) * 60
    loader = make_loader()
    loader.rows = Columns(images.to(torch.uint8)[:25], labels[:25])
    module = Classifier(simple_net(), Recipe(lr=0.05), epochs=20, steps_per_epoch=3)
    TrainerPool("cpu", "bf16-mixed").fit(module, loader, epochs=20)
    with torch.no_grad():
        logits = module((images.float() / 255 - 0.5) / 0.25)
    assert logits.shape == (90, 3)
    assert logits.dtype == torch.float32
    assert (logits.argmax(1) == labels).float().mean() > 0.9
