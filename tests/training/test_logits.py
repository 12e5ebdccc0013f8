"""Bounds on logits: SI-5."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedbench.training.logits import LogitBound


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(scale=st.floats(1e-3, 1e3), length=st.floats(0.5, 5))
def test_si_5_a_jump_sets_the_length_beyond_the_threshold(scale, length):
    logits = draw(20, 10) * scale
    bounded, before = LogitBound(length)(logits), logits.norm(dim=1)
    expected = torch.where(before > 1 / length, torch.tensor(length), before)
    assert torch.allclose(bounded.norm(dim=1), expected, rtol=1e-4)
    assert torch.equal(bounded.argmax(1), logits.argmax(1))


def test_si_5_at_the_sources_factor_the_threshold_is_two_fifths():
    rows = torch.tensor([[0.3, 0.2], [0.4, 0.3]])
    assert torch.allclose(LogitBound(2.5)(rows), torch.tensor([[0.3, 0.2], [2.0, 1.5]]))
    assert torch.equal(LogitBound(2.5, "clip")(rows), rows)
    assert torch.allclose(LogitBound(2.5, "clip")(rows * 100).norm(dim=1), torch.tensor(2.5))


@pytest.mark.parametrize("rule", ["jump", "clip"])
@pytest.mark.parametrize("length", [0.5, 2.5, 5.0])
def test_a_bound_has_no_trouble_with_zeros(length, rule):
    rows = torch.zeros(2, 3, requires_grad=True)
    LogitBound(length, rule)(rows).sum().backward()
    assert torch.isfinite(rows.grad).all()
