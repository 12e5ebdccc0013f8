"""The server: its state, what clients sent, and public resources; no data of anybody's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from fedbench.config import identity
from fedbench.errors import PrivacyError
from fedbench.federation.client import ClientInfo
from fedbench.federation.context import Context
from fedbench.federation.message import Message
from fedbench.federation.resources import Resource
from fedbench.federation.work import Work


class Server(Work):
    """The server: it holds its state, what clients sent, and public resources.

    Attributes:
        state: Tensors that outlive a call, by name.
        clients: What is known of each client, in order of id.
    """

    _side = "server"

    def __init__(
        self,
        context: Context,
        clients: Sequence[ClientInfo],
        resources: Sequence[str],
        validate: Callable[[nn.Module], float],
        observe: Callable[[nn.Module, int, str], None],
    ) -> None:
        super().__init__(context, ("server",))
        self.clients = tuple(clients)
        self._resources = tuple(resources)
        self._validate, self._observe = validate, observe

    def seed(self) -> Message:
        """Return the message that stands for what the cell's seed gives, in eight bytes.

        Such as the common initial weights of every architecture, or seeds of random networks.
        """
        return Message("seed", {"seed": torch.tensor(self.cell.seed)})

    def _origin(self) -> dict[str, Any]:
        return {**super()._origin(), "cell": identity(self.cell), "data": self._context.digest}

    def resource(self, name: str) -> Resource:
        """Return a public resource that the method declares in ``resources``.

        Raises:
            PrivacyError: The method does not declare it, so the record would not name it.
        """
        if name not in self._resources:
            raise PrivacyError(
                f"resource {name!r} is not declared; the method's `resources` has: "
                f"{', '.join(self._resources) or 'none'}"
            )
        with self._context.clock.side("harness"):
            return self._context.resource(name)

    def validate(self, model: nn.Module) -> float:
        """Return a model's accuracy in [0, 1] on the clients' hold-outs, at its price.

        Raises:
            SettingsError: The method's ``validation`` is ``none``.
        """
        return self._validate(model)

    def observe(self, model: nn.Module, step: int, name: str = "global") -> None:
        """Mark a point of a curve: the harness tests the model, the method learns nothing."""
        self._observe(model, step, name)
