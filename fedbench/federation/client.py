"""One client: what is known of it, and what it can do while it works."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fedbench.data.dataset import Split
from fedbench.errors import PrivacyError, SettingsError
from fedbench.federation.context import Context
from fedbench.federation.state import part, prefixed
from fedbench.federation.work import Work, load
from fedbench.models.families import MODELS
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.training.logits import LogitBound
from fedbench.training.recipe import Recipe


@dataclass(frozen=True)
class ClientInfo:
    """What the server knows of a client from its registration.

    Attributes:
        id: 0 to K-1.
        samples: Training images that it holds, hold-outs apart.
        model: Its architecture.
    """

    id: int
    samples: int
    model: Model


@dataclass(frozen=True)
class Trained:
    """What ``Client.train_classifier`` returns.

    Attributes:
        state: The trained weights and buffers, by state-dict name; read only.
        snapshots: The same after each epoch that was asked for, in that order.
        seconds: Wall seconds of the run that trained it.
        shared: Whether it came from the artefact store.
    """

    state: Mapping[str, Tensor]
    snapshots: tuple[Mapping[str, Tensor], ...]
    seconds: float
    shared: bool


class Client(Work):
    """One client while it works.

    Attributes:
        info: What the server knows of it as well.
        state: Tensors that it keeps from round to round.
        round: The round in hand, from 0.
    """

    _side = "client"

    def __init__(
        self,
        context: Context,
        info: ClientInfo,
        split: Split,
        digest: str,
        state: dict[str, Tensor],
        round: int,
    ) -> None:
        super().__init__(context, ("client", info.id))
        self.info, self.state, self.round = info, state, round
        self._split: Split | None = split
        self._digest = digest

    @property
    def data(self) -> Split:
        """This client's own training images, hold-outs apart.

        Raises:
            PrivacyError: The client has finished its work.
        """
        if self._split is None:
            raise PrivacyError(
                f"client {self.info.id} has finished its work, so its data is out "
                "of reach; send what the server needs as a message"
            )
        return self._split

    def close(self) -> None:
        """Let go of the data."""
        self._split = None

    def train_classifier(
        self,
        recipe: Recipe,
        init: Mapping[str, Tensor] | None = None,
        snapshots: Sequence[int] = (),
        proximal: float = 0.0,
        logit_bound: LogitBound | None = None,
    ) -> Trained:
        """Train this client's architecture on its data, once for all methods that ask for it.

        The same recipe, data, round and initial weights give the same artefact. Only trainings
        that start from the common initial weights are kept in the store: other weights occur once.

        Args:
            recipe: How to train.
            init: Weights and buffers to start from; None takes the common initial weights.
            snapshots: Epochs, from 0 (before training), after which weights are kept as well.
            proximal: μ of FedProx: (μ/2)·‖θ−θ₀‖² is added to the loss.
            logit_bound: Bound on the length of the logits that the loss sees.

        Returns:
            The trained weights, on the CPU.

        Raises:
            ModelError: The weights do not fit the client's architecture.
            SettingsError: A snapshot lies beyond the last epoch.
        """
        net, ticket = self.build(self.info.model), self._ticket("classifier")
        common = init is None or _equal(init, net.state_dict())
        if init is not None and not common:
            load(net, init)

        def build() -> dict[str, Tensor]:
            return self._train(net, recipe, snapshots, proximal, logit_bound, ticket)

        if common:
            settings: dict[str, Any] = {
                "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
                "model": self.info.model.model_dump(mode="json", exclude_none=True),
                "versions": [Recipe.version, MODELS.get(self.info.model.name).version],
                "round": self.round,
                "snapshots": list(snapshots),
                "proximal": proximal,
            }
            if logit_bound is not None:
                settings["logit_bound"] = asdict(logit_bound)
            found = self.artefact("classifier", settings, build)
            return _trained(found.tensors, snapshots, found.seconds, found.shared)
        start = self._context.clock.ledger.seconds["client"]
        with self._context.clock.side("client"):
            tensors = build()
        seconds = self._context.clock.ledger.seconds["client"] - start
        return _trained(tensors, snapshots, seconds, shared=False)

    def _train(
        self,
        net: Net,
        recipe: Recipe,
        snapshots: Sequence[int],
        proximal: float,
        logit_bound: LogitBound | None,
        ticket: str,
    ) -> dict[str, Tensor]:
        from fedbench.training.classifier import Classifier

        if snapshots and not 0 <= min(snapshots) <= max(snapshots) <= recipe.epochs:
            raise SettingsError(
                f"snapshots {list(snapshots)} reach beyond the recipe's epochs; "
                f"keep them within 0 and {recipe.epochs}"
            )
        progress, tensors = self._context.progress, {}
        loader = self.loader(self.data, recipe, "round", self.round)
        module = Classifier(
            net, recipe, steps_per_epoch=len(loader), proximal=proximal, logit_bound=logit_bound
        )

        def keep(prefix: str) -> None:
            now = {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}
            tensors.update(prefixed(now, f"{prefix}/"))

        def on_epoch(done: int, total: int, loss: float) -> None:
            progress.advance(done, total)
            if done in snapshots:
                keep(str(done))

        if 0 in snapshots:
            keep("0")
        progress.enter(f"client {self.info.id}", recipe.epochs)
        # A checkpoint holds no snapshots, so a fit that keeps some starts over after a kill.
        place = None if snapshots else self.scratch / ticket
        self._context.pool.fit(
            module, loader, epochs=recipe.epochs, checkpoint=place, on_epoch=on_epoch
        )
        keep("final")
        return tensors

    def _origin(self) -> dict[str, Any]:
        return {**super()._origin(), "data": self._digest}


def split_digest(fingerprint: str, indices: bytes, normalisation: str) -> str:
    """Return the digest that names a client's data in artefact keys.

    Args:
        fingerprint: The data set's.
        indices: The positions of the client's images, as int64 bytes.
        normalisation: How pixels are scaled.
    """
    head = f"{fingerprint}|{normalisation}|".encode()
    return hashlib.sha256(head + indices).hexdigest()


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value.cpu(), other[name].cpu()) for name, value in one.items()
    )


def _trained(
    tensors: Mapping[str, Tensor], snapshots: Sequence[int], seconds: float, shared: bool
) -> Trained:
    kept = tuple(part(tensors, f"{epoch}/") for epoch in snapshots)
    return Trained(part(tensors, "final/"), kept, seconds, shared)
