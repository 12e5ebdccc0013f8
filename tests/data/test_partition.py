"""What every scheme promises: PT-1, PT-2, golden digests, hold-outs and the list itself."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import numpy as np
import pytest
from data_files import spread
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from fedbench.config import parse
from fedbench.data import schemes
from fedbench.data.partition import _digest, hold_out, split
from fedbench.data.schemes import SCHEMES
from fedbench.errors import DataError, PartitionError, SettingsError
from fedbench.testing import SchemeProperties
from fedbench.testing.schemes import every_image_once

NAMES = [
    "iid",
    "dirichlet",
    "dirichlet_capped",
    "dirichlet_per_client",
    "dirichlet_groups",
    "floor_per_class",
    "shards_window",
    "shards_fixed",
    "classes_exact",
    "classes_round_robin",
    "half_iid_half_class",
    "disjoint_classes",
]
LABELS = np.tile(np.arange(6), 50)


def chosen(name, clients, **values):
    """Settings of a scheme, from values of which it takes its own."""
    taken = {k: v for k, v in values.items() if k in SCHEMES.get(name).parameters}
    return spread(scheme=name, clients=clients, **taken)


@given(name=st.sampled_from(NAMES), data=st.data())
@settings(max_examples=150, deadline=None)
def test_pt_1_parts_are_disjoint_and_complete(name, data):
    clients = data.draw(st.integers(1, 6), "clients")
    counts = data.draw(st.lists(st.integers(20, 50), min_size=clients, max_size=8), "counts")
    order = np.random.default_rng(data.draw(st.integers(0, 99), "order"))
    labels = order.permutation(np.repeat(np.arange(len(counts)), counts))
    partition = chosen(
        name,
        clients,
        beta=data.draw(st.floats(0.3, 10), "beta"),
        min_size=data.draw(st.integers(0, 2), "min_size"),
        floor=data.draw(st.integers(1, 3), "floor"),
        sigma=data.draw(st.floats(0, 0.5), "sigma"),
        shards=data.draw(st.integers(1, 3), "shards"),
        classes_per_client=data.draw(st.integers(1, len(counts)), "classes_per_client"),
        iid_share=data.draw(st.floats(0, 1), "iid_share"),
    )
    every_image_once(labels, partition, data.draw(st.integers(0, 99), "seed"))


def _properties(name):
    """Return the test class of a scheme, PT-2 among its tests."""
    body = {"scheme": name, "clients": (2, 3), "__module__": __name__}
    return type(f"Test_{name}", (SchemeProperties,), body)


globals().update({kind.__name__: kind for kind in map(_properties, NAMES)})


# An accidental change of a scheme shows here. Raise the scheme's version with a new digest. NumPy
# may change a distribution's stream between minor releases (NEP 19); then all of a kind change.
GOLDEN = {
    "iid": "ac5f7c86dda5cf55",
    "dirichlet": "5bab6955d69c3895",
    "dirichlet_capped": "578718644df878fa",
    "dirichlet_per_client": "64e88e07fd796e34",
    "dirichlet_groups": "93257eb48515782b",
    "floor_per_class": "1a41342f2eaf9ba5",
    "shards_window": "a5752c3d2a31d46f",
    "shards_fixed": "27a5061932bacc6c",
    "classes_exact": "c08f906e3e41bb93",
    "classes_round_robin": "32cb621b5a1537e4",
    "half_iid_half_class": "a101e2dc9445dce7",
    "disjoint_classes": "4ab1bf1eebf12b3c",
    "interleaved": "f94991b63040ec30",
}


@pytest.mark.parametrize("name", NAMES)
def test_golden_digest(name):
    partition = spread(scheme=name, clients=4, validation=0.1)
    assert split(LABELS, partition, 1, 6).digest[:16] == GOLDEN[name]


def test_golden_digest_of_interleaved_filling():
    partition = chosen("dirichlet_per_client", 4, filling="interleaved", sigma=0.4)
    assert split(LABELS, partition, 1, 6).digest[:16] == GOLDEN["interleaved"]


def test_digest_covers_hold_outs_and_labels():
    iid = spread(scheme="iid", clients=3)
    plain = split(LABELS, iid, 0, 6)
    held = split(LABELS, iid.model_copy(update={"validation": 0.1}), 0, 6)
    relabelled = split(np.minimum(LABELS, 4), iid, 0, 6)
    np.testing.assert_array_equal(plain.train[0], relabelled.train[0])
    assert len({plain.digest, held.digest, relabelled.digest}) == 3
    assert len(plain.digest) == 64


@pytest.mark.parametrize("change", [0, 1, 2])
def test_digest_covers_each_part(change):
    parts = [(np.array([1, 2]),), (np.array([3]),), np.array([[2, 1]])]
    before = _digest(*parts)
    parts[change] = np.array([[1, 2]]) if change == 2 else (np.array([0]),)
    assert _digest(*parts) != before


def test_histogram_counts_hold_outs_and_indices_ascend():
    held = split(LABELS, spread(clients=3, validation=0.25), 0, 6)
    plain = split(LABELS, spread(clients=3), 0, 6)
    np.testing.assert_array_equal(held.histogram, plain.histogram)
    for train, out, row, whole in zip(
        held.train, held.validation, held.histogram, plain.train, strict=True
    ):
        both = np.sort(np.concatenate([train, out]))
        np.testing.assert_array_equal(both, whole)
        np.testing.assert_array_equal(np.bincount(LABELS[both], minlength=6), row)
        assert (np.diff(train) > 0).all()
        assert (np.diff(out) > 0).all()
        assert train.dtype == out.dtype == np.int64
    assert held.histogram.dtype == np.int64
    assert all(len(out) == 0 for out in plain.validation)


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_hold_out_is_stratified(counts, share, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    size = len(labels)
    train, out = hold_out(np.arange(size), labels, share, np.random.default_rng(seed))
    assert sorted([*train, *out]) == list(range(size))
    assert len(train) >= 1
    if size >= 2:
        assert len(out) == min(max(1, int(share * size + 0.5)), size - 1)
    got = np.bincount(labels[out], minlength=len(counts))
    assert (np.abs(got - np.array(counts) * len(out) / size) < 1).all()


def test_hold_out_ties_are_drawn():
    labels = np.arange(10)
    held = {
        int(hold_out(np.arange(10), labels, 0.1, np.random.default_rng(s))[1][0]) for s in range(60)
    }
    assert len(held) >= 8


def test_hold_out_of_one_client_ignores_the_others():
    """Client 0 holds classes 0 and 1 both times; the others hold something else."""
    names = {"scheme": "disjoint_classes", "validation": 0.2}
    three = split(LABELS, spread(clients=3, **names), 0, 6)
    two = split(np.minimum(LABELS, 2), spread(clients=2, **names), 0, 3)
    assert np.bincount(LABELS[three.validation[0]]).tolist() == [10, 10]
    np.testing.assert_array_equal(two.validation[0], three.validation[0])


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.array([0, 1, 2]), 2, r"labels lie in \[0, 2\]"),
        (np.array([-1, 1]), 2, r"labels lie in \[-1, 1\]"),
        (np.array([0.5, 1.0]), 2, "vector of integers"),
        (np.zeros((2, 2), int), 2, "vector of integers"),
        (np.empty(0, int), 2, "non-empty"),
    ],
)
def test_bad_labels(labels, classes, message):
    with pytest.raises(DataError, match=message):
        split(labels, spread(scheme="iid", clients=1), 0, classes)


def overlapping(labels, settings, rng, classes):
    return [np.array([0, 1]), np.array([1, 2])]


def foreign(labels, settings, rng, classes):
    return [np.array([0]), np.array([len(labels)])]


def short(labels, settings, rng, classes):
    return [np.arange(3)]


@pytest.mark.parametrize("function", ["overlapping", "foreign", "short"])
def test_a_broken_third_party_scheme_is_caught(monkeypatch, function):
    scheme = schemes.Scheme("broken", "Broken", schemes.Partition, f"{__name__}:{function}", "test")
    monkeypatch.setitem(SCHEMES._loaded, "broken", scheme)
    with pytest.raises(PartitionError, match="mend the scheme's function"):
        split(LABELS, spread(scheme="broken", clients=2), 0, 6)


class OneLarge(schemes.Partition):
    scheme: Literal["one_large"] = "one_large"
    share: float = Field(0.5, gt=0, lt=1)


def one_large(labels, settings, rng, classes):
    order = rng.permutation(len(labels))
    border = int(settings.share * len(labels))
    return [order[:border], *np.array_split(order[border:], settings.clients - 1)]


def test_a_third_partys_scheme_brings_its_own_settings(monkeypatch):
    scheme = schemes.Scheme("one_large", "One large", OneLarge, f"{__name__}:one_large", "test")
    monkeypatch.setitem(SCHEMES._loaded, "one_large", scheme)
    tree = {"method": "local", "partition": {"scheme": "one_large", "share": 0.8, "clients": 3}}
    cell = parse(tree)
    assert [len(part) for part in split(LABELS, cell.partition, 0, 6).train] == [240, 30, 30]
    assert parse(cell.model_dump(mode="json")) == cell
    ids = {
        parse({**tree, "partition": {"scheme": "one_large", "share": s}}).cell_id
        for s in (0.5, 0.6)
    }
    assert len(ids) == 2
    with pytest.raises(SettingsError, match=r"unknown key 'beta'.*'one_large' takes.*share"):
        parse({"method": "local", "partition": {"scheme": "one_large", "beta": 0.5}})


def test_min_size_zero_allows_empty_clients():
    partition = spread(scheme="dirichlet", clients=40, beta=0.01, min_size=0)
    assert split(LABELS, partition, 0, 6).histogram.sum(1).min() == 0


def test_every_scheme_is_tested():
    assert sorted(NAMES) == SCHEMES.names()


def test_listing_schemes_imports_no_torch_and_no_partitioner():
    code = (
        "import sys; from fedbench.data.schemes import SCHEMES; "
        "[SCHEMES.get(n) for n in SCHEMES.names()]; "
        "print([m for m in sys.modules if m == 'torch' or 'partitioners' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
