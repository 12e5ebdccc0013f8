"""Real images drawn at random, at the budget of a synthetic set, united at the server.

The control for every method that shares images: what does synthesis gain over simply sending as
many real ones? Clients learn how many images to send, draw them evenly over the classes that they
hold, and send pixels. The model is trained by the recipe of all shared sets.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fedbench.config import Cell, MethodConfig
from fedbench.federation.client import Client
from fedbench.federation.message import Message
from fedbench.federation.method import Course, training_images
from fedbench.synthesis.sets import UnionMethod, set_images


class RandomRealConfig(MethodConfig):
    """Settings of the random-real control."""

    draw: Literal["by_class", "uniform"] = "by_class"  # DM, DC: real images drawn for each class
    """Evenly over the classes that a client holds, or uniformly over its images."""


class RandomReal(UnionMethod):
    """Random real images at the same budget."""

    name = "random_real"
    course = Course(
        down="its quota",
        client="draws real images",
        up="its share of the images",
        server="unites them and trains on them",
        leaves="one model, and the images",
    )
    Config = RandomRealConfig
    control = True
    config: RandomRealConfig

    def passes(self, cell: Cell) -> float | None:
        """Return the images that the budget allows times the student's epochs."""
        held, images = training_images(cell), set_images(cell)
        if held is None or images is None:
            return None
        return float(min(held, images) * cell.student.epochs)

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Draw images and send their pixels."""
        assert received is not None
        chosen = draw(
            client.data.labels,
            int(received.tensors["images"]),
            client.generator("draw"),
            by_class=self.config.draw == "by_class",
        )
        part = client.data.take(chosen)
        return Message("images", {"images": part.images, "labels": part.labels})


def draw(labels: Tensor, count: int, generator: torch.Generator, *, by_class: bool) -> Tensor:
    """Draw positions without replacement.

    Args:
        labels: (N,) int64.
        count: How many, at most N.
        generator: On the CPU.
        by_class: Take one image of each present class in turn until there are enough.

    Returns:
        (count,) int64, ascending.
    """
    order = torch.randperm(len(labels), generator=generator)
    if by_class:
        shuffled = labels.cpu()[order]
        rank = torch.empty_like(order)
        for value in torch.unique(shuffled):
            places = (shuffled == value).nonzero().flatten()
            rank[places] = torch.arange(len(places))
        order = order[rank.argsort(stable=True)]
    return order[:count].sort().values
