"""Who computes: executors, devices, and how many cells at once."""

import os

import pytest

from fedbench.bench.cells.gpus import Seen
from fedbench.bench.estimate import Estimate
from fedbench.errors import SettingsError
from fedbench.session import crew as module
from fedbench.session.crew import crew_of, devices_of
from fedbench.session.means import runtime


def test_a_gpu_each_or_the_device_that_was_named(monkeypatch):
    assert devices_of("cpu") == ["cpu"]
    with pytest.raises(SettingsError, match="no device 'cuda:9'"):
        devices_of("cuda:9")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert devices_of("auto") == devices_of("cuda") == ["cuda:0", "cuda:1"]
    assert devices_of("cuda:1") == ["cuda:1"]


@pytest.mark.parametrize(
    ("asked", "estimate", "workers"),
    [
        (0, Estimate({"a": 1.0}, memory=2**30), 8),
        (0, Estimate({"a": 1.0}, memory=30 * 2**30), 4),
        (0, Estimate({"a": 1.0, "b": None}, memory=2**30), 8),
        (0, Estimate({"a": 1.0}, memory=2**30, scaled={"a": "other networks"}), 8),
        (3, Estimate({"a": 1.0}, memory=2**30), 3),
    ],
)
def test_local_workers_share_gpus_by_memory_unless_their_number_is_given(
    monkeypatch, asked, estimate, workers
):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(module, "look", lambda devices: [Seen("a GPU", 80 * 2**30)] * len(devices))
    monkeypatch.setattr(module, "available_cores", lambda: 16)
    crew = crew_of("local", None, "cuda", asked).shared(estimate)
    assert (crew.size, crew.devices, crew.gpu) == (workers, ("cuda:0", "cuda:1"), "a GPU")


def test_other_crews_stay_as_they_are():
    for crew in (crew_of("local", None, "cpu", 0), crew_of("ray", None, "cuda", 0)):
        assert crew.shared(Estimate({"a": 1.0}, memory=2**30)) is crew
        assert crew.gpu is None


def test_who_computes():
    crew = crew_of("local", None, "cpu", 0)
    assert (crew.size, crew.device) == (len(os.sched_getaffinity(0)), "cpu")
    ray = crew_of("ray", "auto", "auto", 0)
    assert (ray.workers, ray.devices, ray.device) == (0, (), None)
    with pytest.raises(SettingsError, match="did you mean 'ray'"):
        crew_of("rai", None, "cpu", 0)
    with pytest.raises(SettingsError, match="workers = -1"):
        crew_of("local", None, "cpu", -1)
    with pytest.raises(SettingsError, match="threads = -1"):
        runtime("cpu", threads=-1)
    with pytest.raises(SettingsError, match="give --executor ray"):
        crew_of("local", "host:1", "cpu", 0)
