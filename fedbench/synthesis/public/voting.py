"""Whose word counts how much in an ensemble, and which snapshot of a student is the best."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from fedbench.federation.client import ClientInfo
from fedbench.federation.server import Server

Weighting = Literal["uniform", "samples", "batches"]
Rule = Literal["single_image", "feddf"]


def client_weights(
    clients: Sequence[ClientInfo], weighting: Weighting, batch_size: int
) -> list[float]:
    """Return each client's weight, above 0 and not scaled.

    Args:
        clients: Whose.
        weighting: ``uniform``; ``samples``: n_k; ``batches``: local mini-batches (S1's code).
        batch_size: Of local training.
    """
    if weighting == "uniform":
        return [1.0] * len(clients)
    if weighting == "samples":
        return [float(info.samples) for info in clients]
    return [float(-(-info.samples // batch_size)) for info in clients]


def keep_best_teachers(accuracies: Sequence[float], classes: int) -> list[int]:
    """Return the positions of the teachers that FedDF's code does not drop as bad.

    Those below 1.2 times chance are dropped. If there is none, those are whose share of all
    accuracies lies more than 1.5 standard deviations below the mean, both without the best.

    Args:
        accuracies: Of each teacher on validation images, in [0, 1].
        classes: Number of classes.
    """
    everyone = list(range(len(accuracies)))
    best = max(everyone, key=lambda k: accuracies[k], default=0)
    bad = {k for k in everyone if accuracies[k] < 1.2 / classes}
    rest = [accuracies[k] / sum(accuracies) for k in everyone if k != best and not bad]
    if len(rest) > 1:
        bound = statistics.fmean(rest) - 1.5 * statistics.pstdev(rest)
        bad = {k for k in everyone if accuracies[k] / sum(accuracies) < bound}
    return [k for k in everyone if k == best or k not in bad]


class Best:
    """The best snapshot of a student by validation, each at its price.

    ``single_image``, as S1's code: after the first step, multiples of ``every`` and the last one;
    the last of equals. ``feddf``, as FedDF's: after multiples alone, where it may stop as well; the
    first of equals, but never the student before its first step.

    Args:
        server: Asks the clients, or has their hold-outs.
        net: The student.
        every: Steps between two validations.
        steps: How many steps there are.
        patience: Steps without a better snapshot after which to stop.
        rule: When it is measured, and which of equals stays.

    Attributes:
        state: The best snapshot's weights and buffers.
        accuracy: Its accuracy in [0, 1]; -1 before the first validation.
    """

    def __init__(
        self,
        server: Server,
        net: nn.Module,
        every: int,
        steps: int,
        patience: int | None,
        rule: Rule = "single_image",
    ) -> None:
        self._server, self._net, self._rule = server, net, rule
        self._every, self._steps, self._patience = every, steps, patience
        self._found = 0
        self.state: dict[str, Tensor] = {}
        self.accuracy = -1.0

    def __call__(self, step: int) -> bool:
        """Validate if it is time, and return whether to stop.

        Args:
            step: Steps done, from 1.
        """
        due = step % self._every == 0
        if self._rule == "single_image":
            due = due or step in (1, self._steps)
        elif not due:
            return False
        if due:
            self.measure(step)
        return self._patience is not None and step - self._found >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """Return what a killed fit goes on with."""
        return {"found": self._found, "accuracy": self.accuracy, "state": self.state}

    def load_state_dict(self, kept: Mapping[str, Any]) -> None:
        """Become what ``state_dict`` returned."""
        self._found, self.accuracy, self.state = kept["found"], kept["accuracy"], kept["state"]

    def measure(self, step: int) -> None:
        """Validate the student as it is now, and keep it if none was better."""
        accuracy = self._server.validate(self._net)
        equal = accuracy == self.accuracy and (self._rule == "single_image" or self._found == 0)
        if accuracy > self.accuracy or equal:
            self.accuracy, self._found = accuracy, step
            self.state = {name: value.clone() for name, value in self._net.state_dict().items()}
