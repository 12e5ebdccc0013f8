"""Every original format gives the pixels and labels that were written into it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_files import (
    labels,
    load_all,
    pixels,
    write_cifar10,
    write_idx,
    write_parquet,
    write_svhn,
)

TRAIN, TEST = 40, 20


def assert_holds(data, train, test):
    for split, (images, targets) in ((data.train, train), (data.test, test)):
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        np.testing.assert_array_equal(split.images.numpy(), images)
        np.testing.assert_array_equal(split.labels.numpy(), targets)


def grey():
    return (pixels(TRAIN, 1, 28), labels(TRAIN)), (pixels(TEST, 1, 28, seed=1), labels(TEST))


def colour(classes=10):
    return (
        (pixels(TRAIN, 3, 32), labels(TRAIN, classes)),
        (pixels(TEST, 3, 32, seed=1), labels(TEST, classes)),
    )


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mnist", "mnist/MNIST/raw"),
        ("mnist", "MNIST/raw"),
        ("fashion_mnist", "fashion_mnist/FashionMNIST/raw"),
        ("fashion_mnist", "FashionMNIST/raw"),
    ],
)
def test_idx_files_are_read(tmp_path, name, place, zipped):
    train, test = grey()
    write_idx(tmp_path / "data" / place, train, test, zipped)
    assert_holds(load_all(name, tmp_path / "data", tmp_path / "cache"), train, test)


@pytest.mark.parametrize("place", ["cifar10/cifar-10-batches-py", "cifar-10-batches-py"])
def test_cifar_batches_are_read_in_order(tmp_path, place):
    train, test = colour()
    write_cifar10(tmp_path / "data" / place, train, test)
    assert_holds(load_all("cifar10", tmp_path / "data", tmp_path / "cache"), train, test)


def test_cifar100_takes_fine_labels_from_batches(tmp_path):
    from data_files import put, python2_batch

    train, test = colour(classes=100)
    for name, (images, targets) in (("train", train), ("test", test)):
        content = python2_batch(images.reshape(len(images), -1), targets, key="fine_labels")
        put(tmp_path / "data" / "cifar100" / "cifar-100-python" / name, content)
    assert_holds(load_all("cifar100", tmp_path / "data", tmp_path / "cache"), train, test)


@pytest.mark.parametrize("place", ["svhn", "."])
def test_svhn_label_10_is_digit_0(tmp_path, place):
    train, test = colour()
    write_svhn(tmp_path / "data" / place, train, test)
    data = load_all("svhn", tmp_path / "data", tmp_path / "cache")
    assert_holds(data, train, test)
    assert data.train.labels[0] == 0


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize(
    ("name", "place", "image", "label"),
    [
        ("cifar10", "cifar10/plain_text", "img", "label"),
        ("cifar100", "cifar100/cifar100", "img", "fine_label"),
        ("svhn", "svhn/cropped_digits", "image", "label"),
        ("mnist", "mnist/mnist", "image", "label"),
        ("fashion_mnist", "fashion_mnist/fashion_mnist", "image", "label"),
    ],
)
def test_parquet_is_read(tmp_path, name, place, image, label, form):
    train, test = grey() if "mnist" in name else colour()
    for split, (images, targets) in (("train", train), ("test", test)):
        path = tmp_path / "data" / place / f"{split}-00000-of-00001.parquet"
        write_parquet(path, images, targets, image, label, form)
    assert_holds(load_all(name, tmp_path / "data", tmp_path / "cache"), train, test)


def test_shards_are_joined_in_order_across_row_batches(tmp_path):
    images, targets = pixels(600, 3, 32), labels(600)
    folder = tmp_path / "data" / "cifar10" / "plain_text"
    cut = 300  # more than one batch of rows in each shard
    write_parquet(folder / "train-00000-of-00002.parquet", images[:cut], targets[:cut])
    write_parquet(folder / "train-00001-of-00002.parquet", images[cut:], targets[cut:])
    write_parquet(folder / "test-00000-of-00001.parquet", images[:10], targets[:10])
    data = load_all("cifar10", tmp_path / "data", tmp_path / "cache")
    assert_holds(data, (images, targets), (images[:10], targets[:10]))


def test_torchvision_files_come_before_parquet(tmp_path):
    train, test = colour()
    write_cifar10(tmp_path / "cifar10" / "cifar-10-batches-py", train, test)
    for split in ("train", "test"):
        path = tmp_path / "cifar10" / "plain_text" / f"{split}-00000-of-00001.parquet"
        write_parquet(path, pixels(10, 3, 32, seed=9), labels(10))
    assert_holds(load_all("cifar10", tmp_path, tmp_path / "cache"), train, test)


def test_digits_need_no_file_and_have_a_fixed_test_set(tmp_path):
    data = load_all("digits", tmp_path / "absent", tmp_path / "cache")
    assert data.train.images.shape == (1437, 1, 16, 16)
    assert data.test.images.shape == (360, 1, 16, 16)
    assert torch.bincount(data.test.labels).min() >= 35
    assert int(data.train.images.max()) == 255
    # Pixels, enlargement and split are version 1 of the reader: raise it when this changes.
    assert data.fingerprint.startswith("66ccc6dd07b8")
    values = data.train.images.double() / 255
    assert float(values.mean()) == pytest.approx(data.constants.mean[0], abs=5e-5)
    assert float(values.std()) == pytest.approx(data.constants.std[0], abs=5e-5)


def test_digits_split_has_no_image_on_both_sides(tmp_path):
    data = load_all("digits", tmp_path, tmp_path / "cache")
    everything = torch.cat([data.train.images, data.test.images]).flatten(1)
    # scikit-learn's 1,797 digits are all different.
    assert len(torch.unique(everything, dim=0)) == 1797
