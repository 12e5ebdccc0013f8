"""Differentiable Siamese augmentation: what each operation does, and to whom it does the same."""

import math

import pytest
import torch
from torch.nn import functional

from fedbench.data import dsa
from fedbench.data.dsa import OPS, Draw, apply, draw, parse
from fedbench.errors import SettingsError

SIZE = 16


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=3, seed=0, channels=3):
    return torch.randn(count, channels, SIZE, SIZE, generator=source(seed))


def drawn(op, seed=1, count=1):
    found = draw((op,), SIZE, source(seed), count)
    assert found.op == op
    return found


def test_strategies_are_written_as_the_reference_codes_write_them():
    assert parse(dsa.STRATEGY) == OPS
    assert parse("crop_color") == parse(["crop", "color"]) == ("crop", "color")
    assert parse("none") == parse("") == parse(()) == ()
    with pytest.raises(SettingsError, match=r"'cutot' \(did you mean 'cutout'\?\)"):
        parse("color_cutot")


def test_no_operation_changes_nothing():
    one = images()
    assert draw((), SIZE, source()) is None
    assert apply(one, None) is one


@pytest.mark.parametrize("op", OPS)
def test_cd_9_siamese_images_are_changed_alike_whatever_is_beside_them(op):
    one, other = images(seed=1), images(5, seed=2)
    changed = drawn(op)
    together = apply(torch.cat([one, other]), changed)
    assert torch.equal(together, torch.cat([apply(one, changed), apply(other, changed)]))
    assert not torch.equal(together[:3], one)


@pytest.mark.parametrize("op", ["crop", "cutout", "flip", "scale", "rotate"])
def test_cd_9_the_geometric_map_does_not_depend_on_the_image(op):
    one, other = images(seed=1), images(seed=2)
    first, second = (apply(each, drawn(op, seed=3)) for each in (one, other))
    assert torch.allclose(apply(one + 2 * other, drawn(op, seed=3)), first + 2 * second, atol=1e-5)


@pytest.mark.parametrize("op", OPS)
def test_each_image_may_have_parameters_of_its_own(op):
    count = 6
    one = images(1).expand(count, -1, -1, -1)
    many = drawn(op, count=count)
    assert len(many.values) == count
    changed = apply(one, many)
    alone = [apply(one[:1], Draw(op, many.values[k : k + 1])) for k in range(count)]
    assert torch.allclose(changed, torch.cat(alone), atol=1e-6)
    assert len({tuple(image.flatten().tolist()) for image in changed}) > 1


@pytest.mark.parametrize("op", OPS)
def test_gradients_are_those_of_finite_differences(op):
    one = images(2).double()[:, :, :6, :6].contiguous().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: apply(x, Draw(op, values(op))), (one,))


def values(op):
    found = draw((op,), 6, source(5)).values
    return found.double() if found.is_floating_point() else found


def test_every_operation_is_drawn_and_a_seed_draws_the_same():
    counts = dict.fromkeys(OPS, 0)
    for seed in range(300):
        one, again = (draw(OPS, SIZE, source(seed)) for _ in range(2))
        assert one.op == again.op
        assert torch.equal(one.values, again.values)
        assert one.values.device.type == "cpu"
        counts[one.op] += 1
    assert all(30 <= count <= 75 for count in counts.values()), counts


def test_color_changes_brightness_then_saturation_then_contrast():
    one = images(1)
    half = torch.full((3,), 0.5)
    for place, expected in (
        (0, one + 0.5),
        (1, one.mean(1, keepdim=True) + 2 * (one - one.mean(1, keepdim=True))),
        (2, one.mean() + 1.5 * (one - one.mean())),
    ):
        amount = half.clone()
        amount[place] = 1.0
        assert torch.allclose(apply(one, Draw("color", amount.view(1, 3))), expected, atol=1e-6)
    assert torch.allclose(apply(one, Draw("color", half.view(1, 3))), one, atol=1e-6)


