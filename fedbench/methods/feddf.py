"""FedDF: client models distilled into the server's on unlabelled images of another data set.

Lin et al. 2020, https://arxiv.org/abs/2006.07242. The public images take their budget in pixels;
for data sets without a natural partner they are training images that no client holds, which the
record names as a privilege.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from fedbench.config import Cell
from fedbench.data.specs import DATASETS
from fedbench.federation.budget import budget_pixels
from fedbench.federation.server import Server
from fedbench.federation.work import Work
from fedbench.synthesis.public import PublicConfig, PublicDistillation, State

#: Data sets whose images stand in for one another; others take images that no client holds.
PARTNERS = {
    "cifar10": "cifar100",  # FedDF's commands
    "cifar100": "cifar10",
    "svhn": "cifar10",
    "mnist": "fashion_mnist",
    "fashion_mnist": "mnist",
}
_UNUSED = "unused"


class FedDFConfig(PublicConfig):
    """Settings of FedDF."""

    public: str | None = None
    """Name of the public data set, or `unused`: images that `data.train_size` leaves to nobody.
    None takes the data set's usual partner, or `unused` where it has none."""


class FedDF(PublicDistillation):
    """Client models distilled on images of a public data set."""

    name = "feddf"
    Config = FedDFConfig
    config: FedDFConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # What we recommend, after measuring on images that are in no test set (docs/public.md):
        # the defaults.
        "fedbench": {},
        # The published commands of FedDF's code, validation apart (10 % of the training images,
        # taken before they are spread, of which only `pooled` comes near).
        "reference": {
            "rounds": 100,
            "epochs": 40,
            "objective": "avg_logits",
            "steps": 10_000,
            "validation": "pooled",
            "validate_every": 100,
            "patience": 1000,
            "average_buffers": False,
        },
        # The competitor in S1's experiments: clients send logits.
        "single_image_rival": {
            "exchange": "logits",
            "objective": "avg_logits",
            "weighting": "batches",
            "batch_size": 32,
            "lr": 5e-3,
            "schedule": "constant",
            "clip_norm": None,
            "augment": "none",
            "logit_length": 2.5,
            "logit_rule": "jump",
        },
    }

    def skip(self, cell: Cell) -> str | None:
        """Ask for a budget of at least one image, and for as many public images."""
        reason = super().skip(cell)
        if reason is not None:
            return reason
        public, (count, size) = self._public(cell), _count(cell)
        if count == 0:
            return (
                f"a budget below {size * size} pixels holds no image of {size}x{size}; "
                "give more pixels"
            )
        if public == cell.data.name:
            return "the public data set is the clients' own; choose another, or `unused`"
        if public != _UNUSED and DATASETS.get(public).takes_path:
            return f"public data set {public!r} needs a path, which `public` cannot give"
        known = DATASETS.get(cell.data.name if public == _UNUSED else public).train_size
        if public == _UNUSED:
            taken = cell.data.train_size
            if taken is None:
                return "no image of the data set is unused; set data.train_size below its size"
            known = known and known - taken
        if known is not None and known < count:
            return f"the budget is {count} images, and {public} has {known}; lower it to these"
        return None

    def resources(self, cell: Cell) -> tuple[str, ...]:
        """Return the public images."""
        public, (count, _) = self._public(cell), _count(cell)
        return (f"unused@{count}" if public == _UNUSED else f"dataset:{public}@{count}",)

    def delivery(self, server: Server) -> dict[str, Tensor]:
        """Return the public images themselves."""
        (name,) = self.resources(server.cell)
        return {"images": server.resource(name).tensors["images"]}

    def public(self, worker: Work, delivered: State) -> Tensor:
        """Return the public images as they came."""
        return delivered["images"]

    def _public(self, cell: Cell) -> str:
        return self.config.public or PARTNERS.get(cell.data.name, _UNUSED)


def _count(cell: Cell) -> tuple[int, int]:
    """Return how many images the budget holds, and their size."""
    size = cell.data.size
    return (budget_pixels(cell) or 0) // (size * size), size
