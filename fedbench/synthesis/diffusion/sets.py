"""Guided sets: which batches make up the images of every client and class, and how one is made.

A client's images are an endless sequence that goes round its classes, cut into batches. A batch
depends on its number, the client's classifier and the prior alone, so each is an artefact of its
own: all ways to learn from a set share it, and the first images of a larger set are a smaller one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fedbench.federation.server import Server
from fedbench.federation.stages import Kept
from fedbench.seeding import generator
from fedbench.synthesis.data_free.inversion import PARAMETERS, Inverter, one_teacher
from fedbench.synthesis.diffusion.guidance import TOLD, Guidance, Guide
from fedbench.synthesis.diffusion.model import Sampler, Sampling, versions
from fedbench.synthesis.diffusion.trained_priors import Prior
from fedbench.synthesis.teachers import Teachers

#: Raised when the same settings make other images; part of the key of every batch.
VERSION = 1


@dataclass(frozen=True)
class Order:
    """A batch that is to be made.

    Attributes:
        client: Whose classifier guides, by id.
        number: Of the client's batches, from 0.
        labels: Class of each image.
        each: Images of each class that the client's set is to have.
    """

    client: int
    number: int
    labels: tuple[int, ...]
    each: int


def orders(
    clients: Sequence[int],
    classes: Sequence[Sequence[int]],
    *,
    each: int,
    batch_size: int,
    attempts: int = 1,
) -> list[Order]:
    """Return the batches that make up all clients' images.

    Args:
        clients: Their ids.
        classes: Of each client's images.
        each: Images of each class.
        batch_size: Images of a batch.
        attempts: As many times as many batches as that takes.
    """
    found = []
    for client, own in zip(clients, classes, strict=True):
        count = attempts * -(-each * len(own) // batch_size)
        for number in range(count):
            places = range(number * batch_size, (number + 1) * batch_size)
            labels = tuple(own[place % len(own)] for place in places)
            found.append(Order(client, number, labels, each))
    return found


@dataclass
class Progress:
    """What batches have come to so far.

    Attributes:
        counts: Images that were kept, by client and class.
        sums: Over batches and images: what classifiers have said.
    """

    counts: dict[str, int] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)

    @property
    def kept(self) -> dict[str, Kept]:
        """What stages keep."""
        return {"counts": self.counts, "sums": self.sums}

    @property
    def summary(self) -> dict[str, Tensor]:
        """Return what classifiers said, in the mean over batches or images.

        ``trace`` (timesteps, 3) on the way, the share of images that they got ``right``, and how
        ``sure`` they were of them.
        """
        sums = self.sums
        return {
            "trace": sums["trace"] / sums["batches"],
            "right": sums["right"] / sums["images"],
            "sure": sums["sure"] / sums["images"],
        }

    def open(self, order: Order) -> bool:
        """Return whether any class of a batch still lacks images."""
        return any(
            self.counts.get(f"{order.client}/{label}", 0) < order.each for label in order.labels
        )

    def choose(self, order: Order, good: Sequence[bool]) -> list[int]:
        """Return which images of a batch are kept, and count them."""
        chosen = []
        for place, (label, passes) in enumerate(zip(order.labels, good, strict=True)):
            name = f"{order.client}/{label}"
            if passes and self.counts.get(name, 0) < order.each:
                self.counts[name] = self.counts.get(name, 0) + 1
                chosen.append(place)
        return chosen

    def missing(self, made: Iterable[Order]) -> Tensor:
        """Return what a filter has left out: (n, 3) int64, client, class and images that lack.

        Args:
            made: All orders.
        """
        wanted = {(order.client, label): order.each for order in made for label in order.labels}
        found = [
            [client, label, each - self.counts.get(f"{client}/{label}", 0)]
            for (client, label), each in sorted(wanted.items())
        ]
        return torch.tensor([row for row in found if row[2]], dtype=torch.int64).view(-1, 3)

    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """Add what was said of a batch."""
        new = {
            "trace": tensors["trace"],
            "batches": torch.tensor(1.0),
            "images": torch.tensor(float(len(tensors["sure"]))),
            "right": tensors["right"].float().sum(),
            "sure": tensors["sure"].sum(),
        }
        for name, value in new.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()


class Studio:
    """Makes batches.

    Args:
        server: Computes, and keeps them as artefacts.
        teachers: All clients' classifiers.
        places: Of each client among them, by id.
        digests: Of their weights.
        guidance: How they steer.
        prior: What they steer; None inverts them alone.
        sampling: How the prior is sampled, and in how many steps.
        descent_steps: Of an inversion.

    Attributes:
        prior: Likewise.
    """

    def __init__(
        self,
        server: Server,
        teachers: Teachers,
        places: Mapping[int, int],
        digests: Sequence[str],
        guidance: Guidance,
        *,
        prior: Prior | None,
        sampling: tuple[Sampling, int],
        descent_steps: int,
    ) -> None:
        self._server, self._places, self._digests = server, places, digests
        self._each = [teachers.subset([place]) for place in range(len(teachers))]
        self._guidance, self._sampling, self._descent = guidance, sampling, descent_steps
        self.prior = prior
        self._sampler = None if prior is None else Sampler(prior.model, *sampling)

    def make(self, order: Order) -> Mapping[str, Tensor]:
        """Return a batch.

        ``images`` (B, C, S, S) uint8, ``trace`` (timesteps, 3), and what its own classifier says of
        each image, (B,): ``losses``, whether it is ``right`` and how ``sure``.
        """
        server, place = self._server, self._places[order.client]
        shape = server.shape
        settings: dict[str, Any] = {
            "version": VERSION,
            "prior": None if self.prior is None else self.prior.digest,
            "sampling": list(self._sampling) if self.prior is not None else [self._descent],
            "guidance": asdict(self._guidance),
            "classifier": self._digests[place],
            "model": server.cell.client_model(order.client).model_dump(
                mode="json", exclude_none=True
            ),
            "shape": [shape.channels, shape.size, shape.classes],
            "normalisation": shape.normalisation.to_json(),
            "labels": list(order.labels),
            "noise": [server.cell.seed, order.client, order.number],
        }
        return server.artefact(
            "guided",
            settings,
            lambda: self._build(order, self._each[place]),
            public=True,
            libraries=None if self.prior is None else versions(),
        ).tensors

    def _build(self, order: Order, teacher: Teachers) -> dict[str, Tensor]:
        server = self._server
        source = generator(server.cell.seed, "guided", order.client, order.number)
        labels = torch.tensor(order.labels).to(server.device)
        if self.prior is None:
            images, trace = self._inverted(labels, teacher, source)
        else:
            assert self._sampler is not None
            guide = Guide(
                self.prior.model,
                self._sampler,
                teacher,
                server.shape.normalisation,
                self._guidance,
            )
            made = guide.run(labels, source)
            images, trace = (made.images * 255).round().to(torch.uint8), made.trace
        with torch.no_grad():
            logits = teacher.logits(server.shape.normalisation(images))[0]
        sure = logits.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
        return {
            "images": images,
            "trace": trace,
            "losses": functional.cross_entropy(logits, labels, reduction="none"),
            "right": logits.argmax(1) == labels,
            "sure": sure,
        }

    def _inverted(
        self, labels: Tensor, teacher: Teachers, source: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return images inverted from a classifier alone, uint8, and an empty trace."""
        shape, guidance = self._server.shape, self._guidance
        known, descent = PARAMETERS["short"]
        weight = known.batch_norm if guidance.batch_norm else 0.0
        terms = replace(known, batch_norm=weight, compete=0.0)
        inverter = Inverter(teacher, terms, replace(descent, steps=self._descent))
        start = torch.randn(len(labels), shape.channels, shape.size, shape.size, generator=source)
        draw = one_teacher(0, 1, source)
        images = inverter.run(start.to(labels.device), labels, draw, source)
        return shape.normalisation.to_pixels(images), torch.zeros(0, len(TOLD))
