"""What crashes natively dies in a child, and the parent says over which file."""

from __future__ import annotations

import ctypes
import os
import signal
import time

import pytest
from data_files import labels, load_all, pixels, write_cifar10, write_parquet, write_svhn
from PIL import Image

from fedbench.data.apart import CrashedError, apart, at
from fedbench.data.pictures import picture_size, read_picture
from fedbench.errors import DataError, UnwritableError

HERE = os.getpid()


def silent(_):
    pass


def crash(*_, **__):
    """Read at address 0, as a decoder does that trusts a damaged file."""
    assert os.getpid() != HERE, "the crash would end the tests"
    ctypes.string_at(0)


def test_bytes_and_words_come_back():
    said = []
    assert apart(lambda say: say("half") or b"\0" * 200_000, said.append) == b"\0" * 200_000
    assert said == ["half"]
    assert apart(silent, silent) == b""


def test_it_is_another_process():
    assert int(apart(lambda _: str(os.getpid()).encode(), silent)) != os.getpid()


def test_an_error_of_ours_is_raised_as_it_was():
    def work(_):
        raise UnwritableError("the disk is full")

    with pytest.raises(UnwritableError, match=r"^the disk is full$"):
        apart(work, silent)


def test_another_error_is_one_line_with_its_traceback_as_a_note():
    with pytest.raises(DataError, match=r"^the reader failed: ZeroDivisionError: .*; mend") as got:
        apart(lambda _: b"x" * (1 // 0), silent)
    assert "test_apart.py" in got.value.__notes__[0]


def test_a_crash_names_the_file_in_hand_and_the_signal(tmp_path):
    def work(_):
        at(tmp_path / "one")
        at(tmp_path / "two")
        crash()

    with pytest.raises(CrashedError, match=r"SIGSEGV.*damaged") as caught:
        apart(work, silent)
    assert caught.value.path == tmp_path / "two"


def test_a_child_that_is_killed_says_so():
    with pytest.raises(CrashedError, match=r"SIGKILL.*where memory runs out") as caught:
        apart(lambda _: os.kill(os.getpid(), signal.SIGKILL), silent)
    assert caught.value.path is None


def test_a_child_that_leaves_without_a_result_is_an_error():
    with pytest.raises(CrashedError, match="process with 7"):
        apart(lambda _: os._exit(7), silent)


def test_ctrl_c_ends_the_child(tmp_path):
    mark = tmp_path / "pid"

    def work(say):
        mark.write_text(str(os.getpid()))
        say("ready")
        time.sleep(600)

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apart(work, interrupted)
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def fails(name, root, file):
    with pytest.raises(DataError) as caught:
        load_all(name, root, root / "cache")
    first, *others = str(caught.value).splitlines()
    assert first == f"{file}: crashes its decoder (SIGSEGV): it is damaged"
    assert any("to fetch:" in line for line in others)
    assert not list((root / "cache").rglob("*.safetensors*"))


def test_a_mat_file_that_crashes_scipy(tmp_path, monkeypatch):
    both = (pixels(20, 3, 32), labels(20))
    write_svhn(tmp_path / "svhn", both, both)
    monkeypatch.setattr("scipy.io.loadmat", crash)
    fails("svhn", tmp_path, tmp_path / "svhn" / "train_32x32.mat")


def test_a_parquet_file_that_crashes_pyarrow(tmp_path, monkeypatch):
    folder = tmp_path / "cifar10" / "plain_text"
    for split in ("train", "test"):
        write_parquet(folder / f"{split}-00000-of-00001.parquet", pixels(20, 3, 32), labels(20))
    monkeypatch.setattr("pyarrow.parquet.ParquetFile.iter_batches", crash)
    fails("cifar10", tmp_path, folder / "train-00000-of-00001.parquet")


def test_a_batch_that_crashes_the_unpickler(tmp_path, monkeypatch):
    folder = tmp_path / "cifar10" / "cifar-10-batches-py"
    both = (pixels(20, 3, 32), labels(20))
    write_cifar10(folder, both, both)
    monkeypatch.setattr("fedbench.data.readers.cifar._ArraysOnly.load", crash)
    fails("cifar10", tmp_path, folder / "data_batch_1")


def test_an_image_that_crashes_pillow(tmp_path, pets, monkeypatch):
    whole = Image.Image.convert

    def convert(self, *arguments, **options):
        return crash() if self.size == (3, 3) else whole(self, *arguments, **options)

    bad = pets / "pets" / "train" / "dog" / "5.png"
    Image.new("L", (3, 3)).save(bad)
    monkeypatch.setattr("PIL.Image.Image.convert", convert)
    with pytest.raises(DataError, match=r"train/dog/5\.png: crashes its decoder \(SIGSEGV\)"):
        load_all("folder", pets, tmp_path / "cache", path="pets")


def test_a_picture_that_crashes_pillow(tmp_path, monkeypatch):
    Image.new("RGB", (40, 30)).save(tmp_path / "street.png")
    monkeypatch.setattr("PIL.Image.Image.convert", crash)
    line = r"^picture .*street\.png crashes its decoder \(SIGSEGV\): it is damaged; give another"
    with pytest.raises(DataError, match=line):
        read_picture("street.png", tmp_path, pixels=None, channels=3)
    assert picture_size("street.png", tmp_path) == (30, 40)
    monkeypatch.setattr("PIL.Image.open", crash)
    with pytest.raises(DataError, match=line):
        picture_size("street.png", tmp_path)
