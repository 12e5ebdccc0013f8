"""Pixels to normalised space and back."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.data.normalisation import Normalisation

CPU = torch.device("cpu")
constants = st.tuples(st.floats(0, 1), st.floats(0.01, 1))


def levels(channels):
    return torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, channels, 2, 2)


@settings(deadline=None)
@given(st.lists(constants, min_size=1, max_size=3))
def test_every_pixel_comes_back_whatever_the_constants(pairs):
    normalisation = Normalisation(*zip(*pairs, strict=True))
    pixels = levels(len(pairs))
    floats = normalisation(pixels)
    assert floats.dtype == torch.float32
    assert torch.equal(normalisation.to_pixels(floats), pixels)
    assert normalisation.clipped(floats) == 0


@settings(deadline=None)
@given(constants)
def test_values_are_scaled_once_in_float32_by_constants_of_float64(pair):
    mean, std = pair
    scale, bias = (
        torch.tensor(value, dtype=torch.float64) for value in (1 / (255 * std), -mean / std)
    )
    found = Normalisation((mean,), (std,))(levels(1))
    assert torch.equal(found, levels(1).float() * scale.float() + bias.float())


def test_black_is_what_black_pixels_become():
    normalisation = Normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    black = normalisation(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))
    assert torch.equal(normalisation.black(CPU), black[0])


def test_floats_and_pixels_are_left_as_they_are():
    normalisation = Normalisation((0.5,), (0.25,))
    floats, pixels = torch.randn(2, 1, 3, 3), levels(1)
    assert normalisation(floats) is floats
    assert normalisation.to_pixels(pixels) is pixels


def test_what_lies_beyond_black_and_white_is_clipped_and_counted():
    normalisation = Normalisation((0.1, 0.5, 0.7), (0.2, 0.3, 0.4))
    floats = normalisation(torch.full((4, 3, 5, 5), 90, dtype=torch.uint8))
    floats[:, 0] = 100
    floats[0, 1] = -100
    found = normalisation.to_pixels(floats)
    assert (found[:, 0] == 255).all()
    assert (found[0, 1] == 0).all()
    assert (found[1:, 1:] == 90).all()
    assert normalisation.clipped(floats) == pytest.approx((4 + 1) / 12)
    assert normalisation.clipped(floats[:0]) == 0


def test_constants_pass_through_json():
    normalisation = Normalisation((0.1, math.pi / 4), (0.2, 1 / 3))
    assert Normalisation.from_json(normalisation.to_json()) == normalisation


def test_pixels_in_0_1_are_normalised_as_bytes_are_and_gradients_pass():
    normalisation = Normalisation((0.4, 0.5), (0.3, 0.2))
    unit = (levels(2).float() / 255).requires_grad_()
    found = normalisation.of_unit(unit)
    torch.testing.assert_close(found, normalisation(levels(2)))
    assert torch.equal(normalisation.to_pixels(found.detach()), levels(2))
    found.sum().backward()
    assert torch.allclose(unit.grad[0, :, 0, 0], torch.tensor([1 / 0.3, 1 / 0.2]))
