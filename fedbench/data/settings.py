"""The settings of data, and what the settings of all partition schemes have in common.

The settings of each scheme stand beside it, in ``schemes``.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from fedbench.data.specs import DATASETS
from fedbench.settings import Settings

#: How pixels become what networks see.
Scaling = Literal["dataset", "half", "none"]
#: How a client's images may look (see ``domains``).
Domain = Literal["plain", "invert", "tint", "blur", "rotate", "low_contrast", "noise", "edge"]
#: Raised when a transformation makes other pixels: part of the ids of cells that have domains, and
#: of the keys of what their clients train, from 2 on.
DOMAINS_VERSION = 1


class Data(Settings):
    """Which images, how many of them, and in which form the networks see them."""

    name: str = "digits"
    """The data set's name; `fedbench datasets` lists them."""
    path: str | None = None
    """For `folder`, `flows` and `nidd_5g`: its place below the data root, or an absolute path. Part
    of the cell's id."""
    train_size: int | None = Field(None, ge=1)
    """Training images to take, stratified by class; None takes all."""
    test_size: int | None = Field(None, ge=1)
    """Test images to take, stratified by class; None takes all."""
    subset_seed: int = 0
    """Seed of the two subsets: the same images for every seed of a cell, unless this is changed."""
    image_size: int | None = Field(None, ge=8, le=512)
    """Height and width in pixels that images are resized to; None keeps the data set's own."""
    normalisation: Scaling = "dataset"
    """`dataset`: its published mean and standard deviation; `half`: .5 and .5; `none`: [0, 1]."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        spec = DATASETS.get(self.name)
        if spec.takes_path and self.path is None:
            raise ValueError(
                f"data set {self.name!r} needs `path`, the folder that holds it; give "
                "--set data.path=FOLDER, in a suite `data: {name: " + self.name + ", path: FOLDER}`"
            )
        if self.path is not None and not spec.takes_path:
            raise ValueError(
                f"data set {self.name!r} takes no `path`; it is looked for below the "
                "data root (FEDBENCH_DATA)"
            )
        return self

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return self.image_size or DATASETS.get(self.name).size


class Partition(Settings):
    """Who holds which training image: what every scheme takes. Each adds its own parameters."""

    scheme: str
    """How labels are spread over clients; `fedbench partitions` lists the schemes."""
    clients: int = Field(5, ge=1)  # DENSE, CollabDM
    """Number of clients, K."""
    validation: float = Field(0.0, ge=0, lt=1)
    """Share of its images that each client holds out, withheld from every method."""
    domains: tuple[Domain, ...] | None = Field(None, min_length=1)
    """Feature skew: client k sees its images as number k modulo m of these m transformations make
    them; None leaves all as they are."""

    @model_validator(mode="after")
    def _few_domains(self) -> Self:
        if self.domains and len(self.domains) > self.clients:
            raise ValueError(
                f"{len(self.domains)} domains for {self.clients} clients, so nobody would see "
                f"{self.domains[-1]!r}; give one for each client at most"
            )
        return self

    @classmethod
    def _called(cls) -> str:
        """Return what errors call these settings: the scheme's name."""
        scheme = cls.model_fields["scheme"]
        return cls.__name__ if scheme.is_required() else f"scheme {scheme.default!r}"
