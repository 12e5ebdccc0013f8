"""CollabDM: clients send class means of random embeddings, the server makes images that match them.

One round and no weights: seeds of random networks go down; for each network the mean embedding of
every class comes up, and a small set that starts the server off. Where ``local_dm`` unites sets
that were made apart, one set is made here from the means of all.

Source: Holland et al. 2024, "One-Shot Collaborative Data Distillation" (CollabDM),
https://arxiv.org/abs/2408.02266,
and its code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedbench.config import Cell
from fedbench.data.specs import DATASETS
from fedbench.errors import SettingsError, TrainingError
from fedbench.federation.artefacts import tensors_digest
from fedbench.federation.budget import total_images
from fedbench.federation.client import Client, ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import Course, Upload
from fedbench.federation.server import Server
from fedbench.federation.synthetic import SyntheticSet
from fedbench.federation.work import Work
from fedbench.synthesis.matching.distribution import Descent, MomentLoader, Moments
from fedbench.synthesis.matching.local import (
    SHELF,
    MatchingConfig,
    MatchingMethod,
    by_class,
    fresh,
    identity,
    local_set,
    network_seeds,
    real_start,
    replayed,
    statistics,
)
from fedbench.synthesis.sets import set_images

_TYPES = {"fp32": torch.float32, "fp16": torch.float16}


class CollabDMConfig(MatchingConfig):
    """Settings of CollabDM."""

    weighting: Literal["count", "uniform"] = "count"  # fedbench: the mean of all; CollabDM uniform
    """Weight of a client's mean of a class: its images of the class, or one."""
    fraction: float = Field(1.0, gt=0, le=1)  # CollabDM
    """ε: share of the clients, at least one, that each network is assigned to."""
    element: Literal["fp32", "fp16"] = "fp32"  # CollabDM
    """Type of the numbers in which embeddings are sent."""
    initial: Literal["distilled", "noise"] = "distilled"  # CollabDM
    """What the set starts from: small sets distilled by the clients, or normal noise."""
    local_images: Literal["ipc", "share"] = "ipc"  # fedbench: a class may have one owner
    """Images of a class in a client's small set, at most those that it holds: as many as the set
    will have, or `share`, ipc / K rounded down and one more, as CollabDM has it. That is enough
    where most clients hold every class, as `floor_per_class` sees to."""
    local_iterations: int = Field(50, ge=1)  # fedbench: only a start; CollabDM 401
    """Steps of a client's own matching, which begins with real images."""
    local_samples: int | None = Field(None, ge=1)  # fedbench: no further pass; CollabDM 256
    """Real images of a class in each of them; None matches the means that are sent anyway."""
    local_lr: float = Field(20.0, gt=0)  # fedbench: as lr; CollabDM 1
    """Learning rate of a client's own matching."""
    local_momentum: float = Field(0.0, ge=0, lt=1)  # fedbench: as momentum; CollabDM .5
    """Its momentum."""
    local_std: bool = False  # fedbench: CollabDM has it with expanded canvases, at clients only
    """Match standard deviations there where canvases are expanded; needs `local_samples`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.local_std and self.local_samples is None:
            raise ValueError(
                "local_std needs deviations, and the means that are sent anyway have none; set "
                "local_samples to a number such as 256, or local_std to false"
            )
        return self

    @property
    def local_descent(self) -> Descent:
        """How images move at a client."""
        return Descent(self.step, self.local_lr, self.local_momentum)


class CollabDM(MatchingMethod):
    """Collaborative distribution matching: class means of random embeddings, one set."""

    name = "collabdm"
    course = Course(
        down="seeds",
        client="takes class means of its images under random networks",
        up="means, counts, a small set of images",
        server="moves one set of images until it has the means of all",
        leaves="one model, and the set",
    )
    Config = CollabDMConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # CollabDM's code.
        "reference": {
            "samples": 100,
            "step": "classwise",
            "lr": 10.0,
            "momentum": 0.5,
            "student_dsa": True,
            "weighting": "uniform",
            "local_images": "share",
            "local_iterations": 401,
            "local_samples": 256,
            "local_lr": 1.0,
            "local_momentum": 0.5,
            "local_std": True,
        },
        # What we recommend: the defaults, written out.
        "fedbench": {"samples": None, "step": "joint", "lr": 20.0, "momentum": 0.0},
    }
    config: CollabDMConfig

    def skip(self, cell: Cell) -> str | None:
        """Ask for the same whole number of images for every class as well."""
        if (reason := super().skip(cell)) is not None:
            return reason
        images, classes = set_images(cell), len(DATASETS.get(cell.data.name).classes)
        if images is not None and classes and (images < classes or images % classes):
            return _uneven(images, classes)
        return None

    def passes(self, cell: Cell) -> float | None:
        """Return passes of real images, a third each without gradients, and of synthetic ones."""
        config, training = self.config, self.training_passes(cell)
        images = self.real_images(cell, config.samples)
        if images is None or training is None:
            return None
        drawn = images * (config.iterations + 1) * config.fraction
        if config.initial == "distilled" and config.local_samples is not None:
            own = self.real_images(cell, config.local_samples) or 0
            drawn += own * config.local_iterations
        return drawn / 3 + training

    def setup(self, server: Server) -> None:
        """Derive the networks' seeds and assign each network to clients."""
        steps, clients = self.config.iterations + 1, len(server.clients)
        count = max(int(self.config.fraction * clients + 1e-9), 1)  # .29 of 100 is 28.999…
        assigned = torch.zeros(steps, clients, dtype=torch.bool)
        for step in range(steps):
            order = torch.randperm(clients, generator=server.generator("assignment", step))
            assigned[step, order[:count]] = True
        seeds = torch.tensor(network_seeds(server.cell.seed, steps))
        server.state.update({"seeds": seeds, "assigned": assigned})

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message:
        """Send the seeds of the client's networks, eight bytes each."""
        state = server.state
        return Message("seeds", {"seeds": state["seeds"][state["assigned"][:, to.id]]})

    def client_update(
        self, client: Client, received: Message | None, round: int
    ) -> Iterator[Message]:
        """Send image counts by class, class means under each network, and a small set."""
        assert received is not None
        config, embedding, images = self.config, self.embedding(client), by_class(client)
        seeds = received.tensors["seeds"].tolist()
        counts = torch.bincount(client.data.labels.cpu(), minlength=client.shape.classes)
        yield Message("holdings", {"counts": counts})
        kept: list[Tensor] = []
        reused = config.initial == "distilled" and config.local_samples is None
        for means in statistics(client, images, embedding, seeds, config.samples):
            if reused and len(kept) * SHELF < config.local_iterations:
                kept.append(means)
            yield Message("means", {"means": means.to(_TYPES[config.element])})
        if config.initial == "distilled":
            yield self._small_set(client, images, counts, seeds[: SHELF * len(kept)], kept)

    def _small_set(
        self,
        client: Client,
        images: Mapping[int, Tensor],
        counts: Tensor,
        seeds: list[int],
        shelves: list[Tensor],
    ) -> Message:
        """Return the client's small set, distilled from the statistics at hand or from its own."""
        config, embedding = self.config, self.embedding(client)
        steps, source = config.local_iterations, dict[str, Any](samples=config.local_samples)
        moments: Callable[[int], Moments]
        if config.local_samples is not None:
            source["stds"] = config.local_std and config.expand > 1
            moments = fresh(
                client, images, embedding, config.local_samples, with_stds=source["stds"]
            )
        else:
            if not seeds:  # no network was assigned to this client
                seeds = network_seeds(client.cell.seed, steps)
                shelves = list(statistics(client, images, embedding, seeds, config.samples))
            source |= {"seeds": seeds[:steps], "of": config.samples}
            moments = replayed(sorted(images), seeds[:steps], shelves)
        shares = counts.clamp_max(self._local_images(client)).tolist()
        pixels, _ = local_set(
            client,
            real_start(client, images, shares, config.expand),
            embedding,
            moments,
            steps=steps,
            descent=config.local_descent,
            factor=config.expand,
            source=source,
        )
        return Message("images", {"images": pixels})

    def _local_images(self, worker: Work) -> int:
        """Return how many images of a class a client sends, where it holds so many."""
        images = ipc(worker)
        if self.config.local_images == "ipc":
            return images
        return images // worker.cell.partition.clients + 1

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Add the means up as they come, match them, and train one model on the set."""
        config, shape = self.config, server.shape
        means, starts = MeanTable(len(server.state["seeds"]), shape.classes), Handful(ipc(server))
        held = torch.zeros(shape.classes, dtype=torch.int64)
        for upload in uploads:
            held += self._read(server, upload, means, starts)
        labels = held.nonzero().flatten().repeat_interleave(ipc(server))
        if config.initial == "distilled":
            images = starts.take(held.nonzero().flatten().tolist())
        else:
            size = (len(labels), shape.channels, shape.size, shape.size)
            images = torch.randn(size, generator=server.generator("noise"))
        matched = self._match(server, images, labels, means)
        shared = SyntheticSet(matched, labels, shape.normalisation)
        self.conclude(server, shared, ops=config.student_ops, factor=config.expand)

    def _match(self, server: Server, start: Tensor, labels: Tensor, means: MeanTable) -> Tensor:
        """Return the images when they match the means; an artefact, whatever is trained on it."""
        config, embedding = self.config, self.embedding(server)
        seeds = server.state["seeds"].tolist()

        def build() -> dict[str, Tensor]:
            from fedbench.synthesis.matching.matcher import DistributionMatching

            module = DistributionMatching(
                start, labels, embedding, config.descent, factor=config.expand
            )
            loader = MomentLoader(
                lambda step: means.moments(step, seeds[step]),
                len(seeds),
                seed=server.derive("matching"),
            )
            server.fit(module, loader, name="matching", steps=len(seeds))
            return {"images": module.images.detach()}

        settings = {
            **identity(embedding),
            "descent": asdict(config.descent),
            "factor": config.expand,
            "from": tensors_digest(
                {"start": start, "labels": labels, "seeds": server.state["seeds"], **means.tensors}
            ),
        }
        return server.artefact("matched-set", settings, build, public=True).tensors["images"]

    def _read(self, server: Server, upload: Upload, means: MeanTable, starts: Handful) -> Tensor:
        """Take in what a client sent, chunk by chunk, and return its image counts by class."""
        counts = next(upload.chunks).tensors["counts"]
        labels = counts.nonzero().flatten()
        weights = counts[labels] if self.config.weighting == "count" else torch.ones(len(labels))
        steps = server.state["assigned"][:, upload.client.id].nonzero().flatten()
        for chunk in upload.chunks:
            if chunk.kind == "means":
                part = chunk.tensors["means"].float()
                means.add(steps[: len(part)], labels, weights, part)
                steps = steps[len(part) :]
            else:
                shares = counts[labels].clamp_max(self._local_images(server))
                images = chunk.tensors["images"]
                source = server.generator("start", upload.client.id)
                starts.add(labels.repeat_interleave(shares), images, source)
        return counts


class MeanTable:
    """Weighted class means under each network, over the clients read so far: one table for all.

    Args:
        steps: Networks.
        classes: C.
    """

    def __init__(self, steps: int, classes: int) -> None:
        self._weights = torch.zeros(steps, classes)
        self._means: Tensor | None = None

    def add(self, steps: Tensor, labels: Tensor, weights: Tensor, means: Tensor) -> None:
        """Take in a client's means.

        Args:
            steps: (n,) int64, the networks.
            labels: (P,) int64, its classes.
            weights: (P,) of its classes, above 0.
            means: (n, P, d) float32.
        """
        if self._means is None:
            self._means = torch.zeros(*self._weights.shape, means.shape[2])
        place = steps.unsqueeze(1), labels.unsqueeze(0)
        self._weights[place] += weights
        share = weights / self._weights[place]
        self._means[place] += (means - self._means[place]) * share.unsqueeze(2)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What the table holds, by name: (steps, C) ``weights`` and (steps, C, d) ``means``."""
        assert self._means is not None  # every network is assigned to a client
        return {"weights": self._weights, "means": self._means}

    def moments(self, step: int, seed: int) -> Moments:
        """Return the means of the classes that any of a network's clients hold."""
        assert self._means is not None  # every network is assigned to a client
        known = self._weights[step] > 0
        return Moments(seed, tuple(known.nonzero().flatten().tolist()), self._means[step, known])


