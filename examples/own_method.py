"""Your own method: one shot of federated learning, where medians replace means.

fedbench run --plugin examples/own_method.py --dataset digits --method median --beta 0.1
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from fedbench.config import Cell
from fedbench.federation.client import Client
from fedbench.federation.message import Message
from fedbench.federation.method import Method, Upload
from fedbench.federation.server import Server
from fedbench.federation.work import load


class Median(Method):
    """The median of all client models, weight by weight, once."""

    name = "median"

    def skip(self, cell: Cell) -> str | None:
        """Refuse clients of several architectures: their weights have no median."""
        several = len(set(cell.models)) > 1
        return "medians need one architecture for all clients" if several else None

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Train by the cell's recipe and send the weights."""
        return Message.of_model(client.train_classifier(client.cell.recipe).state)

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Take medians."""
        states = [upload.message.tensors for upload in uploads]
        for key in states[0]:
            values = torch.stack([state[key] for state in states])
            server.state[key] = values.median(dim=0).values

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the model of medians."""
        net = server.build(server.cell.models[0])
        load(net, server.state)
        yield "global", net
