from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from data_files import labels, pixels, put, write_cifar10, write_idx, write_picture

from fedbench.data.sources import locate
from fedbench.data.specs import CIFAR10, DATASETS, DIGITS, FOLDER, MNIST, SVHN
from fedbench.errors import DataError

BUILT_IN = [
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "folder",
    "mnist",
    "nidd_5g",
    "nsl_kdd",
    "svhn",
]


@pytest.fixture
def mnist(tmp_path):
    both = (pixels(20, 1, 28), labels(20))
    write_idx(tmp_path / "mnist" / "MNIST" / "raw", both, both)
    return tmp_path


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_spec_is_complete(name):
    spec = DATASETS.get(name)
    assert spec.name == name
    assert spec.title
    assert spec.layouts
    assert len(spec.mean) == len(spec.std) == (spec.channels or 1)
    assert all(0 < value < 1 for value in (*spec.mean, *spec.std))
    assert len(set(spec.classes)) == len(spec.classes)
    json.dumps(asdict(spec))


def test_class_counts():
    counts = {name: len(DATASETS.get(name).classes) for name in BUILT_IN}
    assert counts == {
        "cifar10": 10, "cifar100": 100, "digits": 10, "fashion_mnist": 10,
        "folder": 0, "mnist": 10, "nidd_5g": 5, "nsl_kdd": 5, "svhn": 10,
    }  # fmt: skip


