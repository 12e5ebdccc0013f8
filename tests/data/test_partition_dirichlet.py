"""Class-wise Dirichlet schemes: properties PT-3, PT-4, PT-7 and the published split of PT-8."""

from __future__ import annotations

import numpy as np
import pytest
from data_files import spread
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.data.partition import split
from fedbench.data.partitioners import dirichlet
from fedbench.errors import PartitionError

CIFAR10 = np.repeat(np.arange(10), 5000)
SMALL = np.repeat(np.arange(10), 200)

# DENSE's README: CIFAR-10, 5 clients, beta 0.5, seed 1.
DENSE = [
    [156, 709, 301, 2629, 20, 651, 915, 113, 180, 2133],
    [1771, 2695, 1251, 1407, 665, 314, 1419, 3469, 0, 0],
    [236, 15, 1715, 76, 1304, 34, 1773, 75, 3289, 2360],
    [2809, 575, 157, 853, 2555, 2557, 203, 1213, 0, 0],
    [28, 1006, 1576, 35, 456, 1444, 690, 130, 1531, 507],
]


def entropy(histogram):
    """Mean over classes of the entropy of a class over clients, in nats."""
    shares = histogram / histogram.sum(0)
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(0).mean()


def test_pt_8_published_dense_split():
    parts = dirichlet.dirichlet_capped(
        CIFAR10, spread(clients=5, beta=0.5), np.random.RandomState(1), 10
    )
    assert [np.bincount(CIFAR10[part], minlength=10).tolist() for part in parts] == DENSE


@pytest.mark.parametrize("seed", [0, 7])
def test_pt_8_published_dense_split_by_settings(seed):
    """Whatever the cell's seed is, and whatever the order of the images."""
    chosen = spread(clients=5, beta=0.5, legacy_seed=1)
    labels = np.random.default_rng(seed).permutation(CIFAR10)
    assert split(labels, chosen, seed, 10).histogram.tolist() == DENSE


