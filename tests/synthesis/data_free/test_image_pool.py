"""The pool of made images: what goes in comes out, bounded, as durable as its chunks."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.data.normalisation import Normalisation
from fedbench.data.stream import Stream
from fedbench.errors import TrainingError
from fedbench.federation import journal as journals
from fedbench.federation.journal import Journal
from fedbench.federation.ledger import Clock, Ledger
from fedbench.federation.shelf import Shelf
from fedbench.federation.stages import stages
from fedbench.federation.trail import Trail
from fedbench.synthesis.data_free.pool import UNKNOWN, ImagePool

SCALE = Normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
CPU = torch.device("cpu")
NUMBERS = itertools.count()


@pytest.fixture(autouse=True, scope="module")
def _folder(tmp_path_factory):
    global FOLDER
    FOLDER = tmp_path_factory.mktemp("trails")


def trail():
    """An empty one in a folder of its own."""
    return Trail(Shelf(FOLDER / str(next(NUMBERS))))


def batch(count, first=0):
    """Images that carry their number in every pixel of their first channel."""
    numbers = torch.arange(first, first + count)
    pixels = torch.zeros(count, 3, 4, 4, dtype=torch.uint8)
    pixels[:, 0] = numbers.view(-1, 1, 1).to(torch.uint8)
    return SCALE(pixels), numbers


def numbers_of(images):
    pixels = SCALE.to_pixels(images)
    return pixels[:, 0, 0, 0].long()


def filled(sizes, **options):
    pool, first = ImagePool(trail(), SCALE, CPU, **options), 0
    for client, count in enumerate(sizes):
        images, labels = batch(count, first)
        pool.add(images, labels, clients=client)
        first += count
    return pool


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), data=st.data())
def test_rows_come_back_in_any_order_with_all_that_belongs_to_them(sizes, data):
    pool, count = filled(sizes), sum(sizes)
    places = torch.tensor(data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=20)))
    images, labels, clients, classes = pool.take(places)
    owners = torch.tensor([k for k, size in enumerate(sizes) for _ in range(size)])
    assert len(pool) == count
    assert torch.equal(numbers_of(images), places)
    assert torch.equal(labels, places)
    assert torch.equal(classes, places)
    assert torch.equal(clients, owners[places])


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), limit=st.integers(6, 12))
def test_a_bounded_pool_keeps_the_newest_batches(sizes, limit):
    pool = filled(sizes, limit=limit)
    kept = list(sizes)
    while sum(kept) > limit:
        kept.pop(0)
    assert len(pool) == sum(kept)
    labels = pool.take(torch.arange(len(pool)))[1]
    assert labels.tolist() == list(range(sum(sizes) - sum(kept), sum(sizes)))


def test_de_4_a_pool_grows_by_a_batch_and_in_pixel_space_holds_pixels():
    pool = ImagePool(trail(), SCALE, CPU, space="pixels")
    images, labels = batch(5)
    for number in range(3):
        pool.add(images + (number - 1) * 100, labels)
        assert len(pool) == 5 * (number + 1)
    kept = pool.take(torch.arange(15))[0]
    assert kept.dtype == torch.uint8
    assert torch.equal(numbers_of(kept[5:10]), labels)
    assert (kept[:5].amax(), kept[10:].amin()) == (0, 255)


def test_floats_beyond_the_range_of_pixels_stay_in_normalised_space():
    pool = ImagePool(trail(), SCALE, CPU)
    images = torch.randn(4, 3, 4, 4) * 100
    pool.add(images, torch.zeros(4, dtype=torch.int64))
    assert torch.equal(pool.take(torch.arange(4))[0], images)


def test_soft_labels_come_with_the_class_that_images_were_made_for():
    pool, classes = ImagePool(trail(), SCALE, CPU), torch.tensor([1, 0])
    soft = torch.tensor([[0.2, 0.8], [0.6, 0.4]])
    pool.add(*batch(2)[:1], soft, clients=torch.tensor([4, 5]), classes=classes)
    _, labels, clients, made_for = pool.take(torch.tensor([1, 0]))
    assert torch.equal(labels, soft[[1, 0]])
    assert clients.tolist() == [5, 4]
    assert made_for.tolist() == [0, 1]
    plain = ImagePool(trail(), SCALE, CPU)
    plain.add(*batch(2)[:1], soft)
    assert plain.take(torch.arange(2))[3].tolist() == [UNKNOWN] * 2


def test_a_stream_goes_over_the_pool_as_it_grows():
    pool = filled([4, 4])
    stream = Stream(pool, batch_size=3, seed=0, normalisation=SCALE)
    assert sorted(torch.cat([row[1] for row in stream]).tolist()) == list(range(8))
    pool.add(*batch(4, 8))
    epoch = list(stream)
    assert sorted(torch.cat([row[1] for row in epoch]).tolist()) == list(range(12))
    for images, labels, clients, _ in epoch:
        assert torch.equal(numbers_of(images), labels)
        assert torch.equal(clients == UNKNOWN, labels >= 8)


def test_a_pool_in_stages_is_after_a_kill_what_it_would_have_been(tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "_SHARE", math.inf)  # commit each step, however quick
    sizes = [3, 4, 2, 5]

    def work(folder, die_at=None):
        journal = Journal(folder, Clock(Ledger()))
        kept = Trail(journal.shelf)
        pool = ImagePool(kept, SCALE, CPU, limit=11)
        for step in stages(journal, "here", len(sizes), {"pool": kept}, {}, CPU):
            pool.add(*batch(sizes[step], sum(sizes[:step])), clients=step)
            if step == die_at:
                raise KeyboardInterrupt
        return pool.take(torch.arange(len(pool)))

    calm = work(tmp_path / "calm")
    assert calm[1].tolist() == list(range(3, 14))  # the first batch made room
    for step in range(4):
        with pytest.raises(KeyboardInterrupt):
            work(tmp_path / "killed", die_at=step)
    again = work(tmp_path / "killed")
    assert all(torch.equal(one, other) for one, other in zip(calm, again, strict=True))


def test_faults_are_named():
    pool = filled([3], limit=4)
    with pytest.raises(TrainingError, match="5 images does not fit a pool of 4"):
        pool.add(*batch(5))
    with pytest.raises(TrainingError, match=r"labels of torch\.float32"):
        pool.add(batch(2)[0], torch.ones(2, 10))
    with pytest.raises(TrainingError, match=r"labels of .* do not go with 2 images"):
        pool.add(batch(2)[0], torch.arange(3))
    with pytest.raises(TrainingError, match="no image yet"):
        ImagePool(trail(), SCALE, CPU).take(torch.arange(1))


def test_a_pool_that_holds_images_before_it_is_restored_shows_what_was_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "_SHARE", math.inf)

    def run():
        journal = Journal(tmp_path, Clock(Ledger()))
        kept = Trail(journal.shelf)
        pool = ImagePool(kept, SCALE, CPU, limit=8)
        images, labels = batch(4)
        pool.add(images, labels)
        for step in stages(journal, "grow", 2, {"pool": kept}, {}, CPU):
            images, labels = batch(4, 4 * (step + 1))
            pool.add(images, labels)
        return pool.take(torch.arange(len(pool)))[1].tolist()

    assert run() == run() == list(range(4, 12))
