"""Shards, whole classes and mixtures: PT-5, PT-6 and the numbers of PT-1's exceptions."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from data_files import spread
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.data.partition import split
from fedbench.data.partitioners.classes import _balanced_cuts
from fedbench.data.partitioners.shards import windows
from fedbench.errors import PartitionError

CIFAR10 = np.repeat(np.arange(10), 5000)
SVHN = np.repeat(
    np.arange(10), [4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659]
)  # the training set's counts


def histogram(labels, classes=10, seed=0, **settings):
    return split(labels, spread(**settings), seed, classes).histogram


@pytest.mark.parametrize(
    ("shards", "classes"),
    [
        (2, [4, 2, 4, 2, 4, 5, 5, 4, 4, 3]),
        (5, [4, 5, 5, 5, 6, 5, 5, 9, 7, 6]),
        (10, [5, 5, 7, 7, 7, 7, 8, 9, 9, 9]),
    ],
)
def test_pt_6_reference_windows(shards, classes):
    size = 5000 // shards
    order = np.argsort(CIFAR10, kind="stable")
    parts = windows(order, 10, shards, size, random.Random(1234).randrange)
    assert [len(np.unique(CIFAR10[part])) for part in parts] == classes
    if shards == 2:
        counts = np.bincount(CIFAR10[parts[0]], minlength=10)
        assert {c: int(counts[c]) for c in np.flatnonzero(counts)} == {
            1: 2343,
            2: 157,
            5: 1117,
            6: 1383,
        }


def test_pt_6_window_wraps_and_the_list_closes_up():
    starts = iter([4, 1, 0])
    parts = windows(np.arange(6), 3, 1, 2, lambda length: next(starts))
    assert [part.tolist() for part in parts] == [[4, 5], [1, 2], [0, 3]]
    starts = iter([5, 1])
    parts = windows(np.arange(6), 2, 1, 3, lambda length: next(starts))
    assert [part.tolist() for part in parts] == [[5, 0, 1], [3, 4, 2]]


@given(
    scheme=st.sampled_from(["shards_window", "shards_fixed"]),
    clients=st.integers(1, 9),
    shards=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_pt_6_shard_sizes(scheme, clients, shards, seed):
    labels = np.repeat(np.arange(10), 35)
    counts = histogram(labels, scheme=scheme, clients=clients, shards=shards, seed=seed).sum(1)
    per_shard = 350 // clients // shards if scheme == "shards_window" else 350 // (clients * shards)
    assert (counts == shards * per_shard).all()


def test_pt_1_windows_of_three_leave_twenty_images():
    counts = histogram(CIFAR10, scheme="shards_window", clients=10, shards=3)
    assert counts.sum() == 50000 - 20


def test_fixed_shards_hold_two_classes_at_most():
    counts = histogram(CIFAR10, scheme="shards_fixed", clients=10, shards=2)
    assert ((counts > 0).sum(1) <= 2).all()
    assert set(np.unique(counts)) <= {0, 2500, 5000}


def test_fixed_shards_leave_the_end_of_the_list():
    counts = histogram(np.repeat(np.arange(3), 20), 3, scheme="shards_fixed", clients=7, shards=2)
    assert counts.sum(0).tolist() == [20, 20, 60 - 4 - 40]


@given(wanted=st.integers(1, 10), clients=st.integers(1, 20), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_classes_exact_owns_exactly_and_covers_evenly(wanted, clients, seed):
    labels = np.repeat(np.arange(10), 50)
    counts = histogram(
        labels, scheme="classes_exact", clients=clients, classes_per_client=wanted, seed=seed
    )
    assert ((counts > 0).sum(1) == wanted).all()
    owners = (counts > 0).sum(0)
    assert np.ptp(owners) <= 1
    assert all(np.ptp(column[column > 0]) <= 1 for column in counts.T if column.any())
    assert (counts.sum(0)[owners > 0] == 50).all()


def test_classes_exact_leaves_absent_classes_out():
    labels = np.repeat([0, 2, 5], 30)
    counts = histogram(labels, classes=6, scheme="classes_exact", clients=4, classes_per_client=3)
    assert ((counts > 0) == np.array([1, 0, 1, 0, 0, 1], bool)).all()


def test_pt_1_round_robin_covers_four_classes():
    counts = histogram(CIFAR10, scheme="classes_round_robin", clients=3, classes_per_client=2)
    assert [np.flatnonzero(row).tolist() for row in counts] == [[0, 1], [1, 2], [2, 3]]
    assert counts[0].tolist()[:2] == [5000, 2500]
    assert counts.sum() == 4 * 5000


def test_round_robin_wraps_around():
    counts = histogram(CIFAR10, scheme="classes_round_robin", clients=10, classes_per_client=3)
    assert np.flatnonzero(counts[9]).tolist() == [0, 1, 9]
    np.testing.assert_allclose(counts[counts > 0], 5000 / 3, atol=1)


@pytest.mark.parametrize(
    "settings",
    [
        {"scheme": "half_iid_half_class", "iid_share": 0.0},
        {"scheme": "disjoint_classes"},
    ],
)
def test_pt_5_label_sets_of_two_clients(settings):
    for labels in (CIFAR10, np.random.default_rng(0).permutation(CIFAR10)):
        counts = histogram(labels, clients=2, **settings)
        assert [np.flatnonzero(row).tolist() for row in counts] == [
            [0, 1, 2, 3, 4],
            [5, 6, 7, 8, 9],
        ]


def test_half_and_half_shares():
    counts = histogram(CIFAR10, scheme="half_iid_half_class", clients=10, iid_share=0.5)
    shares = counts / counts.sum(1, keepdims=True)
    np.testing.assert_allclose(np.diag(shares), 0.55, atol=0.03)
    assert shares[~np.eye(10, dtype=bool)].mean() == pytest.approx(0.05, abs=0.003)
    even = histogram(CIFAR10, scheme="half_iid_half_class", clients=10, iid_share=1.0)
    np.testing.assert_allclose(even, 500, atol=90)


def test_random_share_is_rounded_down_as_written():
    """.29 x 100 is 28.999... in floating point, and means 29."""
    labels = np.repeat(np.arange(2), 50)
    counts = histogram(labels, classes=2, scheme="half_iid_half_class", clients=29, iid_share=0.29)
    assert counts.sum(1).tolist() == [1 + 3] * 13 + [1 + 2] * 16


def test_disjoint_classes_of_an_unbalanced_set():
    counts = histogram(SVHN, scheme="disjoint_classes", clients=5)
    assert ((counts > 0).sum(0) == 1).all()
    assert counts.sum() == len(SVHN)
    assert counts.sum(1).max() < 1.35 * len(SVHN) / 5


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=8), data=st.data())
@settings(max_examples=60, deadline=None)
def test_balanced_cuts_are_the_best(sizes, data):
    runs = data.draw(st.integers(1, len(sizes)))

    def squares(cuts):
        return sum(sum(sizes[i:j]) ** 2 for i, j in itertools.pairwise([0, *cuts, len(sizes)]))

    best = min(map(squares, itertools.combinations(range(1, len(sizes)), runs - 1)))
    cuts = _balanced_cuts(sizes, runs)
    assert squares(cuts) == best
    assert len(cuts) == runs - 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheme": "shards_window", "clients": 5, "shards": 41}, "set shards to at most 40"),
        ({"scheme": "shards_fixed", "clients": 150}, "at most 100 clients"),
        ({"scheme": "disjoint_classes", "clients": 11}, "at most 10 clients"),
        ({"scheme": "classes_exact", "classes_per_client": 11}, "only 10 classes"),
        ({"scheme": "classes_round_robin", "classes_per_client": 11}, "set it to 10 or less"),
        ({"scheme": "classes_exact", "clients": 30, "classes_per_client": 8}, "24 owners"),
        ({"scheme": "classes_round_robin", "clients": 120}, "class 0 has 20 images for 24"),
        ({"scheme": "half_iid_half_class", "clients": 201}, "201 clients for 200 images"),
    ],
)
def test_impossible_partitions_name_the_bound(settings, message):
    labels = np.repeat(np.arange(10), 20)
    with pytest.raises(PartitionError, match=message) as error:
        split(labels, spread(**settings), 0, 10)
    assert settings["scheme"] in str(error.value)


def test_round_robin_client_of_an_absent_class_is_an_error():
    labels = np.repeat([0, 1], 20)
    with pytest.raises(PartitionError, match=r"client 2 gets no image .*classes_per_client=1"):
        split(
            labels,
            spread(scheme="classes_round_robin", clients=3, classes_per_client=1),
            0,
            3,
        )
