"""Small data sets in their original file formats, written from known pixels and labels."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import savemat

from fedbench.data.load import load
from fedbench.data.schemes import partition_settings
from fedbench.data.settings import Data


def pixels(count, channels, size, seed=0):
    shape = (count, channels, size, size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def labels(count, classes=10):
    return np.arange(count) % classes


def load_all(name, root, cache, said=None, **settings):
    progress = said.append if said is not None else None
    offline = settings.pop("offline", True)
    config = Data(name=name, **settings)
    return load(config, root=root, cache=cache, offline=offline, progress=progress)


def spread(**settings):
    """Return the settings of a partition."""
    return partition_settings(settings)


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def idx_bytes(array):
    head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_idx(folder, train, test, zipped=False):
    """Write MNIST's four files; train and test are (images (N, 1, H, W), labels)."""
    for stem, (images, targets) in (("train", train), ("t10k", test)):
        for name, array in (
            (f"{stem}-images-idx3-ubyte", images[:, 0]),
            (f"{stem}-labels-idx1-ubyte", targets),
        ):
            content = idx_bytes(array)
            if zipped:
                put(folder / f"{name}.gz", gzip.compress(content))
            else:
                put(folder / name, content)


def write_svhn(folder, train, test):
    """Write SVHN's two files; the digit 0 gets label 10."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, targets) in (("train", train), ("test", test)):
        stored = np.where(targets == 0, 10, targets).astype(np.uint8)[:, None]
        content = {"X": images.transpose(2, 3, 1, 0), "y": stored}
        savemat(folder / f"{split}_32x32.mat", content, do_compression=True)


def encode(image, form="PNG"):
    """Return an image (C, H, W) as the bytes of an image file."""
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    stream = io.BytesIO()
    picture.save(stream, form, **({"lossless": True} if form == "WEBP" else {}))
    return stream.getvalue()


def write_parquet(path, images, targets, image="img", label="label", form="PNG"):
    rows = [{"bytes": encode(item, form), "path": f"{i}.png"} for i, item in enumerate(images)]
    table = pa.table({image: pa.array(rows), label: pa.array(targets.tolist(), pa.int64())})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def python2_batch(array, targets, key="labels"):
    """Return a CIFAR batch as Python 2 pickled it: protocol 2, strings of bytes."""

    def text(value):
        if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        return b"T" + struct.pack("<i", len(value)) + value

    def whole(value):
        return b"J" + struct.pack("<i", value)

    dtype = (
        b"cnumpy\ndtype\n(" + text(b"u1") + whole(0) + whole(1) + b"tR("
        + whole(3) + text(b"|") + b"NNN" + whole(-1) + whole(-1) + whole(0) + b"tb"
    )  # fmt: skip
    shape = b"(" + b"".join(whole(side) for side in array.shape) + b"t"
    pickled_array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + whole(0) + b"t"
        + text(b"b") + b"tR(" + whole(1) + shape + dtype + b"\x89" + text(array.tobytes()) + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(whole(int(target)) for target in targets) + b"e"
    pairs = text(b"data") + pickled_array + text(key.encode()) + numbers
    return b"\x80\x02}(" + pairs + text(b"batch_label") + text(b"one of some") + b"u."


def write_cifar10(folder, train, test):
    """Write five training batches and a test batch."""
    parts = zip(np.array_split(train[0], 5), np.array_split(train[1], 5), strict=True)
    for number, (images, targets) in enumerate(parts, start=1):
        put(
            folder / f"data_batch_{number}", python2_batch(images.reshape(len(images), -1), targets)
        )
    put(folder / "test_batch", python2_batch(test[0].reshape(len(test[0]), -1), test[1]))


def flow(attack="normal", service="http", duration="0", protocol="tcp", flag="SF", **fields):
    """Return one row of NSL-KDD; further fields by position, such as ``f4="100"``."""
    values = [duration, protocol, service, flag, *["0"] * 37]
    for name, value in fields.items():
        values[int(name[1:])] = value
    return ",".join([*values, attack, "20"])


def write_flows(folder, train, test):
    put(folder / "KDDTrain+.txt", ("\n".join(train) + "\n").encode())
    put(folder / "KDDTest+.txt.gz", gzip.compress(("\n".join(test) + "\n").encode()))


def write_picture(path: Path, image, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path
