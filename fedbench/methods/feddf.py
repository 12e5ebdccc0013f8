"""FedDF: client models distilled into the server's on unlabelled images of another data set.

Lin et al. 2020, https://arxiv.org/abs/2006.07242. The public images take their budget in pixels;
for data sets without a natural partner they are training images that no client holds, which the
record names as a privilege.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedbench.config import Cell
from fedbench.data.specs import DATASETS
from fedbench.federation.budget import budget_pixels
from fedbench.federation.client import Client, ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import Course, Upload
from fedbench.federation.server import Server
from fedbench.federation.state import part
from fedbench.synthesis.public.distillation import (
    PublicConfig,
    PublicMethod,
    answer,
    distil,
    gather,
    starts,
    task,
    teach,
)

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


class FedDF(PublicMethod):
    """Client models distilled on images of a public data set."""

    name = "feddf"
    version = 2
    course = Course(
        down="a seed, then weights; with logits the images, once",
        client="trains from its architecture's model",
        up="weights, or logits",
        server="distils what clients say of public images",
        leaves="one model for each architecture",
    )
    Config = FedDFConfig
    config: FedDFConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # What we recommend, after measuring on images that are in no test set: the defaults.
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
            "validation_rule": "feddf",
            "initialisation": "feddf",
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
            "initialisation": "single_image",
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

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message:
        """Send the client its mirror; if it answers with logits, the public images, once."""
        tensors = task(server, to, round)
        if self.config.exchange == "logits":
            images = self._images(server)
            tensors["chosen"] = torch.arange(len(images), dtype=torch.int32)
            if not server.state["reached"][to.id]:
                tensors["public/images"] = images
        return Message("task", tensors)

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Train from the mirror, and send weights, or logits on the public images."""
        assert received is not None
        config = self.config
        trained = client.train_classifier(
            config.local(client.cell),
            init=part(received.tensors, "model/") or None,
            logit_bound=config.bound,
        )
        if config.exchange == "weights":
            return Message.of_model(trained.state)
        client.state.update(part(received.tensors, "public/"))
        images = client.state["images"][received.tensors["chosen"].long()]
        return answer(client, trained, images, with_weights=config.warm(round))

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Distil every mirror from all clients, on the public images."""
        config, images = self.config, self._images(server)
        found = gather(server, uploads, config.exchange)
        begun = starts(server, config, found, round)
        teacher, shares = teach(server, config, found, images)
        distil(server, config, begun, images, teacher, shares, round)

    def _images(self, server: Server) -> Tensor:
        """Return the public images, (N, C, S, S) uint8."""
        (name,) = self.resources(server.cell)
        return server.resource(name).tensors["images"]

    def _public(self, cell: Cell) -> str:
        return self.config.public or PARTNERS.get(cell.data.name, _UNUSED)


def _count(cell: Cell) -> tuple[int, int]:
    """Return how many images the budget holds, and their size."""
    size = cell.data.size
    return (budget_pixels(cell) or 0) // (size * size), size
