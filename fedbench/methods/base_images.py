"""The base images: what distilled sets start from, sent as they are.

The control of ``trajectory_matching``: the very same real images, the same search for an optimiser
with the same number of trials, and no distillation. ``random_real`` has real images as well, of
another draw, and is trained by the recipe of all shared sets.

Source: Epple, "On the Efficiency of Sharing Distilled Data", EPFL project report (S5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fedbench.config import Cell
from fedbench.federation.client import Client
from fedbench.federation.message import Message
from fedbench.federation.method import Course
from fedbench.synthesis.matching.searched import SearchedConfig, SearchedUnion
from fedbench.synthesis.sets import set_images


class BaseImages(SearchedUnion):
    """Real images from which a distillation would start."""

    name = "base_images"
    course = Course(
        down="its quota",
        client="draws real images",
        up="its share of the images",
        server="unites them, and may search how to train on them",
        leaves="one model, and the images",
    )
    Config = SearchedConfig
    control = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # As S5 trains on what it compares with distilled images.
        "reference": {"student_recipe": "search", "student_dsa": True, "validation": "pooled"},
        # What we recommend: the defaults.
        "fedbench": {},
    }

    def passes(self, cell: Cell) -> float | None:
        """Return the passes of the set in the search and in training."""
        images = set_images(cell)
        return images and self.searching_passes(cell, images)

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Draw images and send their pixels."""
        assert received is not None
        images, labels = self.start(client, int(received.tensors["images"]))
        pixels = client.shape.normalisation.to_pixels(images).cpu()
        return Message("images", {"images": pixels, "labels": labels})
