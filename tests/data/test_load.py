"""Loading end to end: cache, subsets, sizes, fingerprints, downloads, faulty plug-ins."""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data_files import labels, load_all, pixels, put, write_idx
from PIL import Image

from fedbench.data import cache as store
from fedbench.data.normalisation import Normalisation
from fedbench.data.readers import Decoded, idx, split_of
from fedbench.data.resize import resize
from fedbench.data.specs import DATASETS, MNIST, Layout
from fedbench.errors import DataError, StoreError


@pytest.fixture
def mnist(tmp_path):
    folder = tmp_path / "data" / "mnist" / "MNIST" / "raw"
    write_idx(folder, (pixels(200, 1, 28), labels(200)), (pixels(100, 1, 28, seed=1), labels(100)))
    return tmp_path / "data"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def cached_files(cache):
    return sorted((cache / "data").glob("mnist-*"))


def forbid_reading(monkeypatch):
    def read(*_):
        raise AssertionError("decoded although the cache holds it")

    monkeypatch.setattr(idx, "read", read)


def test_second_load_is_mapped_from_the_cache(mnist, cache, monkeypatch):
    first = load_all("mnist", mnist, cache)
    forbid_reading(monkeypatch)
    said = []
    second = load_all("mnist", mnist, cache, said)
    assert second.train.images.equal(first.train.images)
    assert second.test.labels.equal(first.test.labels)
    assert second.classes == first.classes == MNIST.classes
    assert (second.constants, second.augment) == (Normalisation(MNIST.mean, MNIST.std), "none")
    assert second.fingerprint == first.fingerprint
    assert not any("decoding" in line for line in said)


def test_writing_into_loaded_images_changes_no_later_load(mnist, cache):
    first = load_all("mnist", mnist, cache)
    first.train.images.zero_()
    assert load_all("mnist", mnist, cache).train.images.any()


def test_a_smaller_number_than_published_is_said(mnist, cache):
    for _ in range(2):  # fresh and from the cache
        said = []
        load_all("mnist", mnist, cache, said)
        assert "mnist: 200 training images in the files, 60,000 published" in said


def test_subsets_are_stratified_and_seeded(mnist, cache):
    half = load_all("mnist", mnist, cache, train_size=50, test_size=20)
    assert torch.bincount(half.train.labels).tolist() == [5] * 10
    assert torch.bincount(half.test.labels).tolist() == [2] * 10
    other = load_all("mnist", mnist, cache, train_size=50, test_size=20, subset_seed=1)
    assert not half.train.images.equal(other.train.images)
    again = load_all("mnist", mnist, cache, train_size=50, test_size=20)
    assert half.train.images.equal(again.train.images)


def test_subset_larger_than_the_data_names_setting_and_bound(mnist, cache):
    with pytest.raises(DataError, match=r"data.train_size is 201, but mnist has 200"):
        load_all("mnist", mnist, cache, train_size=201)


def test_fingerprint_follows_what_is_loaded(mnist, cache):
    asked = [
        {},
        {"train_size": 50},
        {"test_size": 50},
        {"train_size": 50, "subset_seed": 1},
        {"image_size": 32},
        {"image_size": 32, "train_size": 50},
    ]
    prints = [load_all("mnist", mnist, cache, **settings).fingerprint for settings in asked]
    assert len(set(prints)) == len(asked)
    whole = load_all("mnist", mnist, cache, train_size=200, subset_seed=7, image_size=28)
    assert whole.fingerprint == prints[0]


def test_fingerprint_follows_one_pixel(mnist, cache):
    before = load_all("mnist", mnist, cache).fingerprint
    path = mnist / "mnist" / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert load_all("mnist", mnist, cache).fingerprint != before


def test_image_size_is_cached_apart(mnist, cache, monkeypatch):
    small = load_all("mnist", mnist, cache, image_size=14)
    assert small.train.images.shape == (200, 1, 14, 14)
    expected = resize(pixels(200, 1, 28), 14)
    np.testing.assert_array_equal(small.train.images.numpy(), expected)
    forbid_reading(monkeypatch)
    assert load_all("mnist", mnist, cache, image_size=14).fingerprint == small.fingerprint


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_antialiases_and_keeps_constants(channels):
    flat = np.full((2, channels, 28, 28), 77, np.uint8)
    assert (resize(flat, 9) == 77).all()
    stripes = np.zeros((1, channels, 32, 32), np.uint8)
    stripes[..., ::2] = 255
    inner = resize(stripes, 8)[..., 2:-2]
    assert np.abs(inner.astype(int) - 127).max() < 3
    image = pixels(1, channels, 10)
    picture = Image.fromarray(image[0, channels - 1]).resize((20, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize(image, 20)[0, channels - 1], np.asarray(picture))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"garbage" * 100,
        lambda content: content[:-40_000] + bytes([content[-40_000] ^ 1]) + content[-39_999:],
        lambda content: content.replace(b'"digest"', b'"disgust'[:-1] + b'"'),
        lambda content: content.replace(b'\\"3\\"', b'\\"8\\"'),  # a class's name
    ],
)
def test_damaged_cache_is_moved_aside_and_built_again(mnist, cache, damage):
    before = load_all("mnist", mnist, cache)
    (path,) = cached_files(cache)
    content = path.read_bytes()
    path.write_bytes(damage(content))
    os.utime(path, ns=(1, 1))
    said = []
    after = load_all("mnist", mnist, cache, said)
    assert after.fingerprint == before.fingerprint
    assert after.train.images.equal(torch.from_numpy(pixels(200, 1, 28)))
    aside = path.with_name(f"{path.name}.damaged-0")
    assert aside.read_bytes() == damage(content)
    assert any(aside.name in line for line in said)


