"""What every data set promises."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from fedbench.data.dataset import ImageData, Split
from fedbench.data.load import load
from fedbench.data.settings import Data
from fedbench.data.specs import DATASETS
from fedbench.files import data_root
from fedbench.testing.tiny import Properties, hold

#: How far the declared mean and deviation of pixels in [0, 1] may be from those of the images.
_NEAR = 0.02


class DatasetProperties(Properties):
    """Inherit from this and name your data set; its files have to be below ``FEDBENCH_DATA``.

    Attributes:
        dataset: Its name.
        settings: Of the data, such as ``{"path": "pets"}`` or ``{"train_size": 1000}``.
        apart: Whether no image stands in both splits: false for published sets that have some.
    """

    dataset: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {}
    apart: ClassVar[bool] = True

    @pytest.fixture
    def data(self, _plugin: None, tmp_path: Path) -> ImageData:
        """The data set, decoded anew."""
        return self._load(tmp_path)

    def test_images_are_bytes_and_labels_are_classes(self, data: ImageData) -> None:
        """(N, C, S, S) uint8 and (N,) int64 in both splits."""
        for name, part in (("train", data.train), ("test", data.test)):
            images, labels = part.images, part.labels
            hold(
                images.dtype == torch.uint8
                and images.ndim == 4
                and images.shape[1] in (1, 3)
                and images.shape[2] == images.shape[3],
                "images are (N, C, S, S) uint8, with one channel or three",
                f"those of {name} are {tuple(images.shape)} {images.dtype}",
                "let the reader return `split_of(images, labels)`",
            )
            hold(
                labels.dtype == torch.int64 and labels.shape == images.shape[:1],
                "labels are (N,) int64",
                f"those of {name} are {tuple(labels.shape)} {labels.dtype}",
                "let the reader return `split_of(images, labels)`",
            )
            seen = sorted(set(labels.tolist()))
            hold(
                seen == list(range(len(data.classes))),
                "each class has an image in both splits, and no label is of another",
                f"labels of {name} are {seen[:12]} for {len(data.classes)} classes",
                "correct the reader, or the list of classes",
            )
            hold(
                int(images.max()) > int(images.min()),
                "images show something",
                f"all pixels of {name} are {int(images.max())}",
                "scale pixels to 0..255 before they become bytes",
            )

    def test_no_image_stands_in_both_splits(self, data: ImageData) -> None:
        """A test image that a client trains on measures memory."""
        both = _names(data.train) & _names(data.test)
        hold(
            not self.apart or not both,
            "no image stands in both splits",
            f"{len(both)} of {len(data.test)} test images are training images",
            "leave them out; or set `apart = False` here if the published set has them",
        )

    def test_it_is_read_the_same_twice(self, data: ImageData, tmp_path: Path) -> None:
        """Decoded anew and from the cache."""
        found = {data.fingerprint}
        found |= {self._load(place).fingerprint for place in (tmp_path, tmp_path / "anew")}
        hold(
            len(found) == 1,
            "a data set is read the same twice",
            f"three readings have {len(found)} fingerprints",
            "sort the names of files, and draw from `np.random.default_rng(SEED)`",
        )

    def test_its_constants_are_those_of_its_pixels(self, data: ImageData) -> None:
        """Mean and deviation of the training images, which networks see normalised by them."""
        pixels = data.train.images.transpose(0, 1).flatten(1).double() / 255
        for word, given, real in (
            ("mean", data.constants.mean, pixels.mean(1).tolist()),
            ("std", data.constants.std, pixels.std(1).tolist()),
        ):
            off = max(abs(ours - theirs) for ours, theirs in zip(given, real, strict=True))
            hold(
                off < _NEAR or DATASETS.get(self.dataset).takes_path,
                f"`{word}` is that of the training images, in [0, 1]",
                f"{[round(value, 4) for value in given]} is declared, and it is "
                f"{[round(value, 4) for value in real]}",
                f"correct `{word}` of the DatasetSpec",
            )

    def _load(self, cache: Path) -> ImageData:
        settings = Data.model_validate({"name": self.dataset, **self.settings})
        return load(settings, root=data_root(), cache=cache, offline=True)


def _names(split: Split) -> set[bytes]:
    return {row.numpy().tobytes() for row in split.images.flatten(1)}
