"""The generator of DENSE: its size, its first weights, the images that it can make."""

import pytest
import torch
from torch import nn

from fedbench.errors import ModelError
from fedbench.synthesis.data_free.generator import Generator, why_not


def make(size=16, channels=1, noise=8, width=4, seed=0):
    return Generator(channels, size, noise, width, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("channels", "size", "count"), [(3, 32, 2_328_899), (1, 28, 1_834_305)])
def test_it_has_as_many_weights_as_denses(channels, size, count):
    net = make(size, channels, noise=256, width=64)
    assert sum(weight.numel() for weight in net.parameters()) == count


@pytest.mark.parametrize("size", [4, 16, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_de_4_images_are_pixels_of_the_size_that_is_asked_for(size, channels):
    net = make(size, channels)
    images = net(torch.randn(3, 8))
    assert images.shape == (3, *net.shape) == (3, channels, size, size)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize(("size", "near"), [(30, "28 or 32"), (9, "8 or 12")])
def test_a_size_that_it_cannot_make_is_named_with_those_that_it_can(size, near):
    with pytest.raises(ModelError, match=near):
        make(size)
    assert near in why_not(size)
    assert why_not(28) is None


def test_weights_begin_as_denses_do_and_follow_their_seed():
    net = make(width=64, noise=256)
    linear, norm = net.first.requires_grad_(False), net.body[0].requires_grad_(False)
    assert linear.weight.std() == pytest.approx(0.02, rel=0.02)
    assert linear.weight.mean() == pytest.approx(0, abs=1e-3)
    assert norm.weight.mean() == pytest.approx(1, abs=0.01)
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.BatchNorm2d):
            assert not layer.bias.any()
    before = torch.get_rng_state()
    assert torch.equal(make(seed=1).first.weight, make(seed=1).first.weight)
    assert not torch.equal(make(seed=1).first.weight, make(seed=2).first.weight)
    assert torch.equal(torch.get_rng_state(), before)
