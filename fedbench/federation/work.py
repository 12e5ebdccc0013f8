"""What a client and the server can do: train, compute, keep artefacts, draw random numbers.

``Client`` holds its own images while it works and not a moment longer; ``Server`` holds none.
Neither knows test data. A method that reaches for what its side does not hold gets a
``PrivacyError``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import torch
from lightning import LightningModule
from torch import Tensor, nn

from fedbench.config import Cell, Model, Recipe
from fedbench.data.dataset import Split
from fedbench.data.loaders import BatchLoader
from fedbench.errors import ModelError, PrivacyError, SettingsError
from fedbench.evaluation.predict import outputs
from fedbench.federation.artefacts import Artefact
from fedbench.federation.context import Context, ImageShape
from fedbench.federation.ledger import Side
from fedbench.federation.resources import Resource
from fedbench.models.net import Net
from fedbench.registry import MODELS
from fedbench.seeding import Name, derive, generator
from fedbench.training.classifier import Classifier

_PRIVATE = frozenset(
    {"data", "dataset", "images", "labels", "train", "test", "validation", "held_out", "population"}
)


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


class Work:
    """What both sides share.

    Args:
        context: The cell's means.
        scope: Names that tell this worker's random numbers and files from others'.
    """

    _side: ClassVar[Side]

    def __init__(self, context: Context, scope: tuple[Name, ...]) -> None:
        self._context, self._scope = context, scope

    def __getattr__(self, name: str) -> NoReturn:
        if name in _PRIVATE:
            raise PrivacyError(
                f"{type(self).__name__.lower()} has no {name!r}: only a client "
                "holds data, its own, and nobody holds test data"
            )
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def cell(self) -> Cell:
        """The cell's settings."""
        return self._context.cell

    @property
    def shape(self) -> ImageShape:
        """The images' shape, number of classes and normalisation."""
        return self._context.shape

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return self._context.device

    @property
    def scratch(self) -> Path:
        """A folder that survives a kill and goes with the cell."""
        folder = self._context.scratch.joinpath(*(str(part) for part in self._scope))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def generator(self, *names: Name) -> torch.Generator:
        """Return a CPU generator derived from the cell's seed, this worker and names."""
        return generator(self.cell.seed, *self._scope, *names)

    def build(self, model: Model) -> Net:
        """Return a network of an architecture with the initial weights that all methods share."""
        return self._context.build(model)

    def loader(self, split: Split, recipe: Recipe, *names: Name) -> BatchLoader:
        """Return shuffled, augmented, normalised batches, seeded by this worker and names.

        Args:
            split: uint8 images and their labels.
            recipe: Gives batch size and augmentation.
            *names: What the loader is for.
        """
        shape = self.shape
        augment = shape.augment if recipe.augment == "standard" else recipe.augment
        return BatchLoader(
            split.images.to(self.device),
            split.labels.to(self.device),
            batch_size=recipe.batch_size,
            seed=derive(self.cell.seed, *self._scope, *names),
            mean=shape.mean,
            std=shape.std,
            augment=augment,
        )

    def fit(
        self,
        module: LightningModule,
        data: Iterable[Any],
        *,
        name: str,
        epochs: int | None = None,
        steps: int | None = None,
        keep_optimizer: bool = False,
    ) -> None:
        """Run a Lightning module on a lent Trainer; a killed fit goes on from its last checkpoint.

        Args:
            module: Trained in place.
            data: An iterable of batches, such as ``loader`` returns.
            name: Tells the fits of one worker apart: progress shows it, resuming relies on it.
            epochs: Passes over the data; this or ``steps``.
            steps: Batches; the data is iterated as often as that takes.
            keep_optimizer: Go on with the module's optimiser of the fit before.

        Raises:
            TrainingError: The loss is not finite.
        """
        progress = self._context.progress
        progress.enter(name, epochs or 0)
        self._context.pool.fit(
            module,
            data,
            epochs=epochs,
            steps=steps,
            keep_optimizer=keep_optimizer,
            checkpoint=self.scratch / f"{name.replace(' ', '-')}.ckpt",
            on_epoch=lambda done, total, loss: progress.advance(done, total),
        )

    def train(
        self, net: nn.Module, split: Split, recipe: Recipe, *, name: str, epochs: int | None = None
    ) -> None:
        """Train a classifier in place by a recipe.

        Args:
            net: Any module that returns logits.
            split: uint8 images and their labels.
            recipe: How.
            name: See ``fit``; also names the batches' random numbers.
            epochs: Instead of the recipe's.
        """
        loader = self.loader(split, recipe, name)
        count = recipe.epochs if epochs is None else epochs
        module = Classifier(net, recipe, epochs=count, steps_per_epoch=len(loader))
        self.fit(module, loader, name=name, epochs=count)

    def forward(
        self, model: nn.Module, images: Tensor, what: Literal["logits", "features"] = "logits"
    ) -> Tensor:
        """Return a network's outputs, computed in eval mode, in float32 and in batches.

        Args:
            model: Moved to the device and left in eval mode.
            images: (N, C, H, W), uint8 or already normalised floats.
            what: ``logits`` (N, classes), or penultimate ``features`` (N, d) of a ``Net``.

        Returns:
            (N, classes) or (N, d) float32 on the device.
        """
        return outputs(
            model,
            images,
            mean=self.shape.mean,
            std=self.shape.std,
            what=what,
            device=self.device,
        )

    def artefact(
        self, name: str, settings: Mapping[str, Any], build: Callable[[], Mapping[str, Tensor]]
    ) -> Artefact:
        """Return an artefact of this worker from the store, building it if it is not there.

        Args:
            name: What it is; a folder name.
            settings: All that its values depend on besides this worker's data and the seed.
            build: Computes the tensors.
        """
        clock, side = self._context.clock, self._side

        def charged() -> Mapping[str, Tensor]:
            with clock.side(side):
                return build()

        with clock.side("harness"):
            found = self._context.artefacts.get(name, {**settings, **self._origin()}, charged)
        if found.shared:
            clock.add_shared(side, found.seconds)
        return found

    def _origin(self) -> dict[str, Any]:
        return {
            "scope": list(self._scope),
            "seed": self.cell.seed,
            "shape": [
                self.shape.channels,
                self.shape.size,
                self.shape.classes,
                list(self.shape.mean),
                list(self.shape.std),
                self.shape.augment,
            ],
        }


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
    ) -> Trained:
        """Train this client's architecture on its data, once for all methods that ask for it.

        The same recipe, data, round and initial weights give the same artefact. Only trainings
        that start from the common initial weights are kept in the store: other weights occur once.

        Args:
            recipe: How to train.
            init: Weights and buffers to start from; None takes the common initial weights.
            snapshots: Epochs, from 0 (before training), after which weights are kept as well.

        Returns:
            The trained weights, on the CPU.

        Raises:
            ModelError: The weights do not fit the client's architecture.
            SettingsError: A snapshot lies beyond the last epoch.
        """
        net = self.build(self.info.model)
        common = init is None or _equal(init, net.state_dict())
        if init is not None and not common:
            load(net, init)

        def build() -> dict[str, Tensor]:
            return self._train(net, recipe, snapshots)

        if common:
            settings = {
                "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
                "model": self.info.model.model_dump(mode="json", exclude_none=True),
                "versions": [Recipe.version, MODELS.get(self.info.model.name).version],
                "round": self.round,
                "snapshots": list(snapshots),
            }
            found = self.artefact("classifier", settings, build)
            return _trained(found.tensors, snapshots, found.seconds, found.shared)
        start = self._context.clock.ledger.seconds["client"]
        with self._context.clock.side("client"):
            tensors = build()
        seconds = self._context.clock.ledger.seconds["client"] - start
        return _trained(tensors, snapshots, seconds, shared=False)

    def _train(self, net: Net, recipe: Recipe, snapshots: Sequence[int]) -> dict[str, Tensor]:
        if snapshots and not 0 <= min(snapshots) <= max(snapshots) <= recipe.epochs:
            raise SettingsError(
                f"snapshots {list(snapshots)} reach beyond the recipe's epochs; "
                f"keep them within 0 and {recipe.epochs}"
            )
        progress, tensors = self._context.progress, {}
        loader = self.loader(self.data, recipe, "round", self.round)
        module = Classifier(net, recipe, epochs=recipe.epochs, steps_per_epoch=len(loader))

        def keep(prefix: str) -> None:
            tensors.update(
                {
                    f"{prefix}/{key}": value.detach().cpu().clone()
                    for key, value in net.state_dict().items()
                }
            )

        def on_epoch(done: int, total: int, loss: float) -> None:
            progress.advance(done, total)
            if done in snapshots:
                keep(str(done))

        if 0 in snapshots:
            keep("0")
        progress.enter(f"client {self.info.id}", recipe.epochs)
        # A checkpoint holds no snapshots, so a fit that keeps some starts over after a kill.
        place = None if snapshots else self.scratch / f"round-{self.round}.ckpt"
        self._context.pool.fit(
            module, loader, epochs=recipe.epochs, checkpoint=place, on_epoch=on_epoch
        )
        keep("final")
        return tensors

    def _origin(self) -> dict[str, Any]:
        return {**super()._origin(), "data": self._digest}


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
        self.state: dict[str, Tensor] = {}
        self.clients = tuple(clients)
        self._resources = tuple(resources)
        self._validate, self._observe = validate, observe

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


def load(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy weights and buffers into a network.

    Raises:
        ModelError: Names or shapes differ.
    """
    try:
        net.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ModelError(f"weights do not fit {type(net).__name__}: {error}") from error


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
    def part(prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }

    return Trained(part("final/"), tuple(part(f"{epoch}/") for epoch in snapshots), seconds, shared)
