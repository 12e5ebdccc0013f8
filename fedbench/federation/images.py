"""The resources that are images: another data set's, those that no client holds, one picture.

``dataset:NAME`` is another data set's training images, ``dataset:NAME@N`` N of them drawn at
random; ``unused@N`` are N training images of the cell's own data set that its ``train_size`` leaves
to nobody, ``unassigned`` those that its partition gives to no client; ``picture:NAME`` is one
picture (see ``fedbench.data.pictures``), ``picture:NAME@P`` the same scaled down to at most P
pixels. Draws follow the cell's seed, and a smaller one is the beginning of a larger one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedbench.config import Cell
from fedbench.data.pictures import PICTURES, picture_size, read_picture, source_digest
from fedbench.data.schemes import SCHEMES
from fedbench.data.settings import Data
from fedbench.data.sources import locate
from fedbench.data.specs import DATASETS
from fedbench.errors import DataError, PrivacyError
from fedbench.federation.resources import Folders, Resource, ResourceKind, Scene
from fedbench.seeding import generator

if TYPE_CHECKING:
    from torch import Tensor

    from fedbench.data.dataset import Split

_OWN = "it is the clients' own data set; a public one has to be another"


class PublicImages(ResourceKind):
    """Training images of another data set, with their labels."""

    name = "dataset"

    def why_not(self, cell: Cell, folders: Folders) -> str | None:
        """Refuse the clients' own data set, one that needs a path, and too few images."""
        spec = DATASETS.get(self.which)
        if spec.name == cell.data.name:
            return _OWN
        if spec.takes_path:
            return f"data set {spec.name!r} needs a path, which a resource cannot give"
        if self.count is not None and spec.train_size is not None and self.count > spec.train_size:
            return f"{spec.name} has {spec.train_size} training images; ask for these at most"
        return None

    def digest(self, folders: Folders) -> str | None:
        """Return that of the data set's files."""
        sources = locate(DATASETS.get(self.which), folders.data)
        return sources.digest(folders.cache) if sources.found else None

    def data(self, cell: Cell) -> Data:
        """Return the data set, at the size of the cell's images."""
        return Data(name=self.which, image_size=cell.data.size)

    def plugins(self) -> dict[str, str]:
        """Return the data set's as well."""
        public = {f"public {what}": by for what, by in DATASETS.plugins(self.which).items()}
        return super().plugins() | public

    def load(self, scene: Scene) -> Resource:
        """Load the images at the cell's size."""
        if self.which == scene.cell.data.name:
            raise PrivacyError(f"resource {self.text!r}: {_OWN}")
        return _images(self, scene.read(Data(name=self.which, image_size=scene.size)).train, scene)


class UnusedImages(ResourceKind):
    """Training images of the cell's own data set that no client holds, with their labels."""

    name = "unused"
    named = False
    counted = "must"

    def why_not(self, cell: Cell, folders: Folders) -> str | None:
        """Refuse data of which the clients share all, or leave too little."""
        taken, known = cell.data.train_size, DATASETS.get(cell.data.name).train_size
        if taken is None:
            return "no image of the data set is unused; set data.train_size below its size"
        if known is not None and self.count is not None and self.count > known - taken:
            return f"{known - taken} images of {cell.data.name} are unused; ask for these at most"
        return None

    def privilege(self, folders: Folders) -> str:
        """Return how many."""
        return f"{self.count} images of the clients' own data set, which no client holds"

    def load(self, scene: Scene) -> Resource:
        """Load the images."""
        from fedbench.data.load import left_over

        data = scene.cell.data
        whole = data.model_copy(update={"train_size": None})
        return _images(self, left_over(scene.read(whole).train, data), scene)


class UnassignedImages(ResourceKind):
    """Training images that the cell's partition gives to no client, with their labels.

    Where clients hold some classes only, these are all of the others: what a server has that holds
    the rest of the data itself.
    """

    name = "unassigned"
    named = False

    def why_not(self, cell: Cell, folders: Folders) -> str | None:
        """Refuse a scheme that gives every image to somebody."""
        if SCHEMES.get(cell.partition.scheme).exact_union:
            return (
                f"scheme {cell.partition.scheme!r} gives every image to some client; choose one "
                "that leaves some, such as classes_round_robin with one client"
            )
        return None

    def privilege(self, folders: Folders) -> str:
        """Return how many."""
        count = "all" if self.count is None else self.count
        return f"{count} images of the clients' own data set that the partition gives to no client"

    def load(self, scene: Scene) -> Resource:
        """Load the images."""
        import torch

        from fedbench.data.partition import split

        cell, train = scene.cell, scene.read(scene.cell.data).train
        labels = train.labels.cpu().numpy()
        parts = split(labels, cell.partition, cell.seed, scene.classes)
        free = torch.ones(len(labels), dtype=torch.bool)
        for part in (*parts.train, *parts.validation):
            free[torch.from_numpy(part)] = False
        if not free.any():
            raise DataError(
                f"resource {self.text!r}: this partition leaves no image to the server; use fewer "
                "clients or classes for each"
            )
        return _images(self, train.take(free.nonzero().flatten()), scene)


class PublicPicture(ResourceKind):
    """One picture."""

    name = "picture"

    def why_not(self, cell: Cell, folders: Folders) -> str | None:
        """Refuse a name that is nobody's, and a file that is no image."""
        picture_size(self.which, folders.data)
        return None

    def digest(self, folders: Folders) -> str | None:
        """Return that of its file, or of how it is drawn."""
        try:
            return source_digest(self.which, folders.data)
        except DataError:  # it is not here; nothing is known of it
            return None

    def plugins(self) -> dict[str, str]:
        """Return the picture's as well."""
        return super().plugins() | PICTURES.plugins(self.which)

    def load(self, scene: Scene) -> Resource:
        """Read it, scaled down to the number of pixels."""
        picture = read_picture(
            self.which, scene.folders.data, pixels=self.count, channels=scene.channels
        )
        return Resource(self.text, {"picture": picture}, picture.shape[1] * picture.shape[2])


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Return (N, C, S, S) uint8 images with 1 or 3 channels: luma (ITU-R 601), or grey thrice."""
    import torch

    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)
    grey = torch.einsum("nchw,c->nhw", images.float(), weights)
    return grey.round().to(torch.uint8).unsqueeze(1)


def _images(kind: ResourceKind, split: Split, scene: Scene) -> Resource:
    """Return as many images as were asked for, as the cell's networks take them."""
    if kind.count is not None:
        split = _draw(split, kind, scene.cell.seed)
    images = in_channels(split.images, scene.channels)
    tensors = {"images": images, "labels": split.labels}
    return Resource(kind.text, tensors, len(images) * scene.size**2)


def _draw(split: Split, kind: ResourceKind, seed: int) -> Split:
    import torch

    count = kind.count
    if count is None or count > len(split):
        raise DataError(
            f"resource {kind.text!r} asks for {count} images and there are {len(split)}; lower the "
            "budget to that many images, or choose another public set"
        )
    source = generator(seed, "public", kind.name, kind.which)
    return split.take(torch.randperm(len(split), generator=source)[:count])
