from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.data.augment import apply, draw, padding

KINDS = ("crop", "flip_crop")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_hand(images, draws):
    """One sample at a time, as the reference codes do it with PIL."""
    size, edge = images.shape[-1], padding(images.shape[-1])
    result = []
    for image, (mirrored, top, left) in zip(images, draws.tolist(), strict=True):
        image = image.flip(-1) if mirrored else image
        canvas = torch.zeros(image.shape[0], size + 2 * edge, size + 2 * edge, dtype=image.dtype)
        canvas[:, edge : edge + size, edge : edge + size] = image
        result.append(canvas[:, top : top + size, left : left + size])
    return torch.stack(result)


@pytest.mark.parametrize(("size", "edge"), [(8, 1), (16, 2), (28, 4), (32, 4), (64, 8)])
def test_padding_is_an_eighth_rounded(size, edge):
    assert padding(size) == edge


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    size=st.sampled_from([8, 12, 17]),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
)
def test_equals_one_image_at_a_time(count, channels, size, kind, seed, dtype):
    images = torch.randint(1, 256, (count, channels, size, size), generator=generator(seed))
    images = images.to(dtype)
    draws = draw(count, kind, size, generator(seed))
    assert draws is not None
    before = images.clone()
    result = apply(images, draws)
    assert result.dtype == dtype
    assert torch.equal(result, by_hand(images, draws))
    assert torch.equal(images, before)


def augment(images, kind, source):
    return apply(images, draw(len(images), kind, images.shape[-1], source))


def test_none_is_the_identity_and_draws_nothing():
    images, source = torch.rand(4, 3, 8, 8), generator()
    assert augment(images, "none", source) is images
    assert torch.equal(source.get_state(), generator().get_state())


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_images_and_the_generator_moves_on(kind):
    images, source = torch.rand(16, 3, 16, 16), generator(5)
    first, second = augment(images, kind, source), augment(images, kind, source)
    assert torch.equal(first, augment(images, kind, generator(5)))
    assert not torch.equal(first, second)


def test_global_generator_is_not_used():
    images, state = torch.rand(4, 1, 8, 8), torch.get_rng_state()
    augment(images, "flip_crop", generator())
    assert torch.equal(state, torch.get_rng_state())


def test_draws_cover_their_range_evenly_and_independently():
    draws = draw(9000, "flip_crop", 32, generator())
    mirrored, top, left = draws.T
    assert abs(mirrored.float().mean() - 0.5) < 0.02
    for corner in (top, left):
        share = torch.bincount(corner, minlength=9) / len(corner)
        assert len(share) == 9
        assert (share - 1 / 9).abs().max() < 0.02
    assert torch.corrcoef(draws.T.double()).fill_diagonal_(0).abs().max() < 0.04


def test_both_kinds_crop_alike_and_crop_never_mirrors():
    crop, both = (draw(200, kind, 32, generator(3)) for kind in KINDS)
    assert torch.equal(crop[:, 1:], both[:, 1:])
    assert crop[:, 0].sum() == 0


def test_a_mirrored_image_keeps_its_pixels():
    images = torch.rand(2, 3, 16, 16)
    centre = torch.tensor([[1, 2, 2], [0, 2, 2]])
    result = apply(images, centre)
    assert torch.equal(result[0], images[0].flip(-1))
    assert torch.equal(result[1], images[1])


def test_samples_of_one_batch_get_different_draws():
    images = torch.rand(1, 3, 32, 32).expand(64, -1, -1, -1)
    result = augment(images, "flip_crop", generator())
    assert len({tuple(image.flatten().tolist()) for image in result}) > 40


def test_a_flip_alone_mirrors_half_of_the_images_and_shifts_none():
    images = torch.randint(0, 256, (400, 1, 8, 8), generator=generator()).to(torch.uint8)
    found = augment(images, "flip", generator())
    same = (found == images).flatten(1).all(1)
    mirrored = (found == images.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 150 < mirrored.sum() < 250
