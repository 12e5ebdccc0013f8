"""Every client alone: no message at all.

The row's accuracy is the mean over clients on the whole test set; the record also has the best
and the worst client, and what each sees on its own label mix.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from fedbench.config import Cell
from fedbench.federation.client import Client
from fedbench.federation.method import ClientTraining, Course, Method, Upload
from fedbench.federation.server import Server
from fedbench.federation.work import load


class Local(Method):
    """Client models that never leave their clients."""

    name = "local"
    course = Course(
        down="nothing",
        client="trains alone",
        up="nothing",
        server="does nothing",
        leaves="each client's own model",
    )
    headline = "mean"
    control = True

    def rounds(self) -> int:
        """Return 0: nobody communicates."""
        return 0

    def client_training(self, cell: Cell) -> ClientTraining:
        """Return the recipe's training, which is all that happens."""
        return ClientTraining(cell.recipe)

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Never called: there is no round."""

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Return nothing: the server has no model."""
        return ()

    def client_model(self, client: Client) -> nn.Module:
        """Return the client's own model."""
        net = client.build(client.info.model)
        load(net, client.train_classifier(client.cell.recipe).state)
        return net
