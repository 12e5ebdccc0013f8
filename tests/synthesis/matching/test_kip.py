"""Kernel inducing points: the kernel (FD3-3), the regression (FD3-2), the fit and its batches."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedbench.data.dataset import Split
from fedbench.data.normalisation import Normalisation
from fedbench.synthesis.matching.kip import Kip, TargetBatches, centred, ntk, regress
from fedbench.training.pool import TrainerPool


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wide_network_kernel(inputs, width, seed):
    """Return the tangent kernel of one finite network with four hidden layers, (n, n)."""
    source = torch.Generator().manual_seed(seed)
    sizes = [inputs.shape[1], *[width] * 4, 1]
    layers = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        weight = torch.randn(fan_out, fan_in, generator=source, dtype=torch.float64)
        bias = torch.randn(fan_out, generator=source, dtype=torch.float64)
        layers += [weight.requires_grad_(), bias.requires_grad_()]

    gradients = []
    for row in inputs:
        hidden = row
        for number in range(5):
            weight, bias = layers[2 * number], layers[2 * number + 1]
            hidden = math.sqrt(2 / len(hidden)) * weight @ hidden + 0.1 * bias
            hidden = hidden.relu() if number < 4 else hidden
        found = torch.autograd.grad(hidden[0], layers)
        gradients.append(torch.cat([part.flatten() for part in found]))
    stacked = torch.stack(gradients)
    return stacked @ stacked.T


def test_the_kernel_is_that_of_wide_networks():
    inputs = normal(5, 20)
    drawn = torch.stack([wide_network_kernel(inputs, 256, seed) for seed in range(40)])
    exact, mean = ntk(inputs), drawn.mean(0)
    assert float((mean - exact).norm() / exact.norm()) < 0.1
    assert ((mean - exact).abs() < 4 * drawn.std(0) / 40**0.5).all()


def test_a_kernel_without_hidden_layers_is_linear():
    inputs = normal(4, 7)
    assert torch.allclose(ntk(inputs, layers=0), 2 * inputs @ inputs.T / 7 + 0.01)


def test_one_hidden_layer_is_the_formula_of_cho_and_saul():
    one, other = normal(1, 3, seed=1), normal(1, 3, seed=2)

    def dot(a, b):
        return float(2 * (a * b).sum() / 3 + 0.01)

    norm = math.sqrt(dot(one, one) * dot(other, other))
    angle = math.acos(dot(one, other) / norm)
    step = (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi
    expected = norm * step + 0.01 + dot(one, other) * (math.pi - angle) / math.pi
    assert float(ntk(one, other, layers=1)) == pytest.approx(expected, rel=1e-12)


def test_the_diagonal_is_exact():
    inputs = normal(6, 50)
    start = 2 * inputs.square().mean(1) + 0.01
    # Each layer adds the variance so far: .01 more in each of four, and their sum on top.
    expected = 5 * start + 0.01 * (1 + 2 + 3 + 4)
    torch.testing.assert_close(ntk(inputs).diagonal(), expected, rtol=1e-14, atol=0)


@given(count=st.integers(1, 12), size=st.integers(1, 8), seed=st.integers(0, 50))
def test_fd3_3_the_kernel_is_symmetric_and_positive_semi_definite(count, size, seed):
    inputs = normal(count, size, seed=seed)
    kernel = ntk(torch.cat([inputs, inputs[:1]]))  # two equal images, too
    torch.testing.assert_close(kernel, kernel.T, rtol=1e-12, atol=1e-12)
    values = torch.linalg.eigvalsh(kernel)
    assert values.min() > -1e-9 * values.max()


def test_fd3_2_a_support_that_is_the_target_is_learnt_as_the_ridge_vanishes():
    inputs, labels = normal(30, 16), centred(torch.arange(30) % 3, 3)
    losses = [
        float((regress(inputs, labels, inputs, ridge) - labels).square().mean() / 2)
        for ridge in (1e-1, 1e-3, 1e-6, 1e-9)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-12


def test_the_ridge_is_a_share_of_the_kernels_diagonal():
    """Inputs in another unit give the same answers, but for the biases."""
    inputs, target = 1e3 * normal(8, 5), 1e3 * normal(6, 5, seed=1)
    labels = centred(torch.arange(8) % 2, 2)
    one, other = (regress(s * inputs, labels, s * target, 1e-2) for s in (1, 1000))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_labels_are_centred_over_all_classes():
    assert centred(torch.tensor([2]), 4).tolist() == [[-0.25, -0.25, 0.75, -0.25]]
    assert centred(torch.tensor([0, 1]), 4).sum() == 0


@pytest.mark.parametrize("shift", [0.0, 1e-9, 1e-3])
def test_gradients_are_finite_where_support_and_target_meet(shift):
    """The clamp and the diagonal: a support image that is, or nearly is, one of the targets."""
    target = normal(6, 9)
    support = (target[:3] + shift).requires_grad_()
    labels = centred(torch.tensor([0, 1, 0]), 2)
    regress(support, labels, target, 1e-6).square().mean().backward()
    assert torch.isfinite(support.grad).all()


def test_gradients_are_those_of_differences():
    target, labels = normal(4, 5, seed=1), centred(torch.tensor([0, 1, 1]), 2)
    support = normal(3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: regress(x, labels, target, 1e-3), (support,))
    assert torch.autograd.gradcheck(lambda x: ntk(x), (support,))


def blobs(count=60, seed=0):
    """Return noisy pictures of two classes: bright above, or bright below."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 120, (count, 1, 8, 8), generator=source, dtype=torch.uint8)
    images[labels == 0, :, :4] += 60
    images[labels == 1, :, 4:] += 60
    return Split(images, labels)


