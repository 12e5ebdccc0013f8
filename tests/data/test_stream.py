from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.data.loaders import BatchLoader, batches
from fedbench.errors import TrainingError

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def numbered(count):
    """Images that carry their own number, and labels equal to it."""
    labels = torch.arange(count)
    images = torch.zeros(count, 3, 8, 8, dtype=torch.uint8)
    images[:, 0] = (labels % 256).view(-1, 1, 1).to(torch.uint8)
    return images, labels


def loader(count=20, **changes):
    images, labels = numbered(count)
    settings = {"batch_size": 8, "seed": 0, "mean": MEAN, "std": STD, "augment": "none"}
    return BatchLoader(images, labels, **{**settings, **changes})


def labels_of(batches):
    return [y.tolist() for _, y in batches]


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 70), size=st.integers(1, 16), shuffle=st.booleans())
def test_every_image_once_and_no_batch_of_one(count, size, shuffle):
    made = loader(count, batch_size=size, shuffle=shuffle)
    parts = labels_of(made)
    assert sorted(label for part in parts for label in part) == list(range(count))
    assert len(parts) == len(made)
    sizes = [len(part) for part in parts]
    assert all(length == size for length in sizes[:-1])
    if size > 1 and count > 1:
        assert 2 <= sizes[-1] <= size + 1


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (9, [9]), (17, [8, 9]), (18, [8, 8, 2])])
def test_a_last_batch_of_one_joins_the_one_before(count, sizes):
    assert [len(part) for part in labels_of(loader(count))] == sizes


def test_images_keep_their_labels_and_are_normalised():
    for x, y in loader(40, augment="none"):
        assert x.dtype == torch.float32
        pixels = torch.zeros(len(y), 3, 8, 8)
        pixels[:, 0] = y.view(-1, 1, 1) / 255
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
        torch.testing.assert_close(x, (pixels - mean) / std)


def test_crops_are_padded_with_black_before_normalisation():
    white = torch.full((200, 3, 8, 8), 255, dtype=torch.uint8)
    made = BatchLoader(
        white,
        torch.zeros(200, dtype=torch.int64),
        batch_size=200,
        seed=0,
        mean=MEAN,
        std=STD,
        augment="crop",
    )
    x, _ = next(iter(made))
    values = x[:, 0].unique()
    torch.testing.assert_close(values, torch.tensor([-0.4 / 0.2, 0.6 / 0.2]))


def test_epochs_follow_one_another_and_differ():
    made = loader()
    first, second = labels_of(made), labels_of(made)
    assert first != second
    made.set_epoch(0)
    assert labels_of(made) == first
    made.set_epoch(1)
    assert labels_of(made) == second


@pytest.mark.parametrize("augment", ["none", "flip_crop"])
def test_an_epoch_depends_on_seed_and_number_only(augment):
    fresh = loader(augment=augment, first_epoch=3)
    used = loader(augment=augment)
    next(iter(used))
    torch.manual_seed(1)
    used.set_epoch(3)
    for (x, y), (other_x, other_y) in zip(used, fresh, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
    assert labels_of(loader(seed=1)) != labels_of(loader())


def test_the_global_generator_stays_as_it_is():
    state = torch.get_rng_state()
    list(loader(augment="flip_crop"))
    assert torch.equal(state, torch.get_rng_state())


def test_without_shuffling_the_order_stays():
    assert labels_of(loader(shuffle=False)) == [[*range(8)], [*range(8, 16)], [*range(16, 20)]]


def test_the_images_themselves_stay_as_they_are():
    made = loader(augment="flip_crop")
    before = made.images.clone()
    list(made)
    assert torch.equal(made.images, before)


def test_faults_are_named():
    images, labels = numbered(4)
    settings = {"batch_size": 8, "seed": 0, "mean": MEAN, "std": STD, "augment": "none"}
    with pytest.raises(TrainingError, match="no image"):
        BatchLoader(images[:0], labels[:0], **settings)
    with pytest.raises(TrainingError, match="4 images and 3 labels"):
        BatchLoader(images, labels[:3], **settings)


def test_evaluation_batches_keep_order_and_last_image():
    images, _ = numbered(17)
    parts = list(batches(images, 8, MEAN, STD))
    assert [len(part) for part in parts] == [8, 8, 1]
    trained = torch.cat([x for x, _ in loader(17, shuffle=False)])
    assert torch.equal(torch.cat(parts), trained)
