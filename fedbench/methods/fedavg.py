"""Federated averaging: clients train from the server's model, the server averages theirs.

McMahan et al. 2017, https://arxiv.org/abs/1602.05629. One round of it from a common
initialisation is one-shot averaging (preset `one_shot`). Buffers of batch normalisation are sent,
counted and averaged like weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedbench.config import Cell, MethodConfig
from fedbench.federation.averaging import average
from fedbench.federation.client import Client, ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import ClientTraining, Course, Method, Upload
from fedbench.federation.server import Server
from fedbench.federation.state import part, prefixed
from fedbench.federation.work import load
from fedbench.training.recipe import Recipe


class FedAvgConfig(MethodConfig):
    """Settings of FedAvg."""

    rounds: int = Field(20, ge=1)  # S5
    """Communication rounds, R."""
    epochs: int | None = Field(2, ge=0)  # S5: two epochs a round (inferred from its code)
    """Local epochs a round, E; None takes the recipe's."""


class FedAvg(Method):
    """Average of client models, round after round."""

    name = "fedavg"
    version = 2  # the initial weights travel as a seed
    course = Course(
        down="a seed, then weights, R-1 times",
        client="trains from what it was sent",
        up="weights, R times",
        server="averages weights by numbers of images",
    )
    control = True
    Config = FedAvgConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # One round, with all epochs of the recipe.
        "one_shot": {"rounds": 1, "epochs": None},
    }
    config: FedAvgConfig

    def skip(self, cell: Cell) -> str | None:
        """Refuse clients of several architectures."""
        if len(set(cell.models)) > 1:
            return "averaging needs one architecture for all clients"
        return None

    def rounds(self) -> int:
        """Return R."""
        return self.config.rounds

    def recipe(self, cell: Cell) -> Recipe:
        """Return the recipe of one local training."""
        epochs = self.config.epochs
        return cell.recipe if epochs is None else cell.recipe.model_copy(update={"epochs": epochs})

    def proximal(self) -> float:
        """Return the weight of the proximal term in the local loss: none."""
        return 0.0

    def client_training(self, cell: Cell) -> ClientTraining:
        """Return the first round's training."""
        return ClientTraining(self.recipe(cell), self.proximal())

    def setup(self, server: Server) -> None:
        """Start from the common initial weights."""
        server.state.update(server.build(server.cell.models[0]).state_dict())

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message:
        """Send the server's weights and buffers; before the first round a seed gives them."""
        return server.seed() if round == 0 else Message.of_model(_without_best(server.state))

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Train from the received weights and send the result."""
        assert received is not None
        init = None if received.kind == "seed" else received.tensors
        trained = client.train_classifier(
            self.recipe(client.cell), init=init, proximal=self.proximal()
        )
        return Message.of_model(trained.state)

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Average by number of samples; keep the best round where validation is asked for."""
        mean = average((upload.message.tensors, upload.client.samples) for upload in uploads)
        server.state.update(mean)
        net = self._net(server, mean)
        server.observe(net, round + 1)
        if self.config.validation != "none":
            self._keep_best(server, net, mean)

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the average of the last round, or of the best one by validation."""
        best = part(server.state, "best/")
        best.pop("accuracy", None)
        yield "global", self._net(server, best or server.state)

    def _net(self, server: Server, state: Mapping[str, Tensor]) -> nn.Module:
        net = server.build(server.cell.models[0])
        load(net, _without_best(state))
        return net

    def _keep_best(self, server: Server, net: nn.Module, mean: Mapping[str, Tensor]) -> None:
        accuracy = server.validate(net)
        if accuracy >= float(server.state.get("best/accuracy", torch.tensor(-1.0))):
            server.state.update(prefixed(mean, "best/"))
            server.state["best/accuracy"] = torch.tensor(accuracy, dtype=torch.float64)


def _without_best(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith("best/")}