class Handful:
    """A few images of each class, drawn without replacement from a stream, whatever its length.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._count, self._kept = count, dict[int, tuple[Tensor, Tensor]]()

    def add(self, labels: Tensor, images: Tensor, source: torch.Generator) -> None:
        """Take in (n,) labels and their (n, C, S, S) images."""
        keys = torch.rand(len(labels), generator=source)
        for label in torch.unique(labels).tolist():
            mine = labels == label
            new = keys[mine], images[mine]
            old = self._kept.get(label, (keys[:0], images[:0]))
            ranks, pool = (torch.cat(pair) for pair in zip(old, new, strict=True))
            order = ranks.argsort(stable=True)[: self._count]
            self._kept[label] = ranks[order], pool[order]

    def take(self, labels: Sequence[int]) -> Tensor:
        """Return the images of some classes one after another, (count·P, C, S, S).

        Raises:
            TrainingError: There were not enough of a class.
        """
        for label in labels:
            found = len(self._kept[label][0]) if label in self._kept else 0
            if found < self._count:
                raise TrainingError(
                    f"the clients sent {found} images of class {label} to start from, and the "
                    f"budget asks for {self._count}; lower budget.ipc or set the method's "
                    "`initial` to noise; with `local_images: ipc` clients send as many as they hold"
                )
        return torch.cat([self._kept[label][1] for label in labels])


def ipc(worker: Work) -> int:
    """Return the images of a class that the cell's budget allows.

    Raises:
        SettingsError: That is no whole number.
    """
    budget, shape, clients = worker.cell.budget, worker.shape, worker.cell.partition.clients
    assert budget is not None  # `skip` asks for it
    images = total_images(budget, classes=shape.classes, size=shape.size, clients=clients)
    if images % shape.classes:
        raise SettingsError(_uneven(images, shape.classes))
    return images // shape.classes


def _uneven(images: int, classes: int) -> str:
    return (
        f"a budget of {images} images cannot be shared evenly by {classes} classes; give "
        f"budget.ipc, or pixels for a multiple of {classes} images"
    )
