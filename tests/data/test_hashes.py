"""Hashes of data files follow the content, and are worked out once."""

from __future__ import annotations

import hashlib
import os

import pytest

from fedbench.data import hashes
from fedbench.data.hashes import file_hashes
from fedbench.errors import DataError

LONG_AGO = (10**9, 10**9)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two old files of one size, and a home that exists; this process has hashed none."""
    monkeypatch.setattr(hashes, "_known", {})
    (tmp_path / "home").mkdir()
    for name, content in (("a", b"one"), ("b", b"two")):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, LONG_AGO)
    return tmp_path


@pytest.fixture
def store(data):
    return data / "home" / "cache" / "data" / "x.hashes"


def count_reads(monkeypatch):
    read = []
    real = hashes._hash
    monkeypatch.setattr(hashes, "_hash", lambda path: read.append(path.name) or real(path))
    return read


def test_each_file_is_read_once_even_by_another_process(data, store, monkeypatch):
    store.parent.parent.mkdir()
    read = count_reads(monkeypatch)
    paths = [data / "a", data / "b"]
    assert file_hashes(paths, store) == [sha(b"one"), sha(b"two")]
    hashes._known.clear()  # as in a new process
    assert file_hashes(paths, store) == [sha(b"one"), sha(b"two")]
    assert read == ["a", "b"]


def test_files_that_change_places_are_noticed(data, store):
    paths = [data / "a", data / "b"]
    file_hashes(paths, store)
    paths[0].rename(data / "c")
    paths[1].rename(paths[0])
    (data / "c").rename(paths[1])
    assert file_hashes(paths, store) == [sha(b"two"), sha(b"one")]


def test_a_file_that_was_just_written_is_hashed_again(data, store):
    path = data / "a"
    path.write_bytes(b"now")
    about = path.stat()
    assert file_hashes([path], store) == [sha(b"now")]
    path.write_bytes(b"new")  # within the grain of the file system's clock
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert file_hashes([path], store) == [sha(b"new")]


@pytest.mark.parametrize("content", ["", "no digest\n{}", "\0" * 100])
def test_a_damaged_store_knows_nothing(data, store, content):
    store.parent.mkdir(parents=True)
    store.write_text(content)
    assert file_hashes([data / "a"], store) == [sha(b"one")]


def test_looking_makes_no_folders(data, tmp_path):
    file_hashes([data / "a"], tmp_path / "absent" / "cache" / "data" / "x.hashes")
    assert not (tmp_path / "absent").exists()


def test_a_file_that_is_gone_is_named(data, store):
    with pytest.raises(DataError, match="gone"):
        file_hashes([data / "gone"], store)
