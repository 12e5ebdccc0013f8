"""What a client and the server can do: train, compute, keep artefacts, draw random numbers.

``Work`` is the base of ``Client``, which holds its own images while it works and not a moment
longer, and of ``Server``, which holds none. Neither knows test data: a method that reaches for what
its side does not hold gets a ``PrivacyError``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

import torch
from torch import Tensor, nn

from fedbench.config import Cell
from fedbench.data.dataset import Split
from fedbench.data.loaders import BatchLoader
from fedbench.errors import ModelError, PrivacyError
from fedbench.evaluation.describe import describe
from fedbench.evaluation.predict import outputs
from fedbench.federation.artefacts import Artefact
from fedbench.federation.context import Context, ImageShape
from fedbench.federation.ledger import Side
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.seeding import Name, derive, generator
from fedbench.training.recipe import Recipe

if TYPE_CHECKING:
    from lightning import LightningModule

_PRIVATE = frozenset(
    {"data", "dataset", "images", "labels", "train", "test", "validation", "held_out", "population"}
)


class Work:
    """What both sides share.

    Args:
        context: The cell's means.
        scope: Names that tell this worker's random numbers and files from others'.
    """

    _side: ClassVar[Side]

    def __init__(self, context: Context, scope: tuple[Name, ...]) -> None:
        self._context, self._scope = context, scope
        self.round, self._fits = 0, Counter[str]()

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
        resume: bool = True,
    ) -> None:
        """Run a Lightning module on a lent Trainer; a killed fit goes on from its last checkpoint.

        Args:
            module: Trained in place.
            data: An iterable of batches, such as ``loader`` returns.
            name: Tells the fits of one worker apart: progress shows it, resuming relies on it.
            epochs: Passes over the data; this or ``steps``.
            steps: Batches; the data is iterated as often as that takes.
            keep_optimizer: Go on with the module's optimiser of the fit before.
            resume: Save checkpoints; False for a fit that does more than train, such as ask
                clients, which has to happen again after a kill.

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
            checkpoint=self.scratch / self._ticket(name) if resume else None,
            on_epoch=lambda done, total, loss: progress.advance(done, total),
        )

    def _ticket(self, name: str) -> str:
        """Return the checkpoint's file name of this worker's next fit in this round.

        It holds the fit's place among those of its name in the round, so that two of them do not
        resume from each other's file. Fits of other names do not count: one whose result is an
        artefact by now does not happen again.
        """
        self._fits[name] += 1
        return f"round-{self.round}-{name.replace(' ', '-')}-{self._fits[name]}.ckpt"

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
        from fedbench.training.classifier import Classifier

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

    def describe(self, model: Net, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return a network's penultimate features and logits, computed in one pass in eval mode.

        Args:
            model: Moved to the device and left in eval mode.
            images: (N, C, H, W), uint8 or already normalised floats.

        Returns:
            (N, d) and (N, classes) on the device; features in the cell's precision.
        """
        return describe(
            model,
            images,
            mean=self.shape.mean,
            std=self.shape.std,
            device=self.device,
            autocast=self.cell.precision == "bf16-mixed",
        )

    def artefact(
        self,
        name: str,
        settings: Mapping[str, Any],
        build: Callable[[], Mapping[str, Tensor]],
        *,
        public: bool = False,
    ) -> Artefact:
        """Return an artefact of this worker from the store, building it if it is not there.

        Its seconds are charged to this worker once, however often it asks.

        Args:
            name: What it is; a folder name.
            settings: All that its values depend on besides this worker's origin, as JSON values;
                a version of the code that builds it, too.
            build: Computes the tensors.
            public: Its values depend on the settings alone, so every worker of every cell shares
                it. Otherwise its origin counts as well: for a client its data and the seed, for
                the server all of the cell.
        """
        clock, side = self._context.clock, self._side

        def charged() -> Mapping[str, Tensor]:
            with clock.side(side):
                return build()

        with clock.side("harness"):
            asked = {"settings": dict(settings), "origin": {} if public else self._origin()}
            found = self._context.artefacts.get(name, asked, charged)
        mark = (*self._scope, found.key)
        if found.shared and mark not in self._context.charged:
            clock.add_shared(side, found.seconds)
        self._context.charged.add(mark)
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


def load(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy weights and buffers into a network.

    Raises:
        ModelError: Names or shapes differ.
    """
    try:
        net.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ModelError(f"weights do not fit {type(net).__name__}: {error}") from error
