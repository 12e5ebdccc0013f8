"""A missing, truncated or foreign file gives an error that names it and says what helps."""

from __future__ import annotations

import gzip
import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import (
    encode,
    labels,
    load_all,
    pixels,
    put,
    python2_batch,
    write_cifar10,
    write_idx,
    write_parquet,
    write_svhn,
)
from scipy.io import savemat

from fedbench.errors import DataError


def fails(name, root, file, *words):
    """Load, and check that the error names the file, the layouts, the command and the words."""
    with pytest.raises(DataError) as caught:
        load_all(name, root, root / "cache")
    message = str(caught.value)
    for word in (str(file), "accepted:", "to fetch:", *words):
        assert word in message
    assert not list((root / "cache").rglob("*.safetensors*")), "a cache file was left behind"
    return message


@pytest.fixture
def mnist(tmp_path):
    folder = tmp_path / "mnist" / "MNIST" / "raw"
    both = (pixels(20, 1, 28), labels(20))
    write_idx(folder, both, both)
    return folder


@pytest.fixture
def cifar10(tmp_path):
    folder = tmp_path / "cifar10" / "cifar-10-batches-py"
    both = (pixels(20, 3, 32), labels(20))
    write_cifar10(folder, both, both)
    return folder


@pytest.fixture
def svhn(tmp_path):
    both = (pixels(20, 3, 32), labels(20))
    write_svhn(tmp_path / "svhn", both, both)
    return tmp_path / "svhn"


@pytest.fixture
def parquet(tmp_path):
    folder = tmp_path / "cifar10" / "plain_text"
    for split in ("train", "test"):
        write_parquet(folder / f"{split}-00000-of-00001.parquet", pixels(20, 3, 32), labels(20))
    return folder


def truncate(path, share=0.6):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def test_nothing_there_names_root_layouts_and_command(tmp_path):
    message = fails("cifar10", tmp_path, tmp_path, "cifar-10-batches-py", "plain_text")
    assert "fedbench data --fetch cifar10" in message
    assert "FEDBENCH_DATA" in message


def test_one_missing_file_is_named(tmp_path, mnist):
    (mnist / "t10k-labels-idx1-ubyte").unlink()
    fails("mnist", tmp_path, mnist, "t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.99])
def test_truncated_idx(tmp_path, mnist, share):
    fails("mnist", tmp_path, truncate(mnist / "train-images-idx3-ubyte", share))


def test_truncated_gzip(tmp_path, mnist):
    plain = mnist / "train-images-idx3-ubyte"
    zipped = put(mnist / f"{plain.name}.gz", gzip.compress(plain.read_bytes()))
    plain.unlink()
    fails("mnist", tmp_path, truncate(zipped), "cannot be read")


def test_idx_longer_than_its_head_says(tmp_path, mnist):
    path = mnist / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes() + b"\0")
    fails("mnist", tmp_path, path, "bytes where its head")


def test_foreign_idx_kind(tmp_path, mnist):
    path = mnist / "train-labels-idx1-ubyte"
    path.write_bytes((mnist / "train-images-idx3-ubyte").read_bytes())
    fails("mnist", tmp_path, path, "not an idx file of bytes in 1 dimensions")


def test_images_and_labels_of_different_number(tmp_path, mnist):
    path = mnist / "train-labels-idx1-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:4] + (19).to_bytes(4, "big") + content[8:-1])
    fails("mnist", tmp_path, path, "20 images and 19 labels")


def test_labels_out_of_range(tmp_path, mnist):
    path = mnist / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")
    fails("mnist", tmp_path, path, "labels from 0 to 10, outside [0, 9]")


def test_truncated_cifar_batch(tmp_path, cifar10):
    fails("cifar10", tmp_path, truncate(cifar10 / "data_batch_3"))


def test_foreign_cifar_batch(tmp_path, cifar10):
    fails("cifar10", tmp_path, put(cifar10 / "test_batch", b"<html>not found</html>"))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps([1, 2]),
        pickle.dumps({"data": [1], "labels": [1]}),
        pickle.dumps({}),
        python2_batch(np.zeros((3, 3072), np.uint8), [0, 1]),
        python2_batch(np.zeros((2, 100), np.uint8), [0, 1]),
        python2_batch(np.zeros((2, 3072), np.uint8), [0, 10]),
    ],
)
def test_cifar_batch_of_another_form(tmp_path, cifar10, content):
    fails("cifar10", tmp_path, put(cifar10 / "data_batch_1", content))


def test_batch_pickled_again_by_numpy_2_is_read(tmp_path, cifar10):
    batch = {"data": pixels(4, 3, 32, seed=5).reshape(4, -1), "labels": [9, 8, 7, 6]}
    put(cifar10 / "data_batch_1", pickle.dumps(batch, protocol=4))
    data = load_all("cifar10", tmp_path, tmp_path / "cache")
    np.testing.assert_array_equal(data.train.images[:4].numpy(), pixels(4, 3, 32, seed=5))


