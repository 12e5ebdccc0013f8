"""Streams: every image once an epoch, by seed and number alone, moved, normalised; old bits."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.data.dataset import Split
from fedbench.data.normalisation import Normalisation
from fedbench.data.stream import Columns, Stream
from fedbench.errors import TrainingError
from fedbench.synthesis.matching.kip import TargetBatches

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SCALE = Normalisation(MEAN, STD)
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "streams.json").read_text())


def numbered(count):
    """Images that carry their own number, and labels equal to it."""
    labels = torch.arange(count)
    images = torch.zeros(count, 3, 8, 8, dtype=torch.uint8)
    images[:, 0] = (labels % 256).view(-1, 1, 1).to(torch.uint8)
    return images, labels


def loader(count=20, **changes):
    images, labels = numbered(count)
    settings = {"batch_size": 8, "seed": 0, "normalisation": SCALE}
    return Stream(Columns(images, labels), **{**settings, **changes})


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
    made = Stream(Columns(white), batch_size=200, seed=0, normalisation=SCALE, augment="crop")
    (x,) = next(iter(made))
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
    before = made.rows.images.clone()
    list(made)
    assert torch.equal(made.rows.images, before)


def test_faults_are_named():
    images, labels = numbered(4)
    with pytest.raises(TrainingError, match="no image"):
        Columns(images[:0], labels[:0])
    with pytest.raises(TrainingError, match="4 images and 3 labels"):
        Columns(images, labels, labels[:3])


def test_columns_of_any_shape_stay_with_their_images():
    images, labels = numbered(20)
    soft = torch.nn.functional.one_hot(labels, 20).float()
    rows = Columns(images, labels, soft, labels + 100)
    made = Stream(rows, batch_size=8, seed=0, normalisation=SCALE, augment="flip_crop")
    for _, own, shares, origins in made:
        assert torch.equal(shares.argmax(1), own)
        assert torch.equal(origins, own + 100)


def pictures(count):
    source = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=source)
    return images, torch.arange(count) % 4


@pytest.mark.parametrize("augment", ["none", "crop", "flip_crop"])
def test_floats_give_the_batches_that_bytes_give(augment):
    images, labels = pictures(9)
    options = {"batch_size": 4, "seed": 3, "normalisation": SCALE, "augment": augment}
    as_bytes, as_floats = (
        Stream(Columns(kept, labels), **options) for kept in (images, SCALE(images))
    )
    assert len(as_bytes) == len(as_floats) == 2  # a last image alone joins the batch before
    for _ in range(2):
        for (one, first), (other, second) in zip(as_bytes, as_floats, strict=True):
            assert torch.equal(first, second)
            assert torch.allclose(one, other, atol=1e-5)


def test_siamese_operations_take_the_place_of_moves_and_each_image_has_its_own():
    images, labels = pictures(64)
    made = Stream(
        Columns(images.float(), labels),
        batch_size=64,
        seed=3,
        normalisation=SCALE,
        augment="flip_crop",
        ops=("flip",),
    )
    ((changed, order),) = list(made)
    plain = {tuple(image.flatten().tolist()) for image in images.float()}
    mirrored = {tuple(image.flatten().tolist()) for image in images.float().flip(-1)}
    found = [tuple(image.flatten().tolist()) for image in changed]
    assert all(image in plain | mirrored for image in found)
    assert 15 < sum(image in plain for image in found) < 49
    assert torch.equal(order.sort().values, labels.sort().values)


def test_siamese_operations_on_bytes_are_those_on_floats():
    images, labels = pictures(9)
    options = {"batch_size": 4, "seed": 3, "normalisation": SCALE, "ops": ("crop", "color")}
    one, other = (Stream(Columns(kept, labels), **options) for kept in (images, SCALE(images)))
    for (x, _), (y, _) in zip(one, other, strict=True):
        assert torch.equal(x, y)


class Growing(Columns):
    """Rows to which images are added behind the stream's back."""

    def add(self, images, labels):
        self.images = torch.cat([self.images, images])
        self.columns = (torch.cat([self.columns[0], labels]),)


def test_rows_that_grow_are_seen_from_the_next_epoch_on():
    rows = Growing(*numbered(8))
    made = Stream(rows, batch_size=4, seed=0, normalisation=SCALE)
    epoch = iter(made)
    first = [next(epoch)[1]]
    images, labels = numbered(12)
    rows.add(images[8:], labels[8:])
    first += [part for _, part in epoch]
    assert sorted(torch.cat(first).tolist()) == list(range(8))
    assert sorted(torch.cat([part for _, part in made]).tolist()) == list(range(12))
    assert len(made) == 3


def digest(epochs):
    found = hashlib.sha256()
    for batch in itertools.chain.from_iterable(epochs):
        for tensor in batch:
            found.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def golden(name):
    """Make what a golden digest is of, and say of how many epochs."""
    cifar = Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    if name == "targets":
        split = Split(*pictures(25))
        return TargetBatches(split, 8, seed=5, normalisation=cifar, length=3), 2
    kind, count, augment, *order = name.split(" ", 3)
    images, labels = pictures(int(count))
    options = {"batch_size": 8, "seed": 5, "normalisation": cifar}
    if augment == "dsa":
        options["ops"] = ("flip", "crop", "cutout")
    else:
        options["augment"] = augment
    if kind == "bytes":
        options |= {"shuffle": order == ["shuffled"], "first_epoch": 3}
    rows = Columns(images if kind == "bytes" else cifar(images), labels)
    return Stream(rows, **options), 3


@pytest.mark.parametrize("name", GOLDEN)
def test_streams_have_the_bits_that_the_loaders_before_them_had(name):
    made, epochs = golden(name)
    assert digest([made] * epochs) == GOLDEN[name]
