"""Co-Boosting: weights of the clients, hard images, images moved where the clients differ."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn import functional

from fedbench.data.normalisation import Normalisation
from fedbench.data.stream import Columns, Stream
from fedbench.methods.co_boosting import CoBoosting, CoBoostingConfig, Perturbed, boosted
from fedbench.methods.dense import Dense, DenseConfig
from fedbench.synthesis.teachers import mixture

CLASSES = 4
SCALE = Normalisation((0.5,), (0.5,))
SMALL = {
    "epochs": 3,
    "steps": 2,
    "batch_size": 12,
    "noise": 8,
    "width": 4,
    "student_batch_size": 8,
}
NORM = {"models": {"name": "convnet", "width": 4, "depth": 2, "norm": "batch"}}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Fixed:
    """Teachers that look the logits up: images are their numbers."""

    def __init__(self, table):
        self.table = table

    def logits(self, images):
        return self.table[:, images.long()]


def batches(count, size, seed=0):
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=source)
    return list(zip(torch.arange(count).split(size), labels.split(size), strict=True))


@settings(deadline=None, max_examples=40)
@given(
    step=st.floats(0, 1),
    seed=st.integers(0, 99),
    clients=st.integers(1, 4),
)
def test_cb_1_weights_stay_in_0_1_and_move_by_a_step_a_batch(step, seed, clients):
    teachers = Fixed(draw(clients, 12, CLASSES, seed=seed))
    shares = torch.full((clients,), 1 / clients)
    for batch in batches(12, 4, seed):
        found = boosted(shares, teachers, [batch], step)
        assert 0 <= found.min() <= found.max() <= 1
        assert found.sum() > 0
        assert (found - shares).abs().max() <= step + 1e-6
        shares = found


def test_weights_move_to_the_client_that_knows_the_classes():
    (images, labels), *_ = given_batches = batches(16, 16)
    right = 4 * functional.one_hot(labels, CLASSES).float()
    teachers = Fixed(torch.stack([right, -right, torch.zeros_like(right)]))
    shares = torch.full((3,), 1 / 3)
    losses = []
    for _ in range(5):
        losses.append(functional.cross_entropy(mixture(teachers.logits(images), shares), labels))
        shares = boosted(shares, teachers, given_batches, 0.05)
    assert losses == sorted(losses, reverse=True)
    assert shares.argmax() == 0
    assert shares.argmin() == 1


def test_weights_that_would_all_be_0_stay_what_they_were():
    teachers = Fixed(draw(1, 8, CLASSES))
    shares = torch.full((1,), 0.2)
    for _ in range(3):  # the gradient of the only weight is rounding
        shares = boosted(shares, teachers, batches(8, 4), 1.0)
        assert 0 < shares <= 1


def stream(count=9):
    images = draw(count, 1, 8, 8)
    columns = torch.arange(count)
    return Stream(Columns(images, columns), batch_size=4, seed=3, normalisation=SCALE)


def ensemble(images):
    weights = draw(CLASSES, 64, seed=7)
    return images.flatten(1) @ weights.T


def test_cb_3_images_move_by_epsilon_and_no_further():
    size = 8 / 255
    plain, moved = list(stream()), list(Perturbed(stream(), ensemble, size))
    assert len(plain) == len(moved) == len(Perturbed(stream(), ensemble, size))
    for (images, places), (other, same) in zip(plain, moved, strict=True):
        assert torch.equal(places, same)
        assert not other.requires_grad
        gap = (other - images).abs()
        assert gap.max() <= size + 1e-6
        assert gap.mean() > 0.9 * size


def test_images_move_up_a_direction_that_is_drawn_for_each():
    (images, _), *_ = stream()
    moved, _ = next(iter(Perturbed(stream(), ensemble, 0.1)))
    change = ensemble(moved).softmax(1) - ensemble(images).softmax(1)
    assert change.abs().amax(1).min() > 0
    again = Perturbed(stream(), ensemble, 0.1)
    assert torch.equal(next(iter(again))[0], moved)
    assert not torch.equal(next(iter(again))[0], moved)  # the next epoch's


def test_cb_2_without_its_changes_what_is_asked_and_learnt_is_denses():
    plain = {
        "hard": 0.0,
        "masked": True,
        "adversarial_temperature": 1.0,
        "batch_norm": 1.0,
        "view": "standard",
        "lr": 0.005,
        "weight_decay": 0.0,
        "schedule": "constant",
        "clip_norm": None,
        "student_batch_size": 256,
        "temperature": 20.0,
    }
    ours = CoBoostingConfig(name="co_boosting", **plain)
    theirs = DenseConfig(name="dense", preset="reference", batch_norm_heard=True)
    assert ours.terms == theirs.terms
    assert ours.recipe == theirs.recipe


def test_cb_2_without_its_changes_its_student_is_denses(compute):
    shared = {
        **SMALL,
        "masked": True,
        "adversarial_temperature": 1.0,
        "generator_clip": None,
        "view": "none",
        "lr": 0.01,
        "weight_decay": 0.0,
        "schedule": "constant",
        "clip_norm": None,
        "temperature": 4.0,
    }
    off = {"hard": 0.0, "share_step": 0.0, "perturbation": 0.0}
    ours = compute({"name": "co_boosting", **shared, **off}, **NORM)
    theirs = compute({"name": "dense", **shared, "batch_norm": 0.0}, **NORM)
    assert ours.outputs["global"] == theirs.outputs["global"]
    assert ours.outputs["samples"] == theirs.outputs["samples"]
    for change in ({"hard": 1.0}, {"share_step": 0.3}, {"perturbation": 0.1}):
        moved = compute({"name": "co_boosting", **shared, **off, **change}, **NORM)
        assert moved.outputs["global"] != ours.outputs["global"], change


def test_weights_begin_even_and_are_kept_epoch_by_epoch(compute, runtime):
    record = compute({"name": "co_boosting", **SMALL}, **NORM)
    file = runtime.home / "test" / "outputs" / f"{record.outputs['shares']}.safetensors"
    shares = load_file(file)["shares"]
    assert shares.shape == (3, 3)
    assert torch.allclose(shares[0], torch.full((3,), 1 / 3))  # the first epoch has no pool yet
    assert not torch.equal(shares[1], shares[0])
    # The pool of epoch e has 12·e images in batches of 8, each of which moves by μ·.99^e at most.
    for epoch, count in ((1, 2), (2, 3)):
        assert (shares[epoch] - shares[epoch - 1]).abs().max() <= count * 0.01 * 0.99**epoch + 1e-6


@pytest.mark.parametrize("method", [CoBoosting, Dense])
def test_heterogeneous_clients_need_a_model_for_the_server(tiny, method):
    two = {"models": [{"name": "resnet8", "width": 4}, {"name": "convnet", "norm": "batch"}]}
    cell = tiny({"name": method.name, "model": {"name": "resnet8", "width": 4}}, **two)
    assert method(cell.method).skip(cell) is None
    cell = tiny({"name": method.name}, **two)
    assert "method.model" in method(cell.method).skip(cell)
