"""One client: what is known of it, and what it can do while it works."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fedbench.data import dsa
from fedbench.data.dataset import Split
from fedbench.errors import PrivacyError, SettingsError
from fedbench.federation.context import Context
from fedbench.federation.state import part, prefixed
from fedbench.federation.work import Work, count_right, load
from fedbench.models.families import MODELS
from fedbench.models.inference import unhooked
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.training.logits import LogitBound
from fedbench.training.recipe import Recipe

if TYPE_CHECKING:
    from fedbench.data.stream import Stream
    from fedbench.training.classifier import Classifier


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
    """

    state: Mapping[str, Tensor]
    snapshots: tuple[Mapping[str, Tensor], ...]


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
        hold_out: Split,
        digest: str,
        state: dict[str, Tensor],
    ) -> None:
        super().__init__(context, ("client", info.id))
        self.info, self.state = info, state
        self._split: Split | None = split
        self._hold_out: Split | None = hold_out
        self._digest = digest

    @property
    def data(self) -> Split:
        """This client's own training images, hold-outs apart.

        Raises:
            PrivacyError: The client has finished its work.
        """
        return self._own(self._split)

    @property
    def held_out(self) -> int:
        """How many of its images this client holds out, to measure on.

        Raises:
            PrivacyError: The client has finished its work.
        """
        return len(self._own(self._hold_out))

    def measure(self, model: nn.Module) -> float:
        """Return a model's accuracy in [0, 1] on the images that this client holds out.

        What comes of it is the client's own affair, so nothing is charged but the time.

        Raises:
            PrivacyError: The client has finished its work.
            SettingsError: It holds out no image.
        """
        hold_out = self._own(self._hold_out)
        if not len(hold_out):
            raise SettingsError(
                f"client {self.info.id} holds out no image of its {self.info.samples} to measure "
                f"on, at partition.validation = {self.cell.partition.validation}; give it a larger "
                "share, such as 0.1, or larger clients"
            )
        return count_right(self._context, unhooked(model), hold_out) / len(hold_out)

    def close(self) -> None:
        """Let go of the data."""
        self._split = self._hold_out = None

    def train_classifier(
        self,
        recipe: Recipe,
        init: Mapping[str, Tensor] | str | None = None,
        snapshots: Sequence[int] = (),
        proximal: float = 0.0,
        logit_bound: LogitBound | None = None,
        ops: Sequence[dsa.Op] = (),
    ) -> Trained:
        """Train this client's architecture on its data, once for all methods that ask for it.

        The same recipe, data, round and initial weights give the same artefact. Only trainings
        that start from the common initial weights, or from weights that a name gives, are kept in
        the store: other weights occur once.

        Args:
            recipe: How to train.
            init: Weights and buffers to start from; a name, such as ``expert-3``, for weights and
                batches of its own; None takes the common initial weights.
            snapshots: Epochs, from 0 (before training), after which weights are kept as well.
            proximal: μ of FedProx: (μ/2)·‖θ−θ₀‖² is added to the loss.
            logit_bound: Bound on the length of the logits that the loss sees.
            ops: Differentiable augmentation instead of the recipe's (see ``Stream``).

        Returns:
            The trained weights, on the CPU.

        Raises:
            ModelError: The weights do not fit the client's architecture.
            SettingsError: A snapshot lies beyond the last epoch.
        """
        if snapshots and not 0 <= min(snapshots) <= max(snapshots) <= recipe.epochs:
            raise SettingsError(
                f"snapshots {list(snapshots)} reach beyond the recipe's epochs; "
                f"keep them within 0 and {recipe.epochs}"
            )
        name = init if isinstance(init, str) else None
        net = self.build(self.info.model, name)
        common = not isinstance(init, Mapping) or _equal(init, net.state_dict())
        if isinstance(init, Mapping) and not common:
            load(net, init)

        def build() -> dict[str, Tensor]:
            names = ("round", self.round) if name is None else ("training", name)
            loader = self.loader(self.data, recipe, *names, ops=ops)
            module = _classifier(net, recipe, len(loader), proximal, logit_bound)
            return self._train(module, loader, recipe.epochs, snapshots)

        if common:
            started = self.cell.method.started(self.info.model)
            settings: dict[str, Any] = {
                "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
                "model": started.model_dump(mode="json", exclude_none=True),
                "versions": [Recipe.version, MODELS.get(self.info.model.name).version],
                "round": self.round,
                "snapshots": list(snapshots),
                "proximal": proximal,
            }
            if logit_bound is not None:
                settings["logit_bound"] = asdict(logit_bound)
            if ops:
                settings["ops"] = list(ops)
            if name is not None:
                settings |= {"init": name, "round": None}
            return _trained(self.artefact("classifier", settings, build).tensors, snapshots)
        with self._context.clock.side("client"):
            return _trained(build(), snapshots)

    def _train(
        self, module: Classifier, loader: Stream, epochs: int, snapshots: Sequence[int]
    ) -> dict[str, Tensor]:
        """Train from one snapshot to the next, each a stage; return all that was asked for."""
        net, progress = module.net, self._context.progress
        ends = sorted({*snapshots, epochs})
        if ends == [epochs]:
            progress.enter(f"client {self.info.id}", epochs)
            self._fit(module, loader, "classifier", epochs=epochs)
            return prefixed(_copy(net), "final/")
        kept = self.trail()
        for step in self.stages("classifier", len(ends), keep={"module": module, "kept": kept}):
            start = ends[step - 1] if step else 0
            progress.enter(f"client {self.info.id}", epochs)
            more = ends[step] - start
            self._fit(module, loader, "part", epochs=more, keep_optimizer=True, done=start)
            kept.append(_copy(net))
        found, tensors = dict(zip(ends, kept, strict=True)), prefixed(_copy(net), "final/")
        for epoch in snapshots:
            tensors |= prefixed(found[epoch], f"{epoch}/")
        return tensors

    def _own(self, split: Split | None) -> Split:
        if split is None:
            raise PrivacyError(
                f"client {self.info.id} has finished its work, so its data is out "
                "of reach; send what the server needs as a message"
            )
        return split

    def _origin(self) -> dict[str, Any]:
        return {**super()._origin(), "data": self._digest}


def split_digest(
    fingerprint: str, indices: bytes, normalisation: str, domain: str = "plain"
) -> str:
    """Return the digest that names a client's data in artefact keys.

    Args:
        fingerprint: The data set's.
        indices: The positions of the client's images, as int64 bytes.
        normalisation: How pixels are scaled.
        domain: How its images look (see ``data.domains``).
    """
    skew = "" if domain == "plain" else f"{domain}|"
    head = f"{fingerprint}|{normalisation}|{skew}".encode()
    return hashlib.sha256(head + indices).hexdigest()


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value.cpu(), other[name].cpu()) for name, value in one.items()
    )


def _classifier(
    net: Net, recipe: Recipe, steps: int, proximal: float, logit_bound: LogitBound | None
) -> Classifier:
    from fedbench.training.classifier import Classifier

    return Classifier(
        net, recipe, steps_per_epoch=steps, proximal=proximal, logit_bound=logit_bound
    )


def _copy(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}


def _trained(tensors: Mapping[str, Tensor], snapshots: Sequence[int]) -> Trained:
    kept = tuple(part(tensors, f"{epoch}/") for epoch in snapshots)
    return Trained(part(tensors, "final/"), kept)
