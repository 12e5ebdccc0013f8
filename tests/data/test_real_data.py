"""The real data sets, where FEDBENCH_DATA holds them; skipped elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from data_files import load_all

from fedbench.data.sources import locate
from fedbench.data.specs import DATASETS

ROOT = Path(os.environ.get("FEDBENCH_DATA", "absent"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def real(name, cache):
    if not locate(DATASETS.get(name), ROOT).found:
        pytest.skip(f"FEDBENCH_DATA holds no {name}")
    return load_all(name, ROOT, cache)


def measured(data):
    pixels = data.train.images.float() / 255
    return pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3)).tolist()


def test_mnist(cache):
    data = real("mnist", cache)
    assert torch.bincount(data.train.labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert len(data.test) == 10_000
    mean, std = measured(data)
    assert mean == pytest.approx(data.constants.mean, abs=1e-3)
    assert std == pytest.approx(data.constants.std, abs=1e-3)


def test_cifar10_is_complete(cache):
    data = real("cifar10", cache)
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    if len(data.train) == 50_000:  # a smaller copy may be there
        assert torch.bincount(data.train.labels).tolist() == [5000] * 10
        assert measured(data)[0] == pytest.approx(data.constants.mean, abs=1e-3)
    subset = load_all("cifar10", ROOT, cache, train_size=5000, test_size=2000)
    assert len(subset.train) == 5000
    assert torch.bincount(subset.test.labels).tolist() == [200] * 10


def test_cifar100(cache):
    data = real("cifar100", cache)
    assert torch.bincount(data.test.labels).tolist() == [100] * 100
    assert len(torch.bincount(data.train.labels)) == 100


def test_nsl_kdd_has_the_published_groups(cache):
    data = real("nsl_kdd", cache)
    assert torch.bincount(data.test.labels).tolist() == [9711, 7458, 2421, 2754, 200]
    if len(data.train) == 25_192:  # the 20 % file, which the constants are measured on
        assert torch.bincount(data.train.labels).tolist() == [13449, 9234, 2289, 209, 11]
        mean, std = measured(data)
        assert mean == pytest.approx(data.constants.mean, abs=1e-4)
        assert std == pytest.approx(data.constants.std, abs=1e-4)
