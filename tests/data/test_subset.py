from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedbench.data.subset import allocate, stratified
from fedbench.errors import DataError

totals_lists = st.lists(st.integers(1, 300), min_size=1, max_size=12)


def labels_of(totals, seed=0):
    values = np.repeat(np.arange(len(totals)), totals)
    return torch.from_numpy(np.random.default_rng(seed).permutation(values))


@given(totals_lists, st.floats(0, 1))
def test_counts_sum_to_the_size_and_keep_proportions(totals, share):
    totals = np.array(totals)
    size = int(share * totals.sum())
    counts = allocate(totals, size)
    assert counts.sum() == size
    assert (counts >= 0).all()
    assert (counts <= totals).all()
    exact = totals * size / totals.sum()
    lifted = (exact < 1).any() and size >= len(totals)
    if lifted:
        assert (counts >= 1).all()
    else:
        assert (np.abs(counts - exact) < 1).all()


@given(totals_lists, st.floats(0, 1), st.integers(0, 5))
def test_choice_is_distinct_ascending_and_stratified(totals, share, seed):
    labels = labels_of(totals)
    size = int(share * len(labels))
    chosen = stratified(labels, size, seed, "train")
    assert len(chosen) == size
    assert bool((chosen[1:] > chosen[:-1]).all())
    counts = torch.bincount(labels[chosen], minlength=len(totals))
    assert counts.tolist() == allocate(np.array(totals), size).tolist()


def test_rare_classes_keep_a_sample():
    chosen = stratified(labels_of([10_000, 9000, 3, 1]), 100, 0, "train")
    counts = torch.bincount(labels_of([10_000, 9000, 3, 1])[chosen], minlength=4)
    assert counts.tolist()[2:] == [1, 1]


def test_balanced_classes_stay_exactly_balanced():
    labels = labels_of([500] * 10)
    counts = torch.bincount(labels[stratified(labels, 200, 0, "train")])
    assert counts.tolist() == [20] * 10


def test_seed_and_name_change_the_choice_and_nothing_else_does():
    labels = labels_of([50] * 4)
    first = stratified(labels, 20, 0, "train")
    assert first.equal(stratified(labels, 20, 0, "train"))
    assert not first.equal(stratified(labels, 20, 1, "train"))
    assert not first.equal(stratified(labels, 20, 0, "test"))


def test_smaller_choices_are_part_of_larger_ones():
    labels = labels_of([50] * 4)
    small, large = (set(stratified(labels, n, 3, "train").tolist()) for n in (20, 40))
    assert small < large


def test_global_generators_are_left_alone():
    np.random.seed(1)
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    stratified(labels_of([50] * 4), 20, 0, "train")
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.get_rng_state().equal(before[1])


def test_more_than_there_is_names_both_numbers():
    with pytest.raises(DataError, match="11 samples asked for, but there are 10"):
        stratified(labels_of([5, 5]), 11, 0, "train")