def test_saturation_leaves_one_channel_alone():
    grey = images(2, channels=1)
    low, high = (torch.tensor([[0.3, amount, 0.8]]) for amount in (0.0, 1.0))
    assert torch.equal(apply(grey, Draw("color", low)), apply(grey, Draw("color", high)))


def test_crop_shifts_by_an_eighth_at_most_and_fills_with_zero():
    one, edge = images(1), 2
    padded = functional.pad(one, (edge,) * 4)
    for row in range(2 * edge + 1):
        shifted = apply(one, Draw("crop", torch.tensor([[row, 1]])))
        assert torch.equal(shifted, padded[:, :, row : row + SIZE, 1 : 1 + SIZE])
    many = drawn("crop", count=500).values
    assert (many.min(), many.max()) == (0, 2 * edge)


def test_cutout_hides_half_a_side_at_least_a_quarter_of_it():
    ones = torch.ones(1, 1, SIZE, SIZE)
    middle = apply(ones, Draw("cutout", torch.tensor([[8, 8]])))
    assert (middle[0, 0, 4:12, 4:12] == 0).all()
    assert middle.sum() == SIZE**2 - 8**2
    many = apply(ones.expand(2000, -1, -1, -1), drawn("cutout", count=2000))
    hidden = SIZE**2 - many.sum((1, 2, 3))
    assert (hidden.min(), hidden.max()) == (16, 64)
    centres = drawn("cutout", count=2000).values
    assert (centres.min(), centres.max()) == (0, SIZE)


def test_flip_mirrors_every_second_image():
    one = images(1)
    assert torch.equal(apply(one, Draw("flip", torch.tensor([[1]]))), one.flip(-1))
    assert torch.equal(apply(one, Draw("flip", torch.tensor([[0]]))), one)
    assert 400 <= drawn("flip", count=1000).values.sum() <= 600


def test_scale_above_one_shrinks_what_is_seen():
    square = torch.zeros(1, 1, SIZE, SIZE)
    square[:, :, 4:12, 4:12] = 1
    assert apply(square, Draw("scale", torch.tensor([[1.2, 1.2]]))).sum() < 50
    assert apply(square, Draw("scale", torch.tensor([[1 / 1.2, 1 / 1.2]]))).sum() > 85
    wide = apply(square, Draw("scale", torch.tensor([[1 / 1.2, 1.0]])))
    assert wide.sum(2).ne(0).sum() > wide.sum(3).ne(0).sum()  # the first factor is the width's
    factors = drawn("scale", count=1000).values
    assert 1 / 1.2 <= factors.min() < 0.84
    assert 1.19 < factors.max() <= 1.2


def test_rotate_turns_by_fifteen_degrees_at_most():
    one = images(1)
    quarter = apply(one, Draw("rotate", torch.tensor([[math.pi / 2]])))
    assert torch.allclose(quarter, torch.rot90(one, 1, (2, 3)), atol=1e-4)
    angles = drawn("rotate", count=1000).values.rad2deg()
    assert -15 <= angles.min() < -14.5
    assert 14.5 < angles.max() <= 15


def test_bfloat16_training_does_not_coarsen_the_sampling():
    one, turned = images(), drawn("rotate")
    plain = apply(one, turned)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(apply(one, turned), plain)


@pytest.mark.parametrize("sets", [1, 3])
def test_the_form_for_cards_samples_as_torch_does_and_so_do_its_gradients(sets):
    source = torch.Generator().manual_seed(3)
    images = torch.randn(3, 2, 9, 9, generator=source, dtype=torch.float64)
    grid = functional.affine_grid(
        torch.randn(sets, 2, 3, generator=source, dtype=torch.float64),
        [sets, 1, 9, 9],
        align_corners=False,
    )
    slope = torch.randn(3, 2, 9, 9, generator=source, dtype=torch.float64)
    found = []
    for sampler in (
        dsa.sample,
        lambda seen, where: functional.grid_sample(
            seen, where.expand(3, -1, -1, -1), align_corners=False
        ),
    ):
        learnt = images.clone().requires_grad_()
        made = sampler(learnt, grid)
        (made * slope).sum().backward()
        found.append((made.detach(), learnt.grad))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
