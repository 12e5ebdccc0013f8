"""Distribution matching at a client: its statistics, its own small set, and the settings of both.

``collabdm`` sends statistics up and lets the server match them; ``local_dm`` matches them where
they are. Seeds of networks are derived by name, so both see their data through the same networks
and share what that took; statistics do not depend on budget or expansion either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from fedbench.config import Cell, MethodConfig
from fedbench.data import dsa
from fedbench.data.specs import DATASETS
from fedbench.errors import TrainingError
from fedbench.federation.client import Client
from fedbench.federation.method import training_images
from fedbench.federation.work import Work
from fedbench.models.families import MODELS
from fedbench.models.settings import Model, why_not
from fedbench.seeding import derive
from fedbench.synthesis import expansion
from fedbench.synthesis.matching.distribution import (
    Descent,
    Embedding,
    MomentLoader,
    Moments,
    class_moments,
)
from fedbench.synthesis.sets import SetMethod, set_images

#: Networks whose statistics make one artefact and one message: about 2 MB with 2,048 features and
#: ten classes. Longer runs share the artefacts of shorter ones.
SHELF = 25

_VERSION = 2  # of statistics and local sets: part of their artefacts' keys


class MatchingConfig(MethodConfig):
    """Settings of every method by distribution matching."""

    iterations: int = Field(400, ge=0)  # CollabDM
    """T: one step on each of T+1 random networks."""
    embedding: Model | None = None  # CollabDM: the network that is trained on the set as well
    """Architecture of the random networks; None takes the cell's."""
    samples: int | None = Field(None, ge=1)  # fedbench: exact means; CollabDM 100, DM 256
    """Real images of a class, drawn anew for each network; None takes all that a client holds."""
    augment: str = dsa.STRATEGY  # DSA, CollabDM; DSA's authors leave out the flip for digits
    """Siamese augmentation in matching: operations joined by `_`, or `none`."""
    expand: int = Field(1, ge=1)  # CollabDM: --aug sets 2
    """l: every image is a canvas of l x l smaller ones, in matching and in training on the set."""
    step: Literal["joint", "classwise"] = "joint"  # fedbench: DM; classwise drifts (see Descent)
    """One step for all classes of an iteration, or one after each class, as CollabDM has it."""
    lr: float = Field(20.0, gt=0)  # fedbench: CollabDM's 10 with momentum .5 acts like 20 without
    """Learning rate of the images; the loss is a sum over features."""
    momentum: float = Field(0.0, ge=0, lt=1)  # fedbench: see lr; CollabDM, DM .5
    """Momentum of SGD over the images."""
    student_dsa: bool = False  # fedbench: the same training for all shared sets; CollabDM, DM true
    """Train on the set with the operations of `augment`, instead of the recipe's augmentation."""

    @field_validator("augment")
    @classmethod
    def _known(cls, value: str) -> str:
        dsa.parse(value)
        return value

    @property
    def descent(self) -> Descent:
        """How images move."""
        return Descent(self.step, self.lr, self.momentum)

    @property
    def student_ops(self) -> tuple[dsa.Op, ...]:
        """Differentiable augmentation of the training on the set."""
        return dsa.parse(self.augment) if self.student_dsa else ()