@pytest.mark.parametrize("kind", [np.int64, np.float32, object])
def test_batch_with_an_array_of_another_type_is_refused(tmp_path, cifar10, kind):
    batch = {"data": np.zeros((2, 3072), kind), "labels": [0, 1]}
    path = put(cifar10 / "data_batch_1", pickle.dumps(batch, protocol=4))
    fails("cifar10", tmp_path, path, "not of bytes")


class Malicious:
    def __init__(self, action, *arguments):
        self.action, self.arguments = action, arguments

    def __reduce__(self):
        return self.action, self.arguments


@pytest.mark.parametrize(
    "make",
    [
        lambda mark: Malicious(os.system, f"touch {mark}"),
        lambda mark: Malicious(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: Malicious(open, str(mark), "w"),
        lambda mark: {"data": np.array([Malicious(open, str(mark), "w")], dtype=object)},
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_malicious_pickle_is_refused_and_does_nothing(tmp_path, cifar10, make, protocol):
    mark = tmp_path / "mark"
    content = pickle.dumps(make(mark), protocol=protocol)
    fails("cifar10", tmp_path, put(cifar10 / "data_batch_1", content))
    assert not mark.exists()
    pickle.loads(content)
    assert mark.exists(), "the pickle of this test does no harm, so the test shows nothing"


def test_truncated_mat(tmp_path, svhn):
    fails("svhn", tmp_path, truncate(svhn / "train_32x32.mat"))


def test_foreign_mat(tmp_path, svhn):
    fails("svhn", tmp_path, put(svhn / "test_32x32.mat", b"no" * 500))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, "no variable"),
        ({"X": np.zeros((2, 2)), "y": np.ones(2, np.uint8)}, "shape (2, 2)"),
        ({"X": np.zeros((32, 32, 3, 2)), "y": np.ones(2, np.uint8)}, "float64"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([0, 1], np.uint8)}, "label 0"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([3, 11], np.uint8)}, "3 to 11"),
    ],
)
def test_mat_of_another_form(tmp_path, svhn, content, word):
    savemat(svhn / "train_32x32.mat", content)
    fails("svhn", tmp_path, svhn / "train_32x32.mat", word)


def test_truncated_parquet(tmp_path, parquet):
    fails("cifar10", tmp_path, truncate(parquet / "train-00000-of-00001.parquet"))


def test_parquet_damaged_in_the_middle(tmp_path, parquet):
    path = parquet / "train-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    content[1000:3000] = bytes(2000)
    path.write_bytes(content)
    fails("cifar10", tmp_path, path)


def test_missing_shard(tmp_path, parquet):
    path = parquet / "train-00000-of-00001.parquet"
    path.rename(parquet / "train-00001-of-00002.parquet")
    fails("cifar10", tmp_path, parquet / "train-00001-of-00002.parquet", "one of 2 shards")


def test_parquet_of_another_data_set(tmp_path, parquet):
    parquet.parent.rename(tmp_path / "cifar100")
    (tmp_path / "cifar100" / "plain_text").rename(tmp_path / "cifar100" / "cifar100")
    train = tmp_path / "cifar100" / "cifar100" / "train-00000-of-00001.parquet"
    fails("cifar100", tmp_path, train, "['img', 'label']", "fine_label")


def test_parquet_images_of_another_size(tmp_path, parquet):
    path = write_parquet(parquet / "train-00000-of-00001.parquet", pixels(4, 3, 28), labels(4))
    fails("cifar10", tmp_path, path, "28x28 pixels in row 0")


@pytest.mark.parametrize("blob", [None, b"", b"no image", encode(pixels(1, 3, 32)[0])[:900]])
def test_parquet_with_a_damaged_image_names_the_row(tmp_path, parquet, blob):
    rows = [{"bytes": encode(image), "path": ""} for image in pixels(3, 3, 32)]
    rows[2]["bytes"] = blob
    path = parquet / "test-00000-of-00001.parquet"
    pq.write_table(pa.table({"img": pa.array(rows), "label": pa.array([0, 1, 2])}), path)
    fails("cifar10", tmp_path, path, "row 2")


@pytest.mark.parametrize("targets", [[0, 1, None], [0, 1, 10], [0, -1, 1]])
def test_parquet_with_bad_labels(tmp_path, parquet, targets):
    rows = [{"bytes": encode(image), "path": ""} for image in pixels(3, 3, 32)]
    path = parquet / "test-00000-of-00001.parquet"
    pq.write_table(pa.table({"img": pa.array(rows), "label": pa.array(targets)}), path)
    fails("cifar10", tmp_path, path, "labels")
