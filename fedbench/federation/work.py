"""What a client and the server can do: train, compute, keep artefacts, draw random numbers.

``Work`` is the base of ``Client``, which holds its own images while it works and not a moment
longer, and of ``Server``, which holds none. Neither holds test data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fedbench.config import Cell, family_plugins
from fedbench.data import dsa
from fedbench.data.dataset import Split
from fedbench.data.stream import Columns, Stream
from fedbench.errors import FedbenchError, ModelError
from fedbench.federation.artefacts import Artefact
from fedbench.federation.context import Context, ImageShape
from fedbench.federation.ledger import Side
from fedbench.federation.stages import FitCheckpoint, Kept, Place, stages
from fedbench.federation.trail import Trail
from fedbench.models.inference import Inference
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.registry import plugin_digest
from fedbench.seeding import Name, derive, generator
from fedbench.training.recipe import Recipe

if TYPE_CHECKING:
    from lightning import LightningModule


class Work:
    """What both sides share.

    Args:
        context: The cell's means.
        scope: Names that tell this worker's random numbers and files from others'.

    Attributes:
        state: Tensors that outlive a call, by name; between calls they are on the CPU.
        round: The round in hand, from 0.
    """

    _side: ClassVar[Side]

    def __init__(self, context: Context, scope: tuple[Name, ...]) -> None:
        self._context, self._scope = context, scope
        self.state: dict[str, Tensor] = {}
        self.enter("setup")

    def enter(self, phase: str, round: int = 0) -> None:
        """Begin a phase of the cell: work in it is told apart from that in others.

        Args:
            phase: ``setup``, ``round-N`` or ``models``.
            round: From 0.
        """
        self.round = round
        path = "/".join([phase, *(str(name) for name in self._scope)])
        self._place = Place(path, derive(self.cell.seed, "noise", path))

    @contextmanager
    def apart(self, name: str) -> Iterator[None]:
        """Tell the block's work apart from other work of the phase, in which it may not happen.

        Args:
            name: Occurs once a phase.
        """
        outer = self._place
        path = f"{outer.path}/{name}"
        self._place = Place(path, derive(self.cell.seed, "noise", path))
        try:
            yield
        finally:
            self._place = outer

    @property
    def path(self) -> str:
        """Where in the cell's work this worker is, such as ``round-3/client/1``."""
        return self._place.path

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

    def derive(self, *names: Name) -> int:
        """Return a seed derived from the cell's seed, this worker and names."""
        return derive(self.cell.seed, *self._scope, *names)

    def build(self, model: Model, name: str | None = None) -> Net:
        """Return a network of an architecture with the initial weights that all methods share.

        Args:
            model: The architecture.
            name: For other initial weights, which are the same wherever this name is given.
        """
        return self._context.build(model, name)

    def loader(
        self, split: Split, recipe: Recipe, *names: Name, ops: Sequence[dsa.Op] = ()
    ) -> Stream:
        """Return shuffled, augmented, normalised batches, seeded by this worker and names.

        Args:
            split: uint8 images and their labels.
            recipe: Gives batch size and augmentation.
            *names: What the loader is for.
            ops: Differentiable augmentation instead of the recipe's.
        """
        shape = self.shape
        return Stream(
            Columns(split.images.to(self.device), split.labels.to(self.device)),
            batch_size=recipe.batch_size,
            seed=self.derive(*names),
            normalisation=shape.normalisation,
            augment=shape.augmentation(recipe.augment),
            ops=ops,
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

        Noise that the module draws follows the cell's seed, this worker, the round, the fit's name
        and its step.

        Args:
            module: Trained in place. What it needs beside its state dict to go on after a kill
                belongs into its ``on_save_checkpoint``.
            data: An iterable of batches, such as ``loader`` returns.
            name: Tells the fits of one worker apart: progress shows it, resuming relies on it.
            epochs: Passes over the data; this or ``steps``.
            steps: Batches; the data is iterated as often as that takes.
            keep_optimizer: Go on with the module's optimiser of the fit before.

        Raises:
            TrainingError: The loss is not finite.
        """
        self._context.progress.enter(name, epochs or 0)
        self._fit(module, data, name, epochs=epochs, steps=steps, keep_optimizer=keep_optimizer)

    def _fit(
        self,
        module: LightningModule,
        data: Iterable[Any],
        name: str,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        keep_optimizer: bool = False,
        done: int = 0,
    ) -> None:
        """Run a fit, whose first epoch progress shows as the one after ``done``."""
        (path, seed), progress = self._place.next(f"fit {name}"), self._context.progress
        self._context.pool.fit(
            module,
            data,
            epochs=epochs,
            steps=steps,
            keep_optimizer=keep_optimizer,
            seed=seed,
            checkpoint=FitCheckpoint(self._context.journal, path),
            on_epoch=lambda epoch, total, loss: progress.advance(
                done + epoch, max(done + total, progress.total)
            ),
        )

    def stages(self, name: str, count: int, *, keep: Mapping[str, Kept]) -> Iterator[int]:
        """Yield the steps of long work that are not done yet, and commit after each.

        A kill costs the step in hand. (Where committing would take more than 2 % of the time,
        several quick steps are committed together.) What steps change and what comes after them
        reads has to be in ``keep``; the worker's state must not change meanwhile. The code before
        the loop runs again after a kill, and has to lead to the same. A step's random numbers are
        derived from its number, or come from a kept generator.

            trials: list[float] = []
            for step in server.stages("search", 20, keep={"trials": trials}):
                trials.append(evaluate(step))

        Args:
            name: Tells series apart; several of one name are told apart by their order.
            count: Steps in all, from 0.
            keep: By name: modules (a LightningModule with the optimisers that ``keep_optimizer``
                goes on with; its network alone would come back without them),
                ``torch.Generator``, a ``Stream`` that is iterated by hand, ``Trail``, and
                dictionaries and lists of tensors and plain values, which are filled in place.

        Yields:
            0 to ``count - 1``, less what is done.

        Raises:
            FedbenchError: Something that cannot be kept, or the state changed.
        """
        context, outer = self._context, self._place
        path, seed = outer.next(f"stages {name}")
        context.progress.enter(name, count)
        try:
            state = self.state
            for step in stages(context.journal, path, count, keep, state, self.device):
                self._place = Place(f"{path}/{step}", derive(seed, step))
                yield step
                if self.state is not state:
                    raise FedbenchError(
                        f"the worker's state was replaced inside the stages {path}, where a kill "
                        "would lose that; set it after the loop"
                    )
                context.progress.enter(name, count, step + 1)
        finally:
            self._place = outer

    def trail(self) -> Trail:
        """Return an empty list of named tensors that grows on disk (see ``stages``)."""
        return Trail(self._context.journal.shelf)

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

    @property
    def inference(self) -> Inference:
        """Asks networks in the cell's precision, their heads in float32: how teachers compute."""
        return Inference(
            self.shape.normalisation, self.device, bf16=self.cell.precision == "bf16-mixed"
        )

    def forward(
        self, model: nn.Module, images: Tensor, what: Literal["logits", "features"] = "logits"
    ) -> Tensor:
        """Return a network's outputs, computed in eval mode, in float32 and in batches.

        Args:
            model: Moved to the device.
            images: (N, C, H, W), uint8 or already normalised floats.
            what: ``logits`` (N, classes), or penultimate ``features`` (N, d) of a ``Net``.

        Returns:
            (N, classes) or (N, d) float32 on the device.
        """
        exact = self._context.inference
        if what == "logits":
            return exact.logits(model, images)
        assert isinstance(model, Net)
        return exact.features(model, images)

    def describe(self, model: Net, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return a network's penultimate features and logits, computed in one pass in eval mode.

        Args:
            model: Moved to the device.
            images: (N, C, H, W), uint8 or already normalised floats.

        Returns:
            (N, d) in the cell's precision and (N, classes) float32, on the device.
        """
        return self.inference.both(model, images)

    def artefact(
        self,
        name: str,
        settings: Mapping[str, Any],
        build: Callable[[], Mapping[str, Tensor]],
        *,
        public: bool = False,
        libraries: Mapping[str, str] | None = None,
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
            libraries: Versions of libraries besides torch that compute it: others make another
                artefact, of the same noise.
        """
        clock, side, journal = self._context.clock, self._side, self._context.journal
        asked = {"settings": dict(settings), "origin": {} if public else self._origin()}
        asked |= self._plugins(build)
        # Noise must not tell which worker of which cell has built what all of them share.
        known = json.dumps([name, asked], sort_keys=True)
        asked |= {"libraries": dict(libraries)} if libraries else {}
        key = self._context.artefacts.key(name, asked)
        outer = self._place
        inner = Place(f"{outer.path}/artefact {key}", derive(0, "artefact", known))

        def work() -> Mapping[str, Tensor]:
            journal.begin_build(key, side)
            self._place = inner
            try:
                with clock.side(side):
                    return build()
            except BaseException:
                journal.break_off_build(key)
                raise
            finally:
                self._place = outer

        with clock.side("harness"):
            found = self._context.artefacts.get(name, asked, work, lambda: journal.end_build(key))
        mark = "/".join([*(str(part) for part in self._scope), key])
        if found.shared and mark not in journal.now.charged:
            clock.add_shared(side, found.seconds, spent=journal.end_build(key))
        journal.now.charged.add(mark)
        journal.forget(inner.path)
        if not found.shared and journal.due:
            journal.save()
        return found

    def _plugins(self, build: Callable[[], Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return the digests of the plugin files that define the networks or what builds."""
        digest = plugin_digest(build)
        found = family_plugins(self.cell) | ({} if digest is None else {"build": digest})
        return {"plugins": found} if found else {}

    def _origin(self) -> dict[str, Any]:
        return {
            "scope": list(self._scope),
            "seed": self.cell.seed,
            "shape": [
                self.shape.channels,
                self.shape.size,
                self.shape.classes,
                *self.shape.normalisation.to_json().values(),
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


def count_right(context: Context, model: nn.Module, split: Split) -> int:
    """Return how many images a model classifies rightly.

    Args:
        context: The cell's means.
        model: A copy without hooks (see ``unhooked``), or its owner sees the images.
        split: The images.
    """
    logits = context.inference.logits(model, split.images)
    return int((logits.argmax(dim=1).cpu() == split.labels.cpu()).sum())
