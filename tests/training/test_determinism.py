"""What torch is told before it computes on a device. Whether a GPU obeys is in tests/cuda."""

import os

import pytest
import torch

from fedbench.training.determinism import WORKSPACE, settle
from fedbench.training.pool import TrainerPool

GPU = torch.device("cuda", 3)


@pytest.fixture(autouse=True)
def chosen(monkeypatch):
    """Note which GPU becomes the current one, and put everything back."""
    gpus = []
    monkeypatch.setattr(torch.cuda, "set_device", gpus.append)
    monkeypatch.delenv(WORKSPACE, raising=False)
    flags = torch.backends.cudnn
    monkeypatch.setattr(flags, "deterministic", flags.deterministic)
    monkeypatch.setattr(flags, "benchmark", flags.benchmark)
    monkeypatch.setattr(flags, "allow_tf32", flags.allow_tf32)
    yield gpus
    os.environ.pop(WORKSPACE, None)
    settle(torch.device("cpu"))


def test_a_gpu_repeats_itself_or_says_that_it_cannot(chosen):
    settle(GPU)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ[WORKSPACE] == ":4096:8"
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert chosen == [GPU]


def test_who_promises_nothing_is_warned(chosen):
    settle(GPU, strict=False)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    TrainerPool("cuda:3", "32-true", strict=False)
    assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_a_cpu_that_comes_after_a_gpu_computes_as_ever(chosen):
    settle(GPU)
    settle(torch.device("cpu"))
    assert not torch.are_deterministic_algorithms_enabled()
    assert chosen == [GPU]


@pytest.mark.parametrize(("given", "kept"), [(":16:8", ":16:8"), (":0:0", ":4096:8")])
def test_a_workspace_that_repeats_itself_is_kept(monkeypatch, given, kept):
    monkeypatch.setenv(WORKSPACE, given)
    settle(GPU)
    assert os.environ[WORKSPACE] == kept