def test_specs_and_sources_import_neither_torch_nor_numpy():
    code = (
        "import sys, fedbench.data.sources, fedbench.data.specs; "
        "print([name for name in ('torch', 'numpy', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "[]"


def test_found_files_have_parts_sizes_and_folder(mnist):
    found = locate(MNIST, mnist)
    assert found.found
    assert found.layout is MNIST.accepts[0]
    assert found.folder == mnist / "mnist" / "MNIST" / "raw"
    assert [file.part for file in found.files] == [
        "train images", "train labels", "test images", "test labels",
    ]  # fmt: skip
    assert [file.size for file in found.files] == [16 + 20 * 784, 8 + 20, 16 + 20 * 784, 8 + 20]
    assert found.missing == ()


def test_plain_file_comes_before_its_gzip(mnist):
    put(mnist / "mnist" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz", b"")
    names = [path.name for path in locate(MNIST, mnist).part("train images")]
    assert names == ["train-images-idx3-ubyte"]


def test_nothing_found(tmp_path):
    found = locate(SVHN, tmp_path)
    assert not found.found
    assert found.files == ()
    assert str(tmp_path) in found.help
    assert "train_32x32.mat" in found.help


def test_digits_are_always_found(tmp_path):
    found = locate(DIGITS, tmp_path / "absent")
    assert found.found
    assert found.files == ()


def test_the_fullest_incomplete_layout_is_reported(tmp_path):
    both = (pixels(10, 3, 32), labels(10))
    folder = tmp_path / "cifar10" / "cifar-10-batches-py"
    write_cifar10(folder, both, both)
    (folder / "data_batch_4").unlink()
    put(tmp_path / "cifar10" / "plain_text" / "train-00000-of-00001.parquet", b"")
    found = locate(CIFAR10, tmp_path)
    assert not found.found
    assert found.folder in (folder, tmp_path / "cifar10" / "plain_text")
    assert len(found.missing) == 1
    assert str(found.folder) in found.help


def test_cached_is_told_for_the_size_that_is_asked(mnist):
    cache = mnist / "cache"
    found = locate(MNIST, mnist, cache=cache)
    assert not found.cached
    put(found.cache_file(cache), b"")
    assert locate(MNIST, mnist, cache=cache).cached
    assert locate(MNIST, mnist, cache=cache, size=28).cached
    assert not locate(MNIST, mnist, cache=cache, size=32).cached


def test_cache_key_follows_content_name_and_version_and_no_time(mnist):
    path = mnist / "mnist" / "MNIST" / "raw" / "train-labels-idx1-ubyte"

    def key(spec=MNIST):
        return locate(spec, mnist).cache_file(mnist)

    first = key()
    os.utime(path, ns=(1, 1))
    assert key() == first
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # another file of the same size
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert len({first, key(), key(replace(MNIST, version=2))}) == 3


def test_cache_key_does_not_follow_the_root(mnist, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "moved"
    before = locate(MNIST, mnist).cache_file(mnist)
    mnist.rename(other)
    assert locate(MNIST, other).cache_file(mnist) == before


def test_folder_path_may_be_relative_or_absolute(tmp_path):
    for split in ("train", "test"):
        write_picture(tmp_path / "mine" / split / "a" / "1.png", pixels(1, 1, 9)[0, 0])
    for path in ("mine", str(tmp_path / "mine")):
        assert locate(FOLDER, tmp_path, path).found


def test_folder_ignores_hidden_and_other_files(tmp_path):
    for name in ("train/a/1.png", "train/a/deep/2.JPG", "test/a/1.png"):
        put(tmp_path / name, b"x")
    for name in ("train/a/.3.png", "train/.git/4.png", "train/a/Thumbs.db", "train/5.png"):
        put(tmp_path / name, b"x")
    found = locate(FOLDER, tmp_path, str(tmp_path))
    names = sorted(file.path.relative_to(tmp_path).as_posix() for file in found.files)
    assert names == ["test/a/1.png", "train/a/1.png", "train/a/deep/2.JPG"]


def test_absent_folder_says_so(tmp_path):
    message = locate(FOLDER, tmp_path, "typo").help
    assert f"{tmp_path / 'typo'} is not there" in message


def test_folder_without_a_test_part_is_undivided_and_an_empty_one_is_missing(tmp_path):
    put(tmp_path / "mine" / "train" / "a" / "1.png", b"x")
    found = locate(FOLDER, tmp_path, "mine")
    assert found.found
    assert found.layout.name == "train only"
    (tmp_path / "mine" / "test").mkdir()
    found = locate(FOLDER, tmp_path, "mine")
    assert len(found.missing) == 1
    assert found.missing[0].startswith("test/*/**/*")
    assert "PATH/test/<class>/" in found.help


@pytest.fixture
def locked(monkeypatch):
    """Have the system refuse to list folders of a name, which root may always do."""
    whole = os.scandir

    def lock(name):
        def scandir(path="."):
            if Path(path).name == name:
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return whole(path)

        monkeypatch.setattr(os, "scandir", scandir)

    return lock


@pytest.mark.parametrize("name", ["train", "cat", "deep"])
def test_a_folder_that_may_not_be_listed_is_named_and_never_passed_over(tmp_path, locked, name):
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            put(tmp_path / "pets" / part / label / "0.png", b"x")
    put(tmp_path / "pets" / "train" / "dog" / "deep" / "1.png", b"x")
    assert len(locate(FOLDER, tmp_path, "pets").files) == 5
    locked(name)
    line = rf"^folder: cannot look at {tmp_path}/pets.*{name}: Permission denied; let this user"
    with pytest.raises(DataError, match=line):
        locate(FOLDER, tmp_path, "pets")


def test_shards_that_may_not_be_listed_are_named(tmp_path, locked):
    put(tmp_path / "svhn" / "cropped_digits" / "train-0.parquet", b"x")
    locked("cropped_digits")
    with pytest.raises(DataError, match=r"^svhn: cannot look at .*cropped_digits: Permission"):
        locate(SVHN, tmp_path)


def test_a_file_that_may_not_be_looked_at_is_named(mnist, monkeypatch):
    whole = os.stat

    def stat(path, *arguments, **options):
        if str(path).endswith("train-images-idx3-ubyte"):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(DataError, match=r"^mnist: cannot look at .*train-images-idx3-ubyte: Perm"):
        locate(MNIST, mnist)


def test_a_path_longer_than_the_system_takes_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"^folder: cannot look at .*: File name too long; let"):
        locate(FOLDER, tmp_path, "x" * 300)
