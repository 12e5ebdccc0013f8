"""Each client distils alone by kernel inducing points, and the server unites what they send.

FedD3 with KIP: what `local_dm` does with sampled networks, this does with the kernel of an infinite
one (``fedbench.synthesis.matching.kip``). Clients know nothing of each other, so the union is as
skewed as the clients are. Images stay in the space that the cell normalises to, the same for all:
FedD3 normalises by each client's own mean and deviation on top, and then tests on images that
are not.

Source: Song et al., "Federated Learning via Decentralized Dataset Distillation in
Resource-Constrained Edge Environments", IJCNN 2023, https://arxiv.org/abs/2208.11311, and its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedbench.config import Cell, MethodConfig
from fedbench.data.dataset import Split
from fedbench.federation.client import Client
from fedbench.federation.message import Message
from fedbench.federation.method import Course
from fedbench.synthesis.sets import UnionMethod, class_shares, set_images


class LocalKipConfig(MethodConfig):
    """Settings of local distillation by kernel inducing points."""

    steps: int = Field(300, ge=1)  # fedbench: 1,000 gain nothing on digits; FedD3 has 3,000
    """Adam's steps at most."""
    lr: float = Field(4e-3, gt=0)  # FedD3
    """Adam's learning rate."""
    ridge: float = Field(1e-6, gt=0)  # FedD3
    """Of the regression, as a multiple of the kernel's mean diagonal."""
    target_batch: int = Field(200, ge=1)  # fedbench: FedD3's 10 are soon all right by chance
    """Real images in a step, as many of each class as the client has; at most all of them."""
    stop: float = Field(0.999, ge=0, le=1)  # FedD3
    """The client stops when more than this share of a step's images is answered rightly."""


class LocalKip(UnionMethod):
    """Local distillation by kernel inducing points, and the union at the server."""

    name = "local_kip"
    course = Course(
        down="its quota",
        client="distils a few images by kernel regression",
        up="its synthetic images",
        server="unites the sets and trains on them",
        leaves="one model, and the set",
    )
    Config = LocalKipConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # FedD3's code.
        "reference": {"steps": 3000, "target_batch": 10},
        # What we recommend: the defaults, written out.
        "fedbench": {"steps": 300, "target_batch": 200},
    }
    config: LocalKipConfig

    def passes(self, cell: Cell) -> float | None:
        """Return the student's passes; the kernels' time does not grow with the data."""
        images = set_images(cell)
        return images and float(images * cell.student.epochs)

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Distil the client's data and send the result."""
        assert received is not None
        quota = int(received.tensors["images"])
        settings = {
            "method": [self.name, self.version],
            "images": quota,
            **self.config.model_dump(mode="json", exclude={"name", "preset", "validation"}),
        }
        found = client.artefact("kip", settings, lambda: self._distil(client, quota))
        return Message("images", found.tensors)

    def _distil(self, client: Client, quota: int) -> dict[str, Tensor]:
        """Return images (n, C, S, S) float32 in normalised space and labels (n,)."""
        from fedbench.synthesis.matching.kip import Kip, TargetBatches

        shape, config, data = client.shape, self.config, client.data.to(client.device)
        start = first_images(data, quota, shape.classes, client.generator("kip", "start"))
        if not len(start):
            return {"images": start.images.float(), "labels": start.labels}
        images = shape.normalisation(start.images)
        module = Kip(
            images, start.labels, shape.classes, ridge=config.ridge, lr=config.lr, stop=config.stop
        )
        # Of classes without an image of its own, a set can say nothing but that they are others.
        known = torch.isin(data.labels, start.labels)
        targets = TargetBatches(
            data.take(known.nonzero().flatten()),
            config.target_batch,
            seed=client.derive("kip"),
            normalisation=shape.normalisation,
        )
        client.fit(module, targets, name="kip", steps=config.steps)
        return {"images": module.images.detach().float(), "labels": start.labels}


def first_images(data: Split, quota: int, classes: int, source: torch.Generator) -> Split:
    """Draw real images to start from, as even over the classes as what is held allows.

    Args:
        data: The client's.
        quota: How many, at most.
        classes: C.
        source: On the CPU.

    Returns:
        Images sorted by class, none twice.
    """
    labels = data.labels.cpu()
    chosen = []
    for label, count in enumerate(class_shares(quota, labels, classes, source)):
        places = (labels == label).nonzero().flatten()
        chosen.append(places[torch.randperm(len(places), generator=source)[:count]])
    return data.take(torch.cat(chosen).to(data.labels.device))