class MatchingMethod(SetMethod):
    """Base of methods by distribution matching."""

    config: MatchingConfig

    def skip(self, cell: Cell) -> str | None:
        """Ask for networks without BatchNorm that take the images, and a factor that divides."""
        if (reason := super().skip(cell)) is not None:
            return reason
        if self.config.embedding is None and len(set(cell.models)) > 1:
            return "random networks need one architecture; set the method's `embedding`"
        size, model = cell.data.size, self.config.embedding or cell.models[0]
        if MODELS.get(model.name).has_batch_norm(model, size):
            return (
                f"embeddings by {model.label} would depend on the batch, because it has BatchNorm; "
                "set the method's `embedding` to a convnet"
            )
        if (
            reason := why_not(model, size) or expansion.check(self.config.expand, size)
        ) is not None:
            return reason
        return self._without_operations(cell)

    def _without_operations(self, cell: Cell) -> str | None:
        """Say that a training with the operations of ``augment`` would have none of them."""
        own = cell.student.augment
        own = DATASETS.get(cell.data.name).augment if own == "standard" else own
        if not self.config.student_dsa or dsa.parse(self.config.augment) or own == "none":
            return None
        return (
            "`student_dsa` trains with the operations of `augment`, which are none, and would "
            f"leave the student's {own}: set `student.augment` to none, or `student_dsa` to false"
        )

    def embedding(self, worker: Work) -> Embedding:
        """Return the cell's random networks and augmentations."""
        shape, model = worker.shape, self.config.embedding or worker.cell.models[0]
        ops = dsa.parse(self.config.augment)
        return Embedding(model, shape.channels, shape.size, shape.classes, worker.device, ops)

    def training_passes(self, cell: Cell) -> float | None:
        """Return passes of the synthetic images: in matching, and in training on the set."""
        images = set_images(cell)
        seen = None if images is None else images * self.config.expand**2
        return seen and float(seen * (self.config.iterations + 1 + cell.student.epochs))

    def real_images(self, cell: Cell, samples: int | None) -> int | None:
        """Return how many images a network sees of all clients, at most; None where unknown.

        Args:
            cell: Whose clients.
            samples: Of a class at a client; None for all that it holds.
        """
        images = training_images(cell)
        if images is None or samples is None:
            return images
        classes = len(DATASETS.get(cell.data.name).classes)
        return min(images, samples * classes * cell.partition.clients) if classes else images


def network_seeds(seed: int, count: int) -> list[int]:
    """Return the seeds of a cell's first random networks; longer lists begin like shorter ones."""
    return [derive(seed, "network", number) for number in range(count)]


def by_class(client: Client) -> dict[int, Tensor]:
    """Return a client's images by label, (n, C, S, S) normalised floats on its device."""
    data = client.data
    images = client.shape.normalisation(data.images.to(client.device))
    labels = data.labels.to(client.device)
    return {label: images[labels == label] for label in torch.unique(labels).tolist()}


def statistics(
    client: Client,
    images: Mapping[int, Tensor],
    embedding: Embedding,
    seeds: Sequence[int],
    samples: int | None,
) -> Iterator[Tensor]:
    """Yield a client's class means under random networks, some networks at a time.

    They are artefacts, and memory does not grow with the number of networks.

    Args:
        client: Whose.
        images: From ``by_class``.
        embedding: Networks and augmentations.
        seeds: Of the networks.
        samples: See ``MatchingConfig``.

    Yields:
        (n, P, d) float32 on the CPU: of the next n networks (``SHELF``, or what is left) and the
        client's P classes, ascending.
    """
    settings = {**identity(embedding), "samples": samples}
    bf16 = client.cell.precision == "bf16-mixed"

    def build(part: Sequence[int]) -> dict[str, Tensor]:
        found = (
            class_moments(embedding, seed, images, samples=samples, bf16=bf16) for seed in part
        )
        return {"means": torch.stack([moments.means.cpu() for moments in found])}

    for start in range(0, len(seeds), SHELF):
        part = list(seeds[start : start + SHELF])
        found = client.artefact("class-means", {**settings, "seeds": part}, partial(build, part))
        yield found.tensors["means"]


