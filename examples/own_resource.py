"""Your own resource, and a method that asks for it: labelled training images at the server.

fedbench run --plugin examples/own_resource.py --dataset digits --method server_only
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from fedbench.config import Cell
from fedbench.data.dataset import Split
from fedbench.federation.method import Method, Upload
from fedbench.federation.resources import Folders, Resource, ResourceKind, Scene
from fedbench.federation.server import Server
from fedbench.federation.work import load
from fedbench.seeding import generator


class Owned(ResourceKind):
    """`owned@COUNT`: some of the clients' training images that the server has as well."""

    name, named, counted = "owned", False, "must"

    def privilege(self, folders: Folders) -> str:
        """Say in the record what others do not have."""
        return f"{self.count} of the clients' training images with their labels, at the server"

    def load(self, scene: Scene) -> Resource:
        """Draw them by the cell's seed; they are priced by their pixels."""
        source, train = generator(scene.cell.seed, "owned"), scene.read(scene.cell.data).train
        own = train.take(torch.randperm(len(train), generator=source)[: self.count])
        tensors = {"images": own.images, "labels": own.labels}
        return Resource(self.text, tensors, pixels=len(own) * scene.size**2)


class ServerOnly(Method):
    """A model trained at the server on images of its own: what do clients add?"""

    name = "server_only"

    def resources(self, cell: Cell) -> tuple[str, ...]:
        """Declare the images."""
        return ("owned@50",)

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Train by the cell's recipe."""
        own = server.resource("owned@50").tensors
        net = server.build(server.cell.models[0])
        server.train(net, Split(own["images"], own["labels"]), server.cell.recipe, name="own")
        server.state.update(net.state_dict())

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield it."""
        net = server.build(server.cell.models[0])
        load(net, server.state)
        yield "global", net
