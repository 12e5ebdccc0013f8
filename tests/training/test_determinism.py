"""What torch is told before it computes on a device. Whether a card obeys is in tests/cuda."""

import os

import pytest
import torch

from fedbench.training.determinism import WORKSPACE, settle
from fedbench.training.pool import TrainerPool

CARD = torch.device("cuda", 3)


@pytest.fixture(autouse=True)
def chosen(monkeypatch):
    """Note which card becomes the current one, and put everything back."""
    cards = []
    monkeypatch.setattr(torch.cuda, "set_device", cards.append)
    monkeypatch.delenv(WORKSPACE, raising=False)
    flags = torch.backends.cudnn
    monkeypatch.setattr(flags, "deterministic", flags.deterministic)
    monkeypatch.setattr(flags, "benchmark", flags.benchmark)
    monkeypatch.setattr(flags, "allow_tf32", flags.allow_tf32)
    yield cards
    os.environ.pop(WORKSPACE, None)
    settle(torch.device("cpu"))


def test_a_card_repeats_itself_or_says_that_it_cannot(chosen):
    settle(CARD)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ[WORKSPACE] == ":4096:8"
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert chosen == [CARD]


def test_who_promises_nothing_is_warned(chosen):
    settle(CARD, strict=False)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    TrainerPool("cuda:3", "32-true", strict=False)
    assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_a_cpu_that_comes_after_a_card_computes_as_ever(chosen):
    settle(CARD)
    settle(torch.device("cpu"))
    assert not torch.are_deterministic_algorithms_enabled()
    assert chosen == [CARD]


@pytest.mark.parametrize(("given", "kept"), [(":16:8", ":16:8"), (":0:0", ":4096:8")])
def test_a_workspace_that_repeats_itself_is_kept(monkeypatch, given, kept):
    monkeypatch.setenv(WORKSPACE, given)
    settle(CARD)
    assert os.environ[WORKSPACE] == kept
