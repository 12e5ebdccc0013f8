"""What many tests need: a home of their own, tiny cells, and methods that exist for one test."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.runtime import Runtime
from fedbench.bench.suites.suite import merge
from fedbench.config import parse
from fedbench.methods import METHODS
from fedbench.testing import TINY

torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        choices=("cpu", "cuda"),
        help="of the tests in tests/cuda; a GPU by default, or the CPU where there is none",
    )
    parser.addoption(
        "--kills",
        type=int,
        default=2,
        help="of the storm of tests/integration; twenty take five minutes (2)",
    )


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Decoded data sets, shared by all tests of a worker."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def home(tmp_path, cache, monkeypatch):
    """A folder for everything that a test writes, with the shared cache in it."""
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "cache").symlink_to(cache)
    monkeypatch.setenv("FEDBENCH_HOME", str(folder))
    return folder


@pytest.fixture
def runtime(home):
    return Runtime(home=home, data=Path("nowhere"), device="cpu", threads=1, offline=True)


@pytest.fixture
def tiny():
    """Return a tiny cell of a method, with settings laid over it."""

    def make(method, **over):
        return parse(merge(merge(TINY, {"method": method}), over))

    return make


@pytest.fixture
def compute(runtime, tiny):
    """Run a tiny cell and return its record, which has to be good."""

    def run(method, **over):
        record = run_cell(tiny(method, **over), runtime, suite="test")
        assert record.status == "ok", record.traceback
        return record

    return run


@pytest.fixture
def pets(tmp_path):
    """Write a data root with an image folder: small grey images in two classes."""
    source = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for label in ("cat", "dog"):
            place = tmp_path / "data" / "pets" / part / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = source.integers(0, 255, (20, 16), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "data"


@pytest.fixture
def registered():
    """Register a method for one test."""
    names = []

    def add(method):
        METHODS.add(method.name, method)
        names.append(method.name)
        return method

    yield add
    for name in names:
        METHODS._loaded.pop(name)
