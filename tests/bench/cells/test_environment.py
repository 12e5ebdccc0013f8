"""Where a cell runs: a device is named once, with its number."""

from dataclasses import replace

import pytest
import torch

import fedbench.bench.cells.cell as module
from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.environment import environment, resolve_device
from fedbench.errors import SettingsError


@pytest.fixture
def gpus(monkeypatch):
    """Let torch see some GPUs, of which one is the current one."""

    def see(count, current=0):
        monkeypatch.setattr("torch.cuda.device_count", lambda: count)
        monkeypatch.setattr("torch.cuda.current_device", lambda: current)
        monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"the GPU {device}")
        monkeypatch.setattr("torch.cuda.set_device", lambda device: None)

    return see


@pytest.mark.parametrize(
    ("asked", "count", "current", "expected"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 1, 0, "cuda:0"),
        ("auto", 4, 2, "cuda:2"),
        ("cuda", 1, 0, "cuda:0"),
        ("cuda", 4, 3, "cuda:3"),
        ("cuda:1", 4, 3, "cuda:1"),
        ("cuda:01", 4, 3, "cuda:1"),
        ("cpu", 4, 3, "cpu"),
    ],
)
def test_a_gpu_always_has_its_number(gpus, asked, count, current, expected):
    gpus(count, current)
    found = resolve_device(asked)
    assert found == expected
    assert torch.device(found).type == "cpu" or torch.device(found).index is not None


@pytest.mark.parametrize("asked", ["cuda:2", "cuda:", "cuda:-1", "cuda:x", "cuda:²", "gpu", ""])
def test_a_device_that_is_none_is_an_error(gpus, asked):
    gpus(2)
    with pytest.raises(SettingsError, match="torch sees 2 CUDA devices"):
        resolve_device(asked)


def test_without_a_gpu_asking_for_one_is_an_error(gpus):
    gpus(0)
    for asked in ("cuda", "cuda:0"):
        with pytest.raises(SettingsError, match="torch sees 0 CUDA devices"):
            resolve_device(asked)


@pytest.mark.parametrize("asked", ["auto", "cuda", "cuda:1"])
def test_whatever_computes_a_cell_gets_the_resolved_device(gpus, asked, tiny, runtime, monkeypatch):
    """`run`, `run --record`, local workers and Ray's all compute by `run_cell`."""
    gpus(2, current=1)
    seen = []

    class StopError(Exception):
        pass

    def attempt(cell, runtime, device, threads, labels):
        seen.append((device, labels["environment"]))
        raise StopError

    monkeypatch.setattr(module, "_attempt", attempt)
    with pytest.raises(StopError):
        run_cell(tiny("local"), replace(runtime, device=asked), suite="test")
    ((device, where),) = seen
    assert device == "cuda:1"
    assert (where["device"], where["device_name"]) == ("cuda", "the GPU cuda:1")


def test_a_record_tells_the_type_of_device_only(gpus):
    gpus(2)
    assert environment("cuda:1", 1)["device"] == "cuda"
    assert environment("cpu", 1)["device"] == "cpu"