def test_interrupted_build_leaves_no_file(mnist, cache, monkeypatch):
    def save(tensors, part, metadata):
        part.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "save_file", save)
        with pytest.raises(KeyboardInterrupt):
            load_all("mnist", mnist, cache)
    assert [path.suffix for path in (cache / "data").iterdir()] == [".lock"]
    assert len(load_all("mnist", mnist, cache).train) == 200


def test_cache_that_cannot_be_written_names_the_fix(mnist, tmp_path):
    put(tmp_path / "blocked", b"a file where the folder should be")
    with pytest.raises(StoreError, match="FEDBENCH_HOME"):
        load_all("mnist", mnist, tmp_path / "blocked")


def test_data_root_stays_as_it_was(mnist, cache):
    before = sorted(mnist.rglob("*"))
    load_all("mnist", mnist, cache, image_size=16)
    load_all("digits", mnist, cache)
    assert sorted(mnist.rglob("*")) == before


def _load_in_process(root, cache, queue):
    said = []
    data = load_all("mnist", root, cache, said)
    queue.put((data.fingerprint, any("decoding" in line for line in said)))


def test_processes_at_once_decode_once(mnist, cache):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [
        context.Process(target=_load_in_process, args=(mnist, cache, queue)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert len({fingerprint for fingerprint, _ in results}) == 1
    assert sum(decoded for _, decoded in results) == 1


def fake_torchvision(monkeypatch, kind):
    datasets = SimpleNamespace(MNIST=kind, SVHN=kind)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=datasets))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


def test_absent_data_is_downloaded_once(tmp_path, cache, monkeypatch):
    calls = []

    def mnist_class(root, download):
        calls.append((root, download))
        both = (pixels(20, 1, 28), labels(20))
        write_idx(tmp_path / "mnist" / "MNIST" / "raw", both, both, zipped=True)

    fake_torchvision(monkeypatch, mnist_class)
    said = []
    assert len(load_all("mnist", tmp_path, cache, said, offline=False).train) == 20
    load_all("mnist", tmp_path, cache, offline=False)
    assert calls == [(str(tmp_path / "mnist"), True)]
    assert any("downloading" in line for line in said)


def test_svhn_downloads_both_splits(tmp_path, cache, monkeypatch):
    splits = []
    fake_torchvision(monkeypatch, lambda root, split, download: splits.append((split, download)))
    with pytest.raises(DataError, match="svhn"):
        load_all("svhn", tmp_path, cache, offline=False)
    assert splits == [("train", True), ("test", True)]


@pytest.mark.parametrize("reason", [OSError("no route to host"), RuntimeError("bad checksum")])
def test_failed_download_names_layouts_and_command(tmp_path, cache, monkeypatch, reason):
    def mnist_class(root, download):
        raise reason

    fake_torchvision(monkeypatch, mnist_class)
    with pytest.raises(DataError) as caught:
        load_all("mnist", tmp_path, cache, offline=False)
    for words in (str(reason), "train-images-idx3-ubyte", "data --fetch mnist", "network"):
        assert words in str(caught.value)


def test_nothing_is_downloaded_offline_or_over_what_is_there(tmp_path, cache, monkeypatch):
    def mnist_class(root, download):
        raise AssertionError("a download was tried")

    fake_torchvision(monkeypatch, mnist_class)
    with pytest.raises(DataError, match="no file of it is below"):
        load_all("mnist", tmp_path, cache, offline=True)
    put(tmp_path / "mnist" / "train-images-idx3-ubyte", b"")
    with pytest.raises(DataError, match="lacks train-labels-idx1-ubyte"):
        load_all("mnist", tmp_path, cache, offline=False)


def plug_in(monkeypatch, train, test):
    """Register a third party's data set whose reader gives these splits."""
    module = SimpleNamespace(read=lambda sources, size, progress: Decoded(train, test, ("a", "b")))
    monkeypatch.setitem(sys.modules, "third_party", module)
    spec = replace(
        MNIST,
        name="third",
        classes=(),
        train_size=None,
        test_size=None,
        torchvision="",
        accepts=(Layout("own", "own/*.bin", "third_party:read", ("own",), (("all", ("*.bin",)),)),),
    )
    monkeypatch.setitem(DATASETS._loaded, "third", spec)


def test_third_party_spec_is_enough(tmp_path, cache, monkeypatch):
    split = split_of(pixels(6, 3, 10), labels(6, 2))
    plug_in(monkeypatch, split, split)
    put(tmp_path / "own" / "x.bin", b"x")
    data = load_all("third", tmp_path, cache, image_size=20)
    assert data.classes == ("a", "b")
    assert data.train.images.shape == (6, 3, 20, 20)
    assert data.constants.mean == MNIST.mean * 3


@pytest.mark.parametrize(
    ("images", "targets"),
    [
        (pixels(6, 1, 10), [0, 1, 2, 0, 1, 0]),
        (pixels(6, 1, 10), [0, 1, -1, 0, 1, 0]),
        (pixels(6, 1, 10), [0, 1]),
        (pixels(6, 2, 10), [0] * 6),
        (pixels(6, 1, 10)[..., :9], [0] * 6),
        (pixels(0, 1, 10), []),
    ],
)
@pytest.mark.parametrize("side", ["training", "test"])
def test_faulty_plug_in_is_caught_before_it_is_cached(
    tmp_path, cache, monkeypatch, images, targets, side
):
    good, bad = split_of(pixels(6, 1, 10), labels(6, 2)), split_of(images, np.array(targets, int))
    plug_in(monkeypatch, *((bad, good) if side == "training" else (good, bad)))
    put(tmp_path / "own" / "x.bin", b"x")
    with pytest.raises(DataError, match=f"the reader gave {side}"):
        load_all("third", tmp_path, cache)
    assert not list((cache / "data").glob("third-*"))
