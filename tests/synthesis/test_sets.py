"""Shared sets: who contributes how many, and what a model is trained on."""

import torch

from fedbench.synthesis.sets import class_shares


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
