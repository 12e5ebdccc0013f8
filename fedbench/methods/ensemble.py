"""All client models side by side, their outputs averaged: the practical ceiling of one shot.

Clients train from a common initialisation (a seed goes down, 8 bytes) and upload weights once.
Nothing is distilled, so the server has to keep and run every model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from fedbench.config import Cell, MethodConfig
from fedbench.federation.client import Client, ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import ClientTraining, Course, Method, Upload
from fedbench.federation.server import Server
from fedbench.federation.state import part, prefixed
from fedbench.federation.work import load
from fedbench.models.net import Net

Vote = Literal["logits", "probabilities"]


class EnsembleConfig(MethodConfig):
    """Settings of the ensemble."""

    vote: Vote = "logits"  # DENSE, Co-Boosting
    """Average logits, or probabilities (soft vote)."""
    weights: Literal["uniform", "samples"] = "uniform"  # DENSE, Co-Boosting
    """Weigh clients alike, or by their number of samples."""


class Committee(nn.Module):
    """Several networks as one.

    Args:
        nets: Networks with the same inputs and classes.
        weights: One for each, above 0; scaled to sum to 1.
        vote: What is averaged.
    """

    weights: Tensor

    def __init__(self, nets: Iterable[nn.Module], weights: Iterable[float], vote: Vote) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.vote = vote
        scale = torch.tensor(list(weights), dtype=torch.float32)
        self.register_buffer("weights", scale / scale.sum())

    def forward(self, images: Tensor) -> Tensor:
        """Return averaged logits, or the logarithm of averaged probabilities, (N, classes)."""
        votes = torch.stack([net(images) for net in self.nets])
        if self.vote == "probabilities":
            votes = votes.softmax(dim=-1)
        mean = torch.einsum("k,kbc->bc", self.weights, votes)
        return mean if self.vote == "logits" else mean.clamp_min(1e-30).log()


class Ensemble(Method):
    """Averaged outputs of all client models."""

    name = "ensemble"
    course = Course(
        down="a seed",
        client="trains from the common start",
        up="weights, once",
        server="keeps every model and averages what they say",
        leaves="all clients' models side by side",
    )
    control = True
    Config = EnsembleConfig
    config: EnsembleConfig

    def client_training(self, cell: Cell) -> ClientTraining:
        """Return the recipe's training."""
        return ClientTraining(cell.recipe)

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message:
        """Send the seed of the common initialisation."""
        return server.seed()

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Train from the common initialisation and send the result."""
        return Message.of_model(client.train_classifier(client.cell.recipe).state)

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Keep every model."""
        for upload in uploads:
            server.state.update(prefixed(upload.message.tensors, f"{upload.client.id}/"))

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the committee of the clients that took part."""
        members = [
            info
            for info in server.clients
            if any(name.startswith(f"{info.id}/") for name in server.state)
        ]
        even = self.config.weights == "uniform"
        yield (
            "global",
            Committee(
                (member(server, info) for info in members),
                (1 if even else info.samples for info in members),
                self.config.vote,
            ),
        )


def member(server: Server, info: ClientInfo) -> Net:
    """Return one client's uploaded network from the server's state."""
    net = server.build(info.model)
    load(net, part(server.state, f"{info.id}/"))
    return net
