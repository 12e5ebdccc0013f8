"""Partition and expand: CD-4, and canvases made of shrunk images."""

import pytest
import torch
from torch.nn import functional

from fedbench.errors import SettingsError
from fedbench.synthesis.expansion import check, compose, enlarge, expand, stretch


def canvases(count=3, size=8):
    return torch.randn(count, 2, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_cd_4_a_factor_gives_its_square_of_images_and_labels(factor):
    one, labels = canvases(), torch.tensor([4, 0, 7])
    images, repeated = expand(one, labels, factor)
    assert images.shape == (3 * factor**2, 2, 8, 8)
    assert repeated.tolist() == [4, 0, 7] * factor**2
    if factor == 1:
        assert images is one


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_cd_4_gradients_reach_every_pixel_of_the_canvas(factor):
    one = canvases().requires_grad_()
    enlarge(one, factor).square().sum().backward()
    assert (one.grad != 0).all()


def test_cd_4_tiles_come_top_left_bottom_left_top_right_bottom_right():
    one = canvases(2)
    tiles = [one[:, :, r : r + 4, c : c + 4] for r, c in ((0, 0), (4, 0), (0, 4), (4, 4))]
    expected = [functional.interpolate(t, size=8, mode="bilinear") for t in tiles]
    assert torch.equal(enlarge(one, 2), torch.cat(expected))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_canvas_is_composed_of_shrunk_images_in_the_same_order(factor):
    images = canvases(3 * factor**2)
    one = compose(images, factor)
    assert one.shape == (3, 2, 8, 8)
    small = functional.avg_pool2d(images, factor)
    back = functional.interpolate(small, size=8, mode="bilinear")
    assert torch.allclose(enlarge(one, factor), back, atol=1e-6)


def test_a_factor_that_does_not_divide_the_image_names_both():
    assert check(2, 28) is None
    with pytest.raises(SettingsError, match=r"factor 3 .* 8x8 pixels; use one of 1, 2, 4"):
        enlarge(canvases(), 3)
    with pytest.raises(SettingsError, match="factor 3"):
        compose(canvases(9), 3)


@pytest.mark.parametrize(("small", "size"), [(4, 8), (3, 9), (16, 32)])
def test_the_form_for_cards_stretches_as_torch_does_and_so_do_its_gradients(small, size):
    source = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, small, small, generator=source, dtype=torch.float64)
    slope = torch.randn(2, 3, size, size, generator=source, dtype=torch.float64)
    found = []
    for form in (
        lambda seen: stretch(seen, size),
        lambda seen: functional.interpolate(seen, size=(size, size), mode="bilinear"),
    ):
        learnt = images.clone().requires_grad_()
        made = form(learnt)
        (made * slope).sum().backward()
        found.append((made.detach(), learnt.grad))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_bfloat16_training_does_not_coarsen_the_form_for_cards():
    images = torch.randn(2, 1, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(stretch(images, 8), stretch(images, 8).float())
        assert stretch(images, 8).dtype == torch.float32