def replayed(
    labels: Sequence[int], seeds: Sequence[int], shelves: Sequence[Tensor]
) -> Callable[[int], Moments]:
    """Return the moments of each step from what ``statistics`` gave, over again after the last.

    Args:
        labels: The classes of its rows, ascending.
        seeds: Of the networks, at least one, no more than there are statistics for.
        shelves: What it gave.
    """

    def moments(step: int) -> Moments:
        place = step % len(seeds)
        return Moments(seeds[place], tuple(labels), shelves[place // SHELF][place % SHELF])

    return moments


def fresh(
    client: Client,
    images: Mapping[int, Tensor],
    embedding: Embedding,
    samples: int,
    *,
    with_stds: bool,
) -> Callable[[int], Moments]:
    """Return the moments of each step from images and networks drawn for it, at this client alone.

    Args:
        client: Whose.
        images: From ``by_class``.
        embedding: Networks and augmentations.
        samples: Images of a class.
        with_stds: Standard deviations as well.
    """
    bf16 = client.cell.precision == "bf16-mixed"

    def moments(step: int) -> Moments:
        seed = client.generator("network", step).initial_seed()
        return class_moments(
            embedding, seed, images, samples=samples, with_stds=with_stds, bf16=bf16
        )

    return moments


def local_set(
    client: Client,
    start: tuple[Tensor, Tensor],
    embedding: Embedding,
    moments: Callable[[int], Moments],
    *,
    steps: int,
    descent: Descent,
    factor: int,
    source: Mapping[str, Any],
) -> tuple[Tensor, Tensor]:
    """Return a client's own synthetic set, distilled from its moments; an artefact.

    Args:
        client: Whose.
        start: Images and labels from ``real_start``.
        embedding: Networks and augmentations.
        moments: Those of each step.
        steps: How many there are.
        descent: How images move.
        factor: See ``MatchingConfig.expand``.
        source: JSON values that tell these moments from others of this client.

    Returns:
        (n, C, S, S) float32 in normalised space and (n,) int64 labels, ascending, on the CPU.
    """
    images, labels = start

    def build() -> dict[str, Tensor]:
        from fedbench.synthesis.matching.matcher import DistributionMatching

        module = DistributionMatching(images, labels, embedding, descent, factor=factor)
        loader = MomentLoader(moments, steps, seed=client.derive("local set"))
        client.fit(module, loader, name="local set", steps=steps)
        return {"images": module.images.detach()}

    if not len(labels) or not steps:
        return images.cpu(), labels.cpu()
    settings = {
        **identity(embedding),
        "counts": torch.bincount(labels).tolist(),
        "steps": steps,
        "descent": asdict(descent),
        "factor": factor,
        "source": dict(source),
    }
    return client.artefact("local-set", settings, build).tensors["images"], labels.cpu()


def real_start(
    client: Client, images: Mapping[int, Tensor], shares: Sequence[int], factor: int
) -> tuple[Tensor, Tensor]:
    """Draw real images to start from: as they are, or shrunk onto canvases.

    Args:
        client: Whose; seeds the draw.
        images: From ``by_class``.
        shares: Images of each class.
        factor: l; each tile of the canvases has a draw of its own.

    Returns:
        (n, C, S, S) and (n,) int64, ascending.

    Raises:
        TrainingError: The client holds fewer images of a class.
    """
    parts, shape = [], client.shape
    for label, share in enumerate(shares):
        own = images.get(label)
        if share > (0 if own is None else len(own)):
            raise TrainingError(
                f"client {client.info.id} holds {0 if own is None else len(own)} images of class "
                f"{label}, and {share} are to start from; lower budget.ipc or use fewer clients"
            )
        if own is not None and share:
            source = client.generator("initial images", label)
            draws = [torch.randperm(len(own), generator=source)[:share] for _ in range(factor**2)]
            parts.append(expansion.compose(own[torch.cat(draws).to(own.device)], factor))
    empty = torch.empty(0, shape.channels, shape.size, shape.size, device=client.device)
    return torch.cat([empty, *parts]), torch.arange(len(shares)).repeat_interleave(
        torch.tensor(shares)
    )


def identity(embedding: Embedding) -> dict[str, Any]:
    """Return what artefacts depend on by their networks and augmentations, as JSON values."""
    model = embedding.model
    return {
        "model": model.model_dump(mode="json", exclude_none=True),
        "versions": [_VERSION, MODELS.get(model.name).version],
        "ops": list(embedding.ops),
    }