def batches_of(split, size, **options):
    return TargetBatches(
        split, size, seed=7, normalisation=Normalisation((0.5,), (0.5,)), **options
    )


def test_a_fit_learns_images_and_stops_when_all_is_right():
    data = blobs()
    start = torch.zeros(2, 1, 8, 8)
    start[0, 0, 0, 0] = 1
    module = Kip(start, data.labels[:2], 2, lr=0.02, stop=0.95)
    steps = []
    end = module.on_train_batch_end
    module.on_train_batch_end = lambda *a: (steps.append(float(module._right)), end(*a))
    TrainerPool("cpu", "32-true").fit(module, batches_of(data, 60, length=10), steps=200)
    assert steps[0] < 0.95 < steps[-1]
    assert max(steps[:-1]) <= 0.95
    assert len(steps) < 200
    assert module.images.dtype == torch.float64
    assert not torch.equal(module.images.float(), start)
    assert module.labels.tolist() == [0, 1]


def test_the_loss_falls_over_a_fit():
    data, seen = blobs(), []
    module = Kip(torch.randn(4, 1, 8, 8), torch.tensor([0, 0, 1, 1]), 2, lr=0.05, stop=1.0)

    def note(done, total, loss):
        seen.append(loss)

    TrainerPool("cpu", "32-true").fit(
        module, batches_of(data, 60, length=5), steps=100, on_epoch=note
    )
    assert seen[-1] < 0.7 * seen[0]
    assert isinstance(module.images, nn.Parameter)


def test_targets_are_even_over_the_classes_and_never_twice_in_a_batch():
    labels = torch.tensor([0] * 30 + [3] * 30 + [4] * 2)
    split = Split(torch.arange(62, dtype=torch.uint8).view(-1, 1, 1, 1), labels)
    drawn = [(images, targets) for images, targets in batches_of(split, 30)]
    for images, targets in drawn:
        assert torch.bincount(targets).tolist() == [10, 0, 0, 10, 2]
        assert len(images.unique()) == 22
    assert len(drawn) == 50
    assert not torch.equal(drawn[0][0], drawn[1][0])


def test_targets_depend_on_the_seed_and_the_epoch_alone():
    batches, again = batches_of(blobs(), 10, length=2), batches_of(blobs(), 10, length=2)
    first, second = list(batches), list(batches)
    assert not torch.equal(first[0][0], second[0][0])
    again.sampler.set_epoch(1)
    assert torch.equal(next(iter(again))[0], second[0][0])
    assert len(batches) == 2
