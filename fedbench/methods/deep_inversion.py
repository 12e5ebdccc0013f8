"""Deep Inversion: the server makes images out of uploaded classifiers, and a student learns them.

One round: clients upload weights, and where they are asked to, the classes that they have seen or
how many images of each. A batch starts as noise and moves until teachers see its labels in it and
their BatchNorm layers see their own data's statistics; once a student competes (adaptive Deep
Inversion), also until the student disagrees.

Yin et al. 2020, https://arxiv.org/abs/1912.08795; several teachers: Jellouli, "Dataset Distillation
for One-Shot Federated Learning", EPFL report (S3), https://github.com/Ahmedjjj/Fed_distill.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from fedbench.config import Cell
from fedbench.data.stream import Columns, Stream
from fedbench.errors import TrainingError
from fedbench.federation.client import Client, ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import ClientTraining, Course, Method, Upload
from fedbench.federation.server import Server
from fedbench.federation.stages import Kept
from fedbench.federation.state import part, prefixed
from fedbench.federation.trail import Trail
from fedbench.federation.work import load
from fedbench.models.families import MODELS
from fedbench.models.net import Net
from fedbench.models.settings import Model, why_not
from fedbench.synthesis.data_free.inversion import Draw, Inverter, one_teacher, some_teachers
from fedbench.synthesis.data_free.inversion_settings import InversionConfig
from fedbench.synthesis.data_free.lessons import OWN, Lesson, Tutor
from fedbench.synthesis.data_free.pool import UNKNOWN, ImagePool
from fedbench.synthesis.teachers import Teachers, frozen
from fedbench.training.distillation import Distillation
from fedbench.training.recipe import Augment, Recipe

if TYPE_CHECKING:
    from fedbench.synthesis.student import Student

#: Points of the accuracy curve, at most.
_POINTS = 20
#: Of the pool, the record keeps so many batches, evenly over time, and so many images of each.
_SAMPLED, _OF_EACH = 40, 50
_IMAGES, _SCORES, _STUDENT = "inverted/", "fresh/", "student/"


class DeepInversionConfig(InversionConfig):
    """Settings of Deep Inversion."""

    initial_batches: int = Field(10, ge=0)  # fedbench: S3 50
    """Batches made before the student exists, without competition."""
    batches_per_epoch: int = Field(1, ge=0)  # fedbench: S3 2
    """New batches in an epoch, spread evenly."""
    student_epochs: int = Field(30, ge=1)  # fedbench: S3 300
    """Epochs of the student."""
    steps_per_epoch: int = Field(30, ge=1)  # fedbench: S3 195, which is 50,000 / 256
    """Steps in each."""
    batch_size: int = Field(64, ge=2)  # fedbench: S3 256
    """Images in a batch that is made, and in a step of the student."""
    fresh_first: bool = True  # S3
    """The student's first step after each new batch is on that batch, not augmented."""
    learn: Literal["labels", "teachers", "both"] = "teachers"  # fedbench: S3 labels
    """What the student learns from: labels that images were made for, teachers' logits, or both."""
    kd_from: Literal["origin", "ensemble"] = "origin"  # fedbench: who made it knows it
    """Who teaches an image: whoever it was made with (`sample`: all), or all teachers."""
    temperature: float = Field(3.0, gt=0)  # Yin et al.
    """T of that distillation, whose loss is multiplied by T²."""
    network: Model | None = None
    """The student's architecture; None takes the first client's."""
    lr: float = Field(0.1, gt=0)  # S3
    """The student's learning rate, SGD."""
    momentum: float = Field(0.9, ge=0, lt=1)  # S3
    """Its momentum."""
    weight_decay: float = Field(5e-4, ge=0)  # S3
    """Its L2 penalty."""
    schedule: Literal["constant", "cosine", "step"] = "step"  # S3
    """Of its learning rate: `step` divides by 10 at each milestone."""
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 250 / 300)  # S3
    """Shares of the epochs."""
    augment: Augment = "standard"  # S3: crop and flip
    """Of the pool's images."""
    pool_space: Literal["normalised", "pixels"] = "normalised"  # S3
    """Keep made images as floats, or rounded to bytes."""
    pool_limit: int | None = Field(None, ge=1)
    """Images in the pool at most, the oldest batches make room; None keeps all."""
    own: Literal["none", "unused", "unassigned"] = "none"  # S3, but for one experiment
    """Real images that the server owns: of those that `data.train_size` leaves to nobody, or of
    those that the partition gives to no client."""
    own_images: int | None = Field(None, ge=1)
    """How many; None takes all that are unassigned."""
    own_share: float = Field(0.5, gt=0, lt=1)  # fedbench: S3 has half of the classes
    """Share of them in a step of the student."""
    class_weight: float = Field(1.0, gt=0)  # S3: 1, 2, 10
    """Weight, in the student's loss of labels, of classes of which the server owns no image."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.initial_batches and not self.batches_per_epoch:
            raise ValueError("no image would be made; set initial_batches or batches_per_epoch")
        if self.own == "unused" and self.own_images is None:
            raise ValueError("own: unused needs own_images, such as 1000")
        if self.own == "none" and (self.own_images is not None or self.class_weight != 1):
            raise ValueError("own_images and class_weight need own: unused or unassigned")
        if self.learn == "teachers" and self.class_weight != 1:
            raise ValueError("class_weight weighs labels; set learn to labels or both")
        if self.pool_limit is not None and self.pool_limit < self.batch_size:
            raise ValueError(
                f"pool_limit {self.pool_limit} holds no batch; make it at least batch_size "
                f"{self.batch_size}"
            )
        return self

    @property
    def recipe(self) -> Recipe:
        """How the student trains."""
        return Recipe(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            epochs=self.student_epochs,
            schedule=self.schedule,
            milestones=self.milestones,
            augment=self.augment,
        )

    @property
    def batches(self) -> int:
        """Batches that are made in all."""
        return self.initial_batches + self.student_epochs * self.batches_per_epoch


@dataclass
class Workshop:
    """What making images and teaching the student takes.

    Attributes:
        clients: Ids of the teachers.
        drawn: (K or 1, classes) bool: classes whose images a batch of each teacher, or any batch,
            is made of.
        inverters: Without and with competition.
        tutor: Says what teachers know of images.
        owned: Real images of the server's own with a pool's columns.
        module: The student.
        trail: The pool's.
        pool: Made images.
        moments: Adam's, where they persist.
        scores: Of each batch: number, epoch (0 before the first), client, accuracies of teachers
            and student.
    """

    clients: list[int]
    drawn: Tensor
    inverters: tuple[Inverter, Inverter]
    tutor: Tutor
    owned: Columns | None
    module: Student
    trail: Trail
    pool: ImagePool
    moments: dict[str, Tensor]
    scores: list[list[float]]

    @property
    def kept(self) -> dict[str, Kept]:
        """What steps change: the student, the pool, moments and scores."""
        return {
            "student": self.module,
            "pool": self.trail,
            "moments": self.moments,
            "scores": self.scores,
        }


class DeepInversion(Method):
    """Images inverted from the clients' models, and a student of them."""

    name = "deep_inversion"
    course = Course(
        down="a seed",
        client="trains from the common start",
        up="weights, once; classes seen or image counts where asked",
        server="inverts clients' models into images, which a student learns",
    )
    Config = DeepInversionConfig
    config: DeepInversionConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # What we recommend: the defaults.
        "fedbench": {},
        # S3's sampling runs as their code behaves.
        "reference": {
            "parameters": "github",
            "initial_batches": 50,
            "batches_per_epoch": 2,
            "student_epochs": 300,
            "steps_per_epoch": 195,
            "batch_size": 256,
            "keep": "best_view",
            "persist_moments": True,
            "sampling_competes": False,
            "learn": "labels",
        },
        # DENSE's rival: adaptive inversion of the whole ensemble, which teaches the student.
        "fed_adi": {
            "sampled": None,
            "combine": "logits",
            "mask": False,
            "kd_from": "ensemble",
        },
    }

    def skip(self, cell: Cell) -> str | None:
        """Refuse clients without BatchNorm where it counts, and a student that does not fit."""
        for model in cell.models if self.config.terms.batch_norm else ():
            if not MODELS.get(model.name).has_batch_norm(model, cell.data.size):
                return (
                    f"{model.label} has no BatchNorm, whose statistics Deep Inversion needs; "
                    "choose a model with it, such as resnet8 or a convnet with norm: batch, or "
                    "set the method's batch_norm to 0"
                )
        return why_not(self._network(cell), cell.data.size)

    def resources(self, cell: Cell) -> tuple[str, ...]:
        """Return the server's own images."""
        own, count = self.config.own, self.config.own_images
        if own == "none":
            return ()
        return (own if count is None else f"{own}@{count}",)

    def disclosures(self, cell: Cell) -> tuple[str, ...]:
        """Say what clients tell of their labels."""
        if self.config.label_weights != "none":
            return ("how many images of each class every client holds",)
        return ("which classes every client holds",) if self._asks_seen else ()

    @property
    def _asks_seen(self) -> bool:
        return self.config.mask or self.config.draw == "cycle"

    def client_training(self, cell: Cell) -> ClientTraining:
        """Return the recipe's training."""
        return ClientTraining(cell.recipe)

    def passes(self, cell: Cell) -> float | None:
        """Return the clients' passes, the inversion's, two thirds each, and the student's."""
        local, config = super().passes(cell), self.config
        clients = cell.partition.clients
        asked = 1 if config.draw == "cycle" else min(config.sampled or clients, clients)
        inverted = config.batches * config.descent.steps * asked * config.batch_size * 2 / 3
        taught = config.student_epochs * config.steps_per_epoch * config.batch_size
        return local and local + inverted + taught

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message:
        """Send the seed of the common initialisation."""
        return server.seed()

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Train from the common initialisation; send the result and what is asked of the labels."""
        trained = client.train_classifier(client.cell.recipe)
        tensors = prefixed(trained.state, "model/")
        counts = torch.bincount(client.data.labels.cpu(), minlength=client.shape.classes)
        if self.config.label_weights != "none":
            tensors["counts"] = counts.int()
        elif self._asks_seen:
            tensors["seen"] = counts > 0
        return Message("classifier", tensors)

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Make the first images, then new ones while the student learns."""
        config, work = self.config, self._workshop(server, uploads)
        for number in server.stages("initial", config.initial_batches, keep=work.kept):
            self._make(server, work, number, 0)
        parts = max(config.batches_per_epoch, 1)
        ends = [-(-config.steps_per_epoch * (i + 1) // parts) for i in range(parts)]
        starts = [0, *ends[:-1]]
        points = max(config.student_epochs // _POINTS, 1)
        for epoch in server.stages("epochs", config.student_epochs, keep=work.kept):
            for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
                fresh = None
                if config.batches_per_epoch:
                    made = config.initial_batches + epoch * parts + number
                    fresh = self._make(server, work, made, epoch + 1)
                self._teach(server, work, fresh, end - start, epoch * parts + number)
            if (epoch + 1) % points == 0 or epoch + 1 == config.student_epochs:
                server.observe(work.module.net, epoch + 1)
        server.state.update(prefixed(work.module.net.state_dict(), _STUDENT))
        some = work.pool.sample(_SAMPLED, _OF_EACH, made=config.batches)
        server.state.update(prefixed(some, _IMAGES))
        server.state.update(prefixed({"scores": torch.tensor(work.scores)}, _SCORES))

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the student."""
        net = server.build(self._network(server.cell))
        load(net, part(server.state, _STUDENT))
        yield "global", net

    def outputs(self, server: Server) -> dict[str, dict[str, Tensor]]:
        """Return some of the images and the accuracies on fresh batches, for `show inversion`."""
        return {"inverted": part(server.state, _IMAGES), "fresh": part(server.state, _SCORES)}

    def _network(self, cell: Cell) -> Model:
        return self.config.network or cell.models[0]

    def _workshop(self, server: Server, uploads: Iterable[Upload]) -> Workshop:
        """Read the uploads and set everything up; the networks of all clients are in memory."""
        config, clients, nets, told = self.config, list[int](), list[Net](), list[Tensor]()
        for upload in uploads:
            tensors = upload.message.tensors
            net = server.build(upload.client.model)
            load(net, part(tensors, "model/"))
            clients.append(upload.client.id)
            nets.append(net)
            told += [tensors[name] for name in ("counts", "seen") if name in tensors]
        seen = torch.stack(told) > 0 if told else None
        counts = torch.stack(told) if config.label_weights != "none" else None
        teachers = Teachers(nets, server.inference, seen if config.mask else None)
        drawn = torch.ones(1, server.shape.classes, dtype=torch.bool)
        if seen is not None:
            drawn = seen if config.draw == "cycle" else seen.any(0, keepdim=True)
        competing = config.terms
        inverters = [
            Inverter(teachers, terms, config.descent, weighting=config.label_weights, counts=counts)
            for terms in (replace(competing, compete=0.0), competing)
        ]
        trail = server.trail()
        pool = ImagePool(
            trail,
            server.shape.normalisation,
            server.device,
            space=config.pool_space,
            limit=config.pool_limit,
        )
        tutor = Tutor(teachers, clients, together=config.kd_from == "ensemble")
        owned = self._owned(server)
        return Workshop(
            clients,
            drawn,
            (inverters[0], inverters[1]),
            tutor,
            owned,
            self._student(server, tutor, owned),
            trail,
            pool,
            {},
            [],
        )

    def _owned(self, server: Server) -> Columns | None:
        """Return the server's own images with a pool's columns, normalised."""
        for name in self.resources(server.cell):
            found = server.resource(name).tensors
            labels = found["labels"].to(server.device)
            images = server.shape.normalisation(found["images"].to(server.device))
            return Columns(images, labels, torch.full_like(labels, OWN), labels)
        return None

    def _student(self, server: Server, tutor: Tutor, owned: Columns | None) -> Student:
        from fedbench.synthesis.student import Student

        config, weights = self.config, None
        if owned is not None and config.class_weight != 1:
            has = torch.bincount(owned.columns[0].cpu(), minlength=server.shape.classes) > 0
            weights = torch.where(has, 1.0, config.class_weight)
        columns = ImagePool.columns
        if config.learn == "teachers":  # a column called `labels` would be learnt from
            columns = ("made for", *columns[1:])
        return Student(
            server.build(self._network(server.cell), "student"),
            config.recipe,
            columns,
            epochs=config.student_epochs,
            steps_per_epoch=config.steps_per_epoch,
            teacher=None if config.learn == "labels" else tutor,
            distillation=Distillation(temperature=config.temperature, squared=True),
            class_weights=weights,
        )

    def _make(
        self, server: Server, work: Workshop, number: int, epoch: int
    ) -> tuple[Tensor, Tensor, int]:
        """Make a batch and add it to the pool.

        Args:
            server: Computes.
            work: Everything else.
            number: Of the batch, from 0.
            epoch: From 1; 0 before the first, where the student does not compete.

        Returns:
            Images, labels, and the client that they come from or ``UNKNOWN``.
        """
        config, source, count = self.config, server.generator("batch", number), len(work.clients)
        cycling, client, row = config.draw == "cycle", UNKNOWN, work.drawn[0]
        draw: Draw
        if cycling:
            client, row = work.clients[number % count], work.drawn[number % count]
            draw = one_teacher(number % count, count, source)
        else:
            size, fixed = config.sampled or count, config.subset == "batch"
            draw = some_teachers(size, count, source, fixed=fixed)
        choice = row.nonzero().flatten()
        if not len(choice):
            raise TrainingError(f"client {client} has seen no class, so nothing can be made of it")
        places = torch.randint(len(choice), (config.batch_size,), generator=source)
        labels = choice[places].to(server.device)
        shape = server.shape
        start = torch.randn(
            config.batch_size, shape.channels, shape.size, shape.size, generator=source
        )
        net = work.module.net
        assert isinstance(net, Net)
        with frozen(net, server.inference) as student:
            images = work.inverters[epoch > 0].run(
                start.to(server.device),
                labels,
                draw,
                source,
                student=student,
                moments=work.moments if config.persist_moments else None,
            )
            found = _scores(work.tutor, student, images, labels, client)
        work.scores.append([float(number), float(epoch), float(client), *found])
        work.pool.add(images, labels, clients=client)
        return images, labels, client

    def _teach(
        self,
        server: Server,
        work: Workshop,
        fresh: tuple[Tensor, Tensor, int] | None,
        steps: int,
        number: int,
    ) -> None:
        """Let the student learn from a fresh batch and the pool, for some steps."""
        if not steps:
            return
        config, first = self.config, []
        if fresh is not None and config.fresh_first:
            images, labels, client = fresh
            first.append((images, labels, torch.full_like(labels, client), labels))
        real = 0 if work.owned is None else round(config.own_share * config.batch_size)
        sources = [(work.pool, config.batch_size - real)]
        streams = [self._stream(server, rows, size, number) for rows, size in sources if size]
        if work.owned is not None and real:
            streams.append(self._stream(server, work.owned, real, number))
        lesson = Lesson(first, streams, steps=steps, seed=server.derive("lesson", number))
        server.fit(work.module, lesson, name="student", epochs=1, keep_optimizer=True)

    def _stream(self, server: Server, rows: ImagePool | Columns, size: int, number: int) -> Stream:
        shape, config = server.shape, self.config
        which = "pool" if isinstance(rows, ImagePool) else "own"
        return Stream(
            rows,
            batch_size=size,
            seed=server.derive(which, number),
            normalisation=shape.normalisation,
            augment=shape.augmentation(config.augment),
        )


@torch.no_grad()
def _scores(
    tutor: Tutor, student: Teachers, images: Tensor, labels: Tensor, client: int
) -> tuple[float, float]:
    """Return the accuracies of an image's teachers and of the student on a fresh batch."""
    row = {"clients": torch.full_like(labels, client), "classes": labels}
    guesses = tutor(images, row)[0], student.logits(images)[0]
    teacher, other = (float((guess.argmax(1) == labels).float().mean()) for guess in guesses)
    return teacher, other