@given(
    scheme=st.sampled_from(["dirichlet", "dirichlet_capped", "floor_per_class"]),
    beta=st.floats(0.2, 5),
    clients=st.integers(1, 6),
    min_size=st.integers(0, 25),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_pt_3_smallest_client(scheme, beta, clients, min_size, seed):
    chosen = spread(scheme=scheme, clients=clients, beta=beta, min_size=min_size)
    assert split(SMALL, chosen, seed, 10).histogram.sum(1).min() >= min_size


@given(clients=st.integers(1, 30), beta=st.floats(0.3, 5), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_pt_3_groups_are_equal_in_size(clients, beta, seed):
    chosen = spread(scheme="dirichlet_groups", clients=clients, beta=beta)
    sizes = split(SMALL, chosen, seed, 10).histogram.sum(1)
    assert np.ptp(sizes) <= 1


@given(floor=st.integers(1, 30), clients=st.integers(1, 5), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_pt_7_floor_of_every_class(floor, clients, seed):
    chosen = spread(scheme="floor_per_class", clients=clients, floor=floor, beta=0.1, min_size=0)
    assert split(SMALL, chosen, seed, 10).histogram.min() >= floor


@pytest.mark.parametrize(
    "scheme", ["dirichlet", "dirichlet_capped", "dirichlet_groups", "floor_per_class"]
)
def test_pt_4_large_beta_approaches_iid(scheme):
    chosen = spread(scheme=scheme, clients=5, beta=1e5)
    histogram = split(CIFAR10, chosen, 0, 10).histogram
    np.testing.assert_allclose(histogram, 1000, rtol=0.1)


@pytest.mark.parametrize("scheme", ["dirichlet", "dirichlet_capped"])
def test_pt_4_entropy_falls_with_beta(scheme):
    means = [
        np.mean(
            [
                entropy(
                    split(
                        CIFAR10, spread(scheme=scheme, clients=5, beta=b, min_size=1), s, 10
                    ).histogram
                )
                for s in range(4)
            ]
        )
        for b in (0.01, 0.1, 1, 10)
    ]
    assert means == sorted(means)
    assert means[0] < 0.3
    assert means[-1] > 0.9 * np.log(5)


def test_cap_keeps_later_classes_from_full_clients():
    chosen = {"clients": 10, "beta": 0.1, "min_size": 1}
    for seed in range(5):
        histogram = split(CIFAR10, spread(**chosen), seed, 10).histogram
        full = histogram.cumsum(1)[:, :-1] >= 5000
        # One image may still come to a last client at the cap: the floor of .9999... is kept.
        assert histogram[:, 1:][full].max() <= 1
        assert histogram[:-1, 1:][full[:-1]].max() == 0
    free = split(CIFAR10, spread(scheme="dirichlet", **chosen), 0, 10).histogram
    assert free[:, 1:][free.cumsum(1)[:, :-1] >= 5000].max() > 100


def test_groups_draw_separately_and_clients_straddle_draws():
    chosen = spread(scheme="dirichlet_groups", clients=20, beta=0.1)
    histogram = split(CIFAR10, chosen, 0, 10).histogram
    halves = histogram[:10].sum(0), histogram[10:].sum(0)
    np.testing.assert_allclose(halves[0], halves[1], rtol=0.15)  # random shares of the images
    assert entropy(histogram) < 0.75 * np.log(20)


def test_groups_give_the_last_group_what_is_left():
    histogram = split(SMALL, spread(scheme="dirichlet_groups", clients=13), 0, 10).histogram
    assert histogram.shape == (13, 10)
    assert histogram.sum() == len(SMALL)


@pytest.mark.parametrize(
    ("chosen", "parts"),
    [
        (
            {"scheme": "dirichlet_capped", "clients": 40, "beta": 0.01, "max_tries": 7},
            ["dirichlet_capped", "none of 7 draws", "40 clients", "beta=0.01", "raise beta"],
        ),
        ({"scheme": "dirichlet", "clients": 300}, ["300 clients", "accept smaller"]),
        (
            {"scheme": "dirichlet_groups", "clients": 10, "beta": 0.001, "max_tries": 3},
            ["dirichlet_groups", "none of 3 draws", "at least 100 of 2000", "raise beta above"],
        ),
        (
            {"scheme": "floor_per_class", "clients": 5, "floor": 41},
            ["class 0 has 200 images", "floor=41 need 205", "lower floor"],
        ),
    ],
)
def test_bounded_failure_says_what_would_work(chosen, parts):
    with pytest.raises(PartitionError) as error:
        split(SMALL, spread(**chosen), 0, 10)
    missing = [part for part in parts if part not in str(error.value)]
    assert not missing, str(error.value)


@pytest.mark.parametrize("seed", range(4))
def test_failure_names_the_best_size_that_was_reached(seed):
    chosen = {"clients": 20, "beta": 0.1, "max_tries": 5}
    with pytest.raises(PartitionError, match=r"set min_size to [0-9]+ or less") as error:
        split(SMALL, spread(**chosen, min_size=90), seed, 10)
    reached = int(str(error.value).split("set min_size to ")[1].split()[0])
    sizes = split(SMALL, spread(**chosen, min_size=reached), seed, 10).histogram.sum(1)
    assert sizes.min() == reached
    with pytest.raises(PartitionError):
        split(SMALL, spread(**chosen, min_size=reached + 1), seed, 10)


class Script(np.random.RandomState):
    """Spreads each class as written."""

    def __init__(self, *masses):
        super().__init__(0)
        self.masses = list(masses)

    def dirichlet(self, alpha, size=None):
        return np.array(self.masses.pop(0))


def test_cap_is_reached_at_the_average_size_exactly():
    labels = np.repeat(np.arange(3), [10, 10, 20])
    masses = [1.0, 0.0], [0.9, 0.1], [0.5, 0.5]
    settings = spread(clients=2, min_size=0)
    parts = dirichlet.dirichlet_capped(labels, settings, Script(*masses), 3)
    assert [np.bincount(labels[p], minlength=3).tolist() for p in parts] == [
        [10, 9, 10],
        [0, 1, 10],
    ]
    masses = [1.0, 0.0], [1.0, 0.0], [0.5, 0.5]
    parts = dirichlet.dirichlet_capped(labels, settings, Script(*masses), 3)
    assert [np.bincount(labels[p], minlength=3).tolist() for p in parts] == [
        [10, 10, 0],
        [0, 0, 20],
    ]


def test_floor_is_not_counted_towards_the_cap():
    labels = np.repeat(np.arange(3), [10, 10, 20])
    settings = spread(scheme="floor_per_class", clients=2, floor=2, min_size=0)
    masses = [1.0, 0.0], [1.0, 0.0], [0.5, 0.5]
    parts = dirichlet.floor_per_class(labels, settings, Script(*masses), 3)
    assert [np.bincount(labels[p], minlength=3).tolist() for p in parts] == [[8, 8, 10], [2, 2, 10]]


class Spike(np.random.RandomState):
    """Puts all mass of every class on client 0, as tiny beta does."""

    def dirichlet(self, alpha, size=None):
        return np.eye(len(alpha))[0]


def test_all_mass_on_full_clients_is_a_failed_draw_not_nan():
    with pytest.raises(PartitionError, match="without a client that may take it"):
        dirichlet.dirichlet_capped(SMALL, spread(max_tries=3, min_size=0), Spike(0), 10)


def test_underflow_of_the_legacy_generator_is_a_failed_draw():
    chosen = spread(scheme="dirichlet", beta=1e-310, min_size=0, max_tries=2)
    with np.errstate(all="ignore"), pytest.raises(PartitionError, match="none of 2 draws"):
        dirichlet.dirichlet(SMALL, chosen, np.random.RandomState(0), 10)
