"""Real images drawn at random, at the budget of a synthetic set, united at the server.

The control for every method that shares images: what does synthesis gain over simply sending as
many real ones? Clients learn how many images to send, draw them evenly over the classes that they
hold, and send pixels. The model is trained by the recipe of all shared sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from fedbench.config import Cell, MethodConfig
from fedbench.data.dataset import Split
from fedbench.federation.budget import budget_pixels, quotas, total_images
from fedbench.federation.client import Client, ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import Method, Upload, training_images
from fedbench.federation.server import Server
from fedbench.federation.state import part, prefixed
from fedbench.federation.synthetic import SyntheticSet
from fedbench.federation.work import load
from fedbench.registry import DATASETS


class RandomRealConfig(MethodConfig):
    """Settings of the random-real control."""

    draw: Literal["by_class", "uniform"] = "by_class"  # DM, DC: real images drawn for each class
    """Evenly over the classes that a client holds, or uniformly over its images."""


class RandomReal(Method):
    """Random real images at the same budget."""

    name = "random_real"
    Config = RandomRealConfig
    uses_budget = True
    uses_student = True
    control = True
    everyone = True
    config: RandomRealConfig

    def skip(self, cell: Cell) -> str | None:
        """Ask for a budget and for one architecture."""
        if cell.budget is None:
            return "random_real needs a budget, such as budget.ipc = 10"
        if len(set(cell.models)) > 1:
            return "the model that is trained on the shared set needs one architecture"
        return None

    def passes(self, cell: Cell) -> float | None:
        """Return the images that the budget allows times the student's epochs."""
        images, pixels = training_images(cell), budget_pixels(cell)
        if images is None or pixels is None:
            return None
        size = cell.data.image_size or DATASETS.get(cell.data.name).size
        return float(min(images, pixels // size**2) * cell.student.epochs)

    def setup(self, server: Server) -> None:
        """Share the budget among the clients, by what they hold."""
        budget, shape = server.cell.budget, server.shape
        assert budget is not None  # `skip` has asked for it
        holdings = [info.samples for info in server.clients]
        count = len(holdings)
        each = total_images(budget, classes=shape.classes, size=shape.size, clients=1)
        server.state["quotas"] = torch.tensor(
            [min(each, held) for held in holdings]
            if budget.scope == "per_client"
            else quotas(
                total_images(budget, classes=shape.classes, size=shape.size, clients=count),
                holdings,
            )
        )

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message:
        """Send the client its quota."""
        return Message("quota", {"images": server.state["quotas"][to.id]})

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

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Unite the images and train one model on them."""
        parts = [upload.message.tensors for upload in uploads]
        union = Split(
            torch.cat([part["images"] for part in parts]),
            torch.cat([part["labels"] for part in parts]),
        )
        net = server.build(server.cell.models[0])
        server.train(net, union, server.cell.student, name="shared set")
        server.state.update(prefixed(net.state_dict(), "net/"))
        server.state.update({"images": union.images, "labels": union.labels})

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the model trained on the shared set."""
        net = server.build(server.cell.models[0])
        load(net, part(server.state, "net/"))
        yield "global", net

    def synthetic(self, server: Server) -> SyntheticSet:
        """Return the images that the clients sent."""
        return SyntheticSet(
            server.state["images"], server.state["labels"], server.shape.mean, server.shape.std
        )


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
