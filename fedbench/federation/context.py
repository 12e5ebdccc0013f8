"""What both sides of a cell may use, and none of it is data: settings, shapes, trainers, places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fedbench.federation.journal import Journal
from fedbench.federation.ledger import Clock
from fedbench.models.inference import Inference

if TYPE_CHECKING:
    from fedbench.config import Cell
    from fedbench.data.layouts import Kind
    from fedbench.data.normalisation import Normalisation
    from fedbench.federation.artefacts import ArtefactStore
    from fedbench.federation.resources import Resource
    from fedbench.models.net import Net
    from fedbench.models.settings import Model
    from fedbench.training.pool import TrainerPool
    from fedbench.training.recipe import Augment


@dataclass(frozen=True)
class ImageShape:
    """What every participant knows of the images before it has seen one.

    Attributes:
        channels: 1 or 3.
        size: Height and width in pixels.
        classes: Number of classes.
        normalisation: How pixels become what networks see.
        augment: What a recipe's ``standard`` augmentation means here.
    """

    channels: int
    size: int
    classes: int
    normalisation: Normalisation
    augment: Kind

    def augmentation(self, asked: Augment) -> Kind:
        """Return what a setting's augmentation means here: ``standard`` is the data set's own."""
        return self.augment if asked == "standard" else asked


@dataclass
class Progress:
    """Where a cell is, for whoever watches; every change calls ``show``.

    Attributes:
        round: The round in hand, from 1; 0 before the first.
        rounds: How many there are.
        stage: What is being done, such as ``client 3``.
        done: Epochs of the fit in hand.
        total: Its epochs.
        show: Called with this object after each change.
    """

    round: int = 0
    rounds: int = 0
    stage: str = ""
    done: int = 0
    total: int = 0
    show: Callable[[Progress], None] = field(default=lambda _: None, repr=False)

    def enter(self, stage: str, total: int = 0, done: int = 0) -> None:
        """Begin a stage of so many epochs, or come back to it."""
        self.stage, self.done, self.total = stage, done, total
        self.show(self)

    def advance(self, done: int, total: int) -> None:
        """Say how many of a stage's epochs are done."""
        self.done, self.total = done, total
        self.show(self)


@dataclass(frozen=True)
class Context:
    """The means of one cell.

    Attributes:
        cell: The settings.
        shape: The images' shape and normalisation.
        device: Where tensors are computed with.
        pool: Lends Lightning Trainers.
        artefacts: The shared store.
        scratch: A folder of this cell that survives a kill and is deleted with success.
        digest: SHA-256 of the data and who holds which; part of the server's artefacts' keys.
        clock: Charges seconds to the sides.
        resource: Loads a public resource by name.
        progress: Where the cell is.
        journal: What has been done.
    """

    cell: Cell
    shape: ImageShape
    device: torch.device
    pool: TrainerPool
    artefacts: ArtefactStore
    scratch: Path
    digest: str
    clock: Clock
    resource: Callable[[str], Resource]
    progress: Progress = field(default_factory=Progress)
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "journal", Journal(self.scratch, self.clock))

    @property
    def inference(self) -> Inference:
        """Asks networks in float32, as evaluation does, whatever the cell's precision."""
        return Inference(self.shape.normalisation, self.device)

    def build(self, model: Model, name: str | None = None) -> Net:
        """Return a network with the weights that every method starts from for its architecture.

        Args:
            model: The architecture.
            name: Of other initial weights.
        """
        from fedbench.models.factory import build
        from fedbench.seeding import derive

        shape, model = self.shape, self.cell.method.started(model)
        names = () if name is None else (name,)
        seed = derive(self.cell.seed, "initialisation", model.label, *names)
        return build(
            model,
            channels=shape.channels,
            size=shape.size,
            classes=shape.classes,
            seed=seed,
            device=self.device.type,
        )
