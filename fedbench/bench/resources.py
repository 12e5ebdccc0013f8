"""Public resources by name: images that belong to no client, in the form that a cell needs.

``dataset:NAME`` is another data set's training images, ``dataset:NAME@N`` N of them drawn at
random; ``unused@N`` are N training images of the cell's own data set that its ``train_size`` leaves
to nobody; ``picture:NAME`` is one picture (see ``fedbench.data.pictures``), ``picture:NAME@P`` the
same scaled down to at most P pixels. Draws follow the cell's seed, and a smaller one is the
beginning of a larger one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedbench.bench.datasets import load_data
from fedbench.bench.runtime import Runtime
from fedbench.config import Cell
from fedbench.data.dataset import Split
from fedbench.data.load import left_over
from fedbench.data.pictures import read_picture
from fedbench.data.settings import Data
from fedbench.errors import DataError, PrivacyError
from fedbench.federation.context import ImageShape
from fedbench.federation.resources import Resource, parse_name
from fedbench.seeding import generator


def load_resource(name: str, cell: Cell, runtime: Runtime, shape: ImageShape) -> Resource:
    """Load a resource in a cell's image size and number of channels.

    Args:
        name: See the module's description.
        cell: Whose seed draws.
        runtime: Where data sets and pictures are.
        shape: What the cell's networks take.

    Raises:
        DataError: There is no such thing, or there are fewer images than were asked for.
        PrivacyError: The data set is the clients' own.
    """
    kind, which, count = parse_name(name)
    if kind == "picture":
        picture = read_picture(which, runtime.data, pixels=count, channels=shape.channels)
        return Resource(name, {"picture": picture}, picture.shape[1] * picture.shape[2])
    if kind == "dataset":
        if which == cell.data.name:
            raise PrivacyError(
                f"resource {name!r} is the clients' own data set; a public one has to be another"
            )
        split = load_data(Data(name=which, image_size=shape.size), runtime).train
    elif kind == "unused":
        whole = cell.data.model_copy(update={"train_size": None})
        split = left_over(load_data(whole, runtime).train, cell.data)
    else:
        raise DataError(
            f"resource {name!r} is of no known kind; known: dataset:NAME, dataset:NAME@COUNT, "
            "unused@COUNT, picture:NAME, picture:NAME@PIXELS"
        )
    if count is not None:
        split = _draw(split, count, name, generator(cell.seed, "public", kind, which))
    images = in_channels(split.images, shape.channels)
    tensors = {"images": images, "labels": split.labels}
    return Resource(name, tensors, len(images) * shape.size**2)


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Return (N, C, S, S) uint8 images with 1 or 3 channels: luma (ITU-R 601), or grey thrice."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)
    grey = torch.einsum("nchw,c->nhw", images.float(), weights)
    return grey.round().to(torch.uint8).unsqueeze(1)


def _draw(split: Split, count: int, name: str, source: torch.Generator) -> Split:
    if count > len(split):
        raise DataError(
            f"resource {name!r} asks for {count} images and there are {len(split)}; lower the "
            "budget to that many images, or choose another public set"
        )
    return split.take(torch.randperm(len(split), generator=source)[:count])
