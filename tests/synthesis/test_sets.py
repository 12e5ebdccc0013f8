"""Shared sets: who contributes how many, and that floats are trained on as bytes are."""

import pytest
import torch

from fedbench.data.loaders import BatchLoader
from fedbench.federation.synthetic import SyntheticSet
from fedbench.synthesis.sets import SyntheticLoader, class_shares, normalised

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def pixels(count=9):
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=source)
    return images, torch.arange(count) % 4


def both(augment):
    images, labels = pixels()
    floats = normalised(SyntheticSet(images, labels, MEAN, STD))
    options = {"batch_size": 4, "seed": 3, "mean": MEAN, "std": STD, "augment": augment}
    return BatchLoader(images, labels, **options), SyntheticLoader(floats, labels, **options)


@pytest.mark.parametrize("augment", ["none", "crop", "flip_crop"])
def test_floats_give_the_batches_that_bytes_give(augment):
    bytes_loader, floats_loader = both(augment)
    assert len(bytes_loader) == len(floats_loader) == 2  # a last image alone joins the batch before
    for _ in range(2):
        for (one, first), (other, second) in zip(bytes_loader, floats_loader, strict=True):
            assert torch.equal(first, second)
            assert torch.allclose(one, other, atol=1e-5)


def test_an_epoch_depends_on_its_number_alone():
    images, labels = pixels()
    options = {"batch_size": 4, "seed": 3, "mean": MEAN, "std": STD, "ops": ("crop", "color")}
    loader, later = (SyntheticLoader(images.float(), labels, **options) for _ in range(2))
    epochs = [torch.cat([part for part, _ in loader]) for _ in range(3)]
    later.set_epoch(2)
    assert torch.equal(torch.cat([part for part, _ in later]), epochs[2])
    assert not torch.equal(epochs[0], epochs[1])


def test_siamese_operations_take_the_place_of_the_recipes():
    images, labels = pixels(64)
    options = {"batch_size": 64, "seed": 3, "mean": MEAN, "std": STD, "augment": "flip_crop"}
    loader = SyntheticLoader(images.float(), labels, **options, ops=("flip",))
    ((changed, order),) = list(loader)
    plain = {tuple(image.flatten().tolist()) for image in images.float()}
    mirrored = {tuple(image.flatten().tolist()) for image in images.float().flip(-1)}
    found = [tuple(image.flatten().tolist()) for image in changed]
    assert all(image in plain | mirrored for image in found)
    assert 15 < sum(image in plain for image in found) < 49  # each image has a draw of its own
    assert torch.equal(order.sort().values, labels.sort().values)


def shares(count, labels, seed=0):
    return class_shares(count, labels, 5, torch.Generator().manual_seed(seed))


def test_classes_share_as_evenly_as_what_is_held_allows():
    labels = torch.tensor([0] * 50 + [1] * 2 + [3] * 9)
    assert shares(3, labels) == [1, 1, 0, 1, 0]
    assert shares(20, labels) == [9, 2, 0, 9, 0]
    assert shares(100, labels) == [50, 2, 0, 9, 0]


def test_what_is_left_over_goes_to_any_class():
    labels = torch.arange(5).repeat(10)
    found = torch.tensor([shares(7, labels, seed) for seed in range(200)])
    assert (found.sum(1) == 7).all()
    assert (found.amin(), found.amax()) == (1, 2)
    assert ((found == 2).sum(0) > 50).all()


def test_bytes_become_floats_in_normalised_space():
    images, labels = pixels()
    floats = normalised(SyntheticSet(images, labels, MEAN, STD))
    expected = (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert torch.allclose(floats, expected, atol=1e-5)
    assert normalised(SyntheticSet(floats, labels, MEAN, STD)) is floats
