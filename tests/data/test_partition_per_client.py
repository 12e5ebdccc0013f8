"""Client-wise Dirichlet partitions: PT-3, PT-4 and the published splits of PT-9."""

from __future__ import annotations

import numpy as np
import pytest
from data_files import spread
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.data.partition import split
from fedbench.data.partitioners.per_client import BLOCK, dirichlet_per_client
from fedbench.errors import PartitionError

CIFAR10 = np.repeat(np.arange(10), 5000)
SMALL = np.repeat(np.arange(10), 60)


def chosen(**settings):
    return spread(scheme="dirichlet_per_client", **settings)


def legacy(labels, **settings):
    """Return the split whatever the cell's seed, as two of them agree on it."""
    one, other = (
        dirichlet_per_client(labels, chosen(**settings), np.random.default_rng(seed), 10)
        for seed in (0, 1)
    )
    assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
    return one


@pytest.mark.parametrize(
    ("seed", "alpha", "counts"),
    [
        (42, 1, [440, 381, 415, 39, 10, 257, 227, 532, 17, 182]),
        (84, 1, [342, 114, 363, 765, 49, 204, 467, 25, 55, 116]),
        (42, 0.1, [406, 964, 0, 336, 0, 0, 53, 0, 17, 724]),
        (84, 0.1, [981, 1228, 0, 289, 0, 0, 1, 1, 0, 0]),
        (42, 100, [256, 249, 217, 265, 244, 275, 235, 226, 275, 258]),
        (84, 100, [225, 194, 247, 272, 217, 251, 256, 333, 258, 247]),
    ],
)
def test_pt_9_published_flower_splits(seed, alpha, counts):
    parts = legacy(CIFAR10, clients=20, beta=alpha, legacy_seed=seed)
    assert np.bincount(CIFAR10[parts[0]], minlength=10).tolist() == counts


def image_by_image(labels, clients, alpha, seed):
    """Re-derive METHODS 1.4: one multinomial draw for each image, classes popped from the end."""
    rng = np.random.RandomState(seed)
    order = rng.permutation(len(labels))
    left = [[i for i in order if labels[i] == c] for c in range(10)]
    mixes = np.random.default_rng(seed).dirichlet(np.full(10, alpha), size=clients)

    def drawable(mix):
        mix = np.array([q + 1e-5 if pool else 0.0 for q, pool in zip(mix, left, strict=True)])
        return mix / mix.sum()

    parts = []
    for mix in mixes:
        part, mix = [], drawable(mix)
        while len(part) < len(labels) // clients:
            c = int(rng.multinomial(1, mix).argmax())
            part.append(left[c].pop())
            if not left[c] and any(left):
                mix = drawable(mix)
        parts.append(sorted(part))
    return parts


@pytest.mark.parametrize("alpha", [0.05, 1.0])
def test_pt_9_blocks_equal_drawing_image_by_image(alpha):
    parts = legacy(SMALL, clients=12, beta=alpha, legacy_seed=3)
    assert [sorted(part.tolist()) for part in parts] == image_by_image(SMALL, 12, alpha, 3)


def test_block_border_changes_nothing():
    size = BLOCK + 100
    labels = np.repeat(np.arange(2), size)
    parts = dirichlet_per_client(labels, chosen(clients=2), np.random.default_rng(0), 2)
    assert [len(part) for part in parts] == [size, size]
    assert len(np.unique(np.concatenate(parts))) == 2 * size


@given(
    beta=st.floats(0.01, 10),
    clients=st.integers(1, 40),
    filling=st.sampled_from(["in_turn", "interleaved"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_pt_3_sizes_differ_by_one_at_most(beta, clients, filling, seed):
    split_ = split(SMALL, chosen(clients=clients, beta=beta, filling=filling), seed, 10)
    assert np.ptp(split_.histogram.sum(1)) <= 1
    assert split_.histogram.sum() == len(SMALL)


@pytest.mark.parametrize("filling", ["in_turn", "interleaved"])
def test_pt_4_large_beta_approaches_iid(filling):
    histogram = split(CIFAR10, chosen(clients=5, beta=1e6, filling=filling), 0, 10).histogram
    np.testing.assert_allclose(histogram, 1000, rtol=0.15)


def test_pt_4_entropy_of_a_class_has_a_floor_of_log_2():
    histogram = split(SMALL, chosen(clients=20, beta=0.01), 0, 10).histogram
    shares = histogram / histogram.sum(0)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(0)
    assert entropy.min() >= np.log(2) - 1e-12
    assert entropy.mean() < 0.6 * np.log(20)


def test_late_clients_get_leftovers_only_when_filled_in_turn():
    """Distance between what a client drew and what it got, first fifth against last fifth."""

    def distance(filling, seed):
        mix = np.random.default_rng(seed).dirichlet(np.full(10, 0.3), size=25)
        parts = legacy(CIFAR10, clients=25, beta=0.3, filling=filling, legacy_seed=seed)
        got = np.array([np.bincount(CIFAR10[p], minlength=10) / len(p) for p in parts])
        gap = np.abs(got - mix).sum(1) / 2
        return gap[:5].mean(), gap[-5:].mean()

    first, last = np.mean([distance("in_turn", s) for s in range(4)], 0)
    assert last > 5 * first
    first, last = np.mean([distance("interleaved", s) for s in range(4)], 0)
    assert last < 2 * first


def test_sigma_spreads_sizes():
    sizes = [
        split(CIFAR10, chosen(clients=50, sigma=sigma), 0, 10).histogram.sum(1)
        for sigma in (0.0, 0.3, 1.0)
    ]
    spread = [np.log(size).std() for size in sizes]
    assert spread[0] == pytest.approx(0, abs=1e-9)
    assert spread[1] == pytest.approx(0.3, rel=0.3)
    assert spread[2] == pytest.approx(1.0, rel=0.3)
    assert [size.sum() for size in sizes] == [50000] * 3


def test_empty_client_of_a_wide_sigma_is_an_error():
    with pytest.raises(PartitionError, match=r"gets no image .*sigma=6.0"):
        split(SMALL, chosen(clients=40, sigma=6.0), 0, 10)


def test_underflow_is_an_error():
    with (
        np.errstate(all="ignore"),
        pytest.raises(PartitionError, match="beta=1e-09 is too small"),
    ):
        dirichlet_per_client(SMALL, chosen(beta=1e-9), np.random.RandomState(0), 10)
