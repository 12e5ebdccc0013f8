"""Mirrors: one network at the server for each architecture among the clients.

In each round clients start from the mirror of theirs. Mirrors live in the server's state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from fedbench.config import Cell
from fedbench.federation.method import MIRROR
from fedbench.federation.server import Server
from fedbench.federation.state import part, prefixed
from fedbench.federation.work import load
from fedbench.models.net import Net
from fedbench.models.settings import Model


def architectures(cell: Cell) -> tuple[Model, ...]:
    """Return the different architectures among the clients, in order of their first client."""
    return tuple(dict.fromkeys(cell.models))


def name(cell: Cell, model: Model) -> str:
    """Return what a mirror is called in records: ``global`` if there is one, or ``mirror/...``."""
    return "global" if len(architectures(cell)) == 1 else f"{MIRROR}{model.label}"


def weights(server: Server, model: Model) -> dict[str, Tensor]:
    """Return an architecture's mirror as weights and buffers by name."""
    return part(server.state, f"{MIRROR}{model.label}/")


def network(server: Server, model: Model, state: Mapping[str, Tensor] | None = None) -> Net:
    """Return an architecture's network with its mirror's weights, or with others."""
    net = server.build(model)
    load(net, weights(server, model) if state is None else state)
    return net


def keep(server: Server, model: Model, state: Mapping[str, Tensor]) -> None:
    """Put weights and buffers into an architecture's mirror."""
    server.state.update(prefixed(state, f"{MIRROR}{model.label}/"))


def begin(server: Server) -> None:
    """Start every mirror from its architecture's common initial weights."""
    for model in architectures(server.cell):
        keep(server, model, server.build(model).state_dict())


def final(server: Server) -> Iterator[tuple[str, Net]]:
    """Yield every mirror with its name: a method's final models."""
    for model in architectures(server.cell):
        yield name(server.cell, model), network(server, model)


def rate(server: Server, model: Model, accuracy: float) -> None:
    """Note how good validation found a mirror, in [0, 1]."""
    server.state[f"accuracy/{model.label}"] = torch.tensor(accuracy)


def best(server: Server) -> Model:
    """Return the architecture of the mirror that validation found best, or of the largest one."""

    def rank(model: Model) -> tuple[float, int]:
        accuracy = server.state.get(f"accuracy/{model.label}", torch.tensor(-1.0))
        return float(accuracy), size(server.build(model))

    return max(architectures(server.cell), key=rank)


def size(net: nn.Module) -> int:
    """Return a network's number of weights."""
    return sum(weight.numel() for weight in net.parameters())
