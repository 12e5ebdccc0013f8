"""One model on everybody's images, which the clients upload and pay for.

The same epochs over the union are the same optimiser steps as all clients' together; the preset
`converged` trains on until nothing more is to be had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from fedbench.config import Cell, MethodConfig
from fedbench.data.dataset import Split
from fedbench.federation.client import Client
from fedbench.federation.message import Message
from fedbench.federation.method import Course, Method, Upload
from fedbench.federation.server import Server
from fedbench.federation.work import load


class CentralisedConfig(MethodConfig):
    """Settings of centralised training."""

    epoch_factor: float = Field(1.0, gt=0)  # fedbench: the clients' steps in sum
    """Epochs, as a multiple of the recipe's."""
    chunk: int = Field(1000, ge=1)  # fedbench: 3 MB of CIFAR
    """Images in one uploaded message."""


class Centralised(Method):
    """Training on the union of all clients' images."""

    name = "centralised"
    course = Course(
        down="nothing",
        client="sends all that it has",
        up="its images",
        server="trains on all images",
    )
    Config = CentralisedConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # Until nothing more is to be had.
        "converged": {"epoch_factor": 3.0},
    }
    control = True
    everyone = True
    config: CentralisedConfig

    def skip(self, cell: Cell) -> str | None:
        """Refuse several architectures: which one would it be?"""
        if len(set(cell.models)) > 1:
            return "centralised training takes one architecture; give a single model"
        return None

    def passes(self, cell: Cell) -> float | None:
        """Return the images times the epochs on their union."""
        passes = super().passes(cell)
        return passes and passes * self.config.epoch_factor

    def client_update(
        self, client: Client, received: Message | None, round: int
    ) -> Iterator[Message]:
        """Send all images, as stored pixels, in chunks."""
        images, labels = client.data.images, client.data.labels
        for start in range(0, len(labels), self.config.chunk):
            end = start + self.config.chunk
            yield Message("images", {"images": images[start:end], "labels": labels[start:end]})

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Train one model on everything."""
        chunks = [chunk.tensors for upload in uploads for chunk in upload.chunks]
        union = Split(
            torch.cat([chunk["images"] for chunk in chunks]),
            torch.cat([chunk["labels"] for chunk in chunks]),
        )
        net = server.build(server.cell.models[0])
        recipe = server.cell.recipe
        epochs = round_half_up(recipe.epochs * self.config.epoch_factor)
        server.train(net, union, recipe, name="union", epochs=epochs)
        server.state.update(net.state_dict())

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the trained model."""
        net = server.build(server.cell.models[0])
        load(net, server.state)
        yield "global", net


def round_half_up(value: float) -> int:
    """Return the nearest integer, .5 going up."""
    return int(value + 0.5)
