"""Local distribution matching: every client distils alone, the server unites the sets.

The naive merge that CollabDM argues against, in the manner of FedD3: the same budget in pixels, the
same matching, and no common target. Under skew the union has no more images of a class than its
owners could give.

Source: Song et al., "Federated Learning via Decentralized Dataset Distillation in
Resource-Constrained Edge Environments" (FedD3), 2022, https://arxiv.org/abs/2208.11311, with the
matching of ``collabdm`` as its distiller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import model_validator

from fedbench.config import Cell
from fedbench.federation.client import Client
from fedbench.federation.message import Message
from fedbench.federation.method import Course
from fedbench.synthesis.matching.local import (
    MatchingConfig,
    MatchingMethod,
    by_class,
    fresh,
    local_set,
    network_seeds,
    real_start,
    replayed,
    statistics,
)
from fedbench.synthesis.sets import UnionMethod, class_shares


class LocalDMConfig(MatchingConfig):
    """Settings of local distribution matching."""

    match_std: bool = False  # fedbench: the local step of CollabDM has it with expanded canvases
    """Match standard deviations as well where canvases are expanded; needs `samples`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.match_std and self.samples is None:
            raise ValueError(
                "match_std needs deviations, and the statistics of all images have none; set "
                "samples to a number such as 256, or match_std to false"
            )
        return self


class LocalDM(MatchingMethod, UnionMethod):
    """Each client distils alone by distribution matching; the server unites the sets."""

    name = "local_dm"
    course = Course(
        down="its quota",
        client="distils a few images by matching means",
        up="its synthetic images",
        server="unites the sets and trains on them",
        leaves="one model, and the set",
    )
    Config = LocalDMConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The local step of CollabDM's code.
        "reference": {
            "samples": 256,
            "step": "classwise",
            "lr": 1.0,
            "momentum": 0.5,
            "student_dsa": True,
            "match_std": True,
        },
        # What we recommend: the defaults, written out.
        "fedbench": {"samples": None, "step": "joint", "lr": 20.0, "momentum": 0.0},
    }
    config: LocalDMConfig

    def passes(self, cell: Cell) -> float | None:
        """Return passes of real images, a third each without gradients, and of synthetic ones."""
        images, training = self.real_images(cell, self.config.samples), self.training_passes(cell)
        if images is None or training is None:
            return None
        return images * (self.config.iterations + 1) / 3 + training

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Distil, and send the set."""
        assert received is not None
        config, embedding, images = self.config, self.embedding(client), by_class(client)
        quota, classes = int(received.tensors["images"]), client.shape.classes
        if not quota:
            pixels, labels = real_start(client, images, [0] * classes, config.expand)
            return Message("synthetic", {"images": pixels.cpu(), "labels": labels})
        steps = config.iterations + 1
        shares = class_shares(quota, client.data.labels, classes, client.generator("share"))
        source: dict[str, Any] = {"samples": config.samples}
        if config.samples is None:
            seeds = network_seeds(client.cell.seed, steps)
            shelves = list(statistics(client, images, embedding, seeds, None))
            moments = replayed(sorted(images), seeds, shelves)
        else:
            source["stds"] = config.match_std and config.expand > 1
            moments = fresh(client, images, embedding, config.samples, with_stds=source["stds"])
        pixels, labels = local_set(
            client,
            real_start(client, images, shares, config.expand),
            embedding,
            moments,
            steps=steps,
            descent=config.descent,
            factor=config.expand,
            source=source,
        )
        return Message("synthetic", {"images": pixels, "labels": labels})

    def training(self) -> dict[str, Any]:
        """Expand the set, and augment it as in matching where the settings say so."""
        return {"ops": self.config.student_ops, "factor": self.config.expand}
