"""What data-free one-shot methods share: settings, one upload of weights, and a workshop.

The server has clients' networks and nothing else. Epoch by epoch a new generator makes a batch of
images that these networks recognise, which goes into a pool, and a student distils the networks on
the whole pool. How teachers are weighed and what students see is told in the methods' own files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from fedbench.config import Cell, MethodConfig
from fedbench.data.epochs import Epochs
from fedbench.data.stream import Stream
from fedbench.federation.averaging import average
from fedbench.federation.client import Client, ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import ClientTraining, Method, Upload
from fedbench.federation.server import Server
from fedbench.federation.stages import Kept
from fedbench.federation.state import part, prefixed
from fedbench.federation.work import load
from fedbench.models.families import MODELS
from fedbench.models.net import Net
from fedbench.models.settings import Model, why_not
from fedbench.synthesis.data_free import generator as generators
from fedbench.synthesis.data_free.pool import ImagePool
from fedbench.synthesis.data_free.terms import Terms
from fedbench.synthesis.teachers import Teachers, frozen, mixture
from fedbench.training.distillation import Distillation
from fedbench.training.recipe import Augment, Recipe

#: Points of the curve, and epochs whose images are kept for pictures.
LOOKS = 10
_SHOWN = 2  # images of a class kept from each of them
_NET = "net/"
_SAMPLES = "samples/"


class DataFreeConfig(MethodConfig):
    """Settings of methods that make images with a generator."""

    epochs: int = Field(200, ge=1)  # DENSE, Co-Boosting
    """Batches of images, each by a generator of its own, and passes of the student."""
    steps: int = Field(30, ge=1)  # DENSE's README, Co-Boosting
    """Steps of each generator."""
    batch_size: int = Field(256, ge=2)  # DENSE
    """Images that a generator makes."""
    noise: int = Field(256, ge=1)  # DENSE, Co-Boosting
    """Numbers that an image is made of."""
    width: int = Field(64, ge=1)  # DENSE, Co-Boosting
    """Maps of the generator's last but one layer."""
    generator_lr: float = Field(1e-3, gt=0)  # DENSE, Co-Boosting
    """Learning rate of Adam over generator and noise."""
    generator_clip: float | None = Field(None, gt=0)
    """Largest norm of the generator's gradient; None does not clip."""
    one_hot: float = Field(1.0, ge=0)  # DENSE's README, Co-Boosting
    """λ of the cross entropy with the images' classes."""
    batch_norm: float = Field(1.0, ge=0)  # DENSE's README
    """λ of the distance between the images' BatchNorm statistics and those of each client."""
    batch_norm_heard: bool = True  # fedbench: DENSE's hooks find nothing
    """Whether that term is computed; if not, it is 0 whatever its λ, as in DENSE's code."""
    adversarial: float = Field(1.0, ge=0)  # DENSE's README, Co-Boosting
    """λ of the disagreement between clients and student, which is to be large."""
    masked: bool = True  # DENSE
    """Count it only for images on whose class they disagree."""
    adversarial_temperature: float = Field(1.0, gt=0)  # DENSE
    """T in it."""
    view: Augment = "standard"  # fedbench: DENSE flips and crops all data, digits too
    """How made images are moved before clients and student see them."""
    model: Model | None = None
    """The server's architecture; None takes the clients', where they have one."""
    start: Literal["initial", "average"] = "initial"  # DENSE, Co-Boosting
    """What the student begins with: the common initial weights, or the average, weighed by samples,
    of the clients that have its architecture."""
    lr: float = Field(0.005, gt=0)  # DENSE's README
    """The student's learning rate."""
    momentum: float = Field(0.9, ge=0, lt=1)  # DENSE, Co-Boosting
    """Its momentum."""
    weight_decay: float = Field(0.0, ge=0)  # DENSE
    """L2 penalty on its weights."""
    schedule: Literal["constant", "cosine"] = "constant"  # DENSE
    """Of its learning rate over the epochs."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of its gradient; None does not clip."""
    student_batch_size: int = Field(256, ge=1)  # DENSE
    """Images of the pool in a step of the student."""
    student_passes: int = Field(1, ge=1)  # DENSE, Co-Boosting
    """Passes over the pool in each epoch."""
    temperature: float = Field(20.0, gt=0)  # DENSE's README
    """T of the distillation."""
    augment: Augment = "standard"  # DENSE, for photographs
    """Of the pool's images, in distillation."""
    pool_limit: int | None = Field(None, ge=1)  # DENSE: none
    """Images in the pool at most, the oldest make room; None keeps all. Without a limit the disk
    holds epochs x batch_size images and the student's steps grow with the square of the epochs."""
    pool_space: Literal["normalised", "pixels"] = "normalised"  # fedbench: exact
    """Whether the pool keeps floats, or bytes, a quarter of the space, as DENSE's files do."""

    @property
    def recipe(self) -> Recipe:
        """The student's recipe."""
        return Recipe(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            clip_norm=self.clip_norm,
            batch_size=self.student_batch_size,
            augment=self.augment,
            epochs=self.epochs * self.student_passes,
        )

    @property
    def terms(self) -> Terms:
        """What is asked of images."""
        return Terms(
            one_hot=self.one_hot,
            batch_norm=self.batch_norm if self.batch_norm_heard else 0.0,
            adversarial=self.adversarial,
            masked=self.masked,
            temperature=self.adversarial_temperature,
        )


class DataFreeMethod(Method):
    """Base of methods in which clients upload trained networks once, and the server makes images.

    A subclass works in ``aggregate`` with a ``Workshop``.
    """

    Config = DataFreeConfig
    config: DataFreeConfig

    def skip(self, cell: Cell) -> str | None:
        """Ask for one architecture, for BatchNorm where it counts, and for a size that fits."""
        config, size = self.config, cell.data.size
        model = config.model or cell.models[0]
        if config.model is None and len(set(cell.models)) > 1:
            return "which architecture is the server's? Set method.model"
        if config.start == "average" and model not in cell.models:
            return (
                f"no client has the server's model {model.label!r}, so there is no average to "
                "start from; set start to initial"
            )
        for each in dict.fromkeys(cell.models):
            plain = not MODELS.get(each.name).has_batch_norm(each, size)
            if plain and config.batch_norm and config.batch_norm_heard:
                return (
                    f"model {each.label!r} has no BatchNorm, so its client says nothing of its "
                    "data's statistics; set batch_norm to 0, or take a model with it, such as "
                    "resnet8 or a convnet with norm: batch"
                )
        if config.pool_limit is not None and config.pool_limit < config.batch_size:
            return (
                f"a batch of {config.batch_size} images does not fit a pool of "
                f"{config.pool_limit}; raise pool_limit, or lower batch_size"
            )
        return generators.why_not(size) or why_not(model, size)

    def client_training(self, cell: Cell) -> ClientTraining:
        """Return the recipe's training."""
        return ClientTraining(cell.recipe)

    def passes(self, cell: Cell) -> float | None:
        """Return the clients' passes, and images through each of the server's networks."""
        config, local, limit = self.config, super().passes(cell), self.config.pool_limit
        clients = max(1, int(cell.participation * cell.partition.clients))
        made = config.epochs * config.batch_size
        # Passes without gradients count a third; a pool of n batches is seen n times so far.
        pool = sum(
            min((epoch + 1) * config.batch_size, limit or made) for epoch in range(config.epochs)
        )
        return local and local + made * config.steps * (
            clients + 2
        ) + pool * config.student_passes * (1 + clients / 3)

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message:
        """Send the seed of the common initialisation."""
        return server.seed()

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Train from the common initialisation and send the result."""
        return Message.of_model(client.train_classifier(client.cell.recipe).state)

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the student."""
        net = server.build(_student_model(server, self.config))
        load(net, part(server.state, _NET))
        yield "global", net

    def outputs(self, server: Server) -> Mapping[str, Mapping[str, Tensor]]:
        """Return a few images of each class from some epochs, for pictures."""
        return {"samples": part(server.state, _SAMPLES)}


class Workshop:
    """The server's teachers, student and pool, and how images are made and learnt from.

    Args:
        server: Computes.
        config: How.
        uploads: Of the clients; read here.

    Attributes:
        teachers: Their networks, in the order of the clients.
        student: The student's network.
        pool: The images made so far.
        kept: What stages have to keep of it.
    """

    def __init__(self, server: Server, config: DataFreeConfig, uploads: Iterable[Upload]) -> None:
        from fedbench.synthesis.student import Student

        self._server, self._config = server, config
        infos, nets = _networks(server, uploads)
        model = _student_model(server, config)
        self.student = server.build(model).to(server.device).eval()
        if config.start == "average":
            alike = [(net, info) for net, info in zip(nets, infos, strict=True)]
            same = [(net.state_dict(), info.samples) for net, info in alike if info.model == model]
            if same:  # a round of some clients may have none of it
                load(self.student, average(same))
        self.teachers = Teachers(nets, server.inference)
        self._shares = {"now": torch.full((len(nets),), 1 / len(nets), device=server.device)}
        self._learner = Student(
            self.student,
            config.recipe,
            ("labels of the pool", *ImagePool.columns[1:]),  # which are not learnt from
            epochs=config.recipe.epochs,
            steps_per_epoch=None,
            teacher=lambda images, _: self.mixed(images).unsqueeze(0),
            distillation=Distillation(temperature=config.temperature, squared=True),
        )
        images, self._samples = server.trail(), server.trail()
        self.pool = ImagePool(
            images,
            server.shape.normalisation,
            server.device,
            space=config.pool_space,
            limit=config.pool_limit,
        )
        self.kept: dict[str, Kept] = {
            "student": self._learner,
            "pool": images,
            "samples": self._samples,
            "shares": cast(dict[str, Any], self._shares),
        }

    @property
    def shares(self) -> Tensor:
        """How much each teacher counts, (K,) at least 0; alike until it is set."""
        return self._shares["now"]

    @shares.setter
    def shares(self, value: Tensor) -> None:
        self._shares["now"] = value

    def mixed(self, images: Tensor) -> Tensor:
        """Return (B, classes) logits of the teachers together, with gradients to the images.

        Args:
            images: (B, C, S, S) normalised floats.
        """
        return mixture(self.teachers.logits(images), self.shares)

    def make(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Train a new generator, and return what it makes.

        Args:
            epoch: From 0; its random numbers follow from it.

        Returns:
            (B, C, S, S) normalised floats, and the (B,) classes that they were made for: those that
            the teachers see where none were drawn.
        """
        from fedbench.synthesis.data_free.generation import Generation, Ticks

        server, config, shape = self._server, self._config, self._server.shape
        source = server.generator("generation", epoch)
        net = generators.Generator(shape.channels, shape.size, config.noise, config.width, source)
        if server.device.type == "cpu":
            net.to(memory_format=torch.channels_last)  # x1.3 to x1.6
        noise = torch.randn(config.batch_size, config.noise, generator=source)
        labels = torch.randint(shape.classes, (config.batch_size,), generator=source)
        with frozen(self.student, server.inference) as student:
            module = Generation(
                net,
                noise,
                labels.sort().values,
                terms=config.terms,
                teachers=self.teachers,
                shares=self.shares,
                student=lambda images: student.logits(images)[0],
                normalisation=shape.normalisation,
                view=server.shape.augmentation(config.view),
                lr=config.generator_lr,
                clip_norm=config.generator_clip,
            )
            ticks = Ticks(config.steps, source.initial_seed())
            server.fit(module, ticks, name="generator", steps=config.steps)
        images = shape.normalisation.of_unit(module.best.detach())
        if config.terms.drawn:
            return images, module.labels
        with torch.no_grad():
            return images, self.mixed(images).argmax(1)

    def batches(self, name: str) -> Stream:
        """Return the pool in batches: images, labels, clients and classes.

        Args:
            name: Of the random numbers.
        """
        return Stream(
            self.pool,
            batch_size=self._config.student_batch_size,
            seed=self._server.derive(name),
            normalisation=self._server.shape.normalisation,
            augment=self._server.shape.augmentation(self._config.augment),
        )

    def learn(self, batches: Epochs[tuple[Tensor, ...]]) -> None:
        """Let the student pass over batches, and learn what the teachers say of them."""
        passes = self._config.student_passes
        self._server.fit(self._learner, batches, name="student", epochs=passes, keep_optimizer=True)

    def look(self, epoch: int, images: Tensor, labels: Tensor) -> None:
        """Mark a point of the curve and keep some images, in a tenth of the epochs."""
        count = self._config.epochs
        if (epoch + 1) * LOOKS // count == epoch * LOOKS // count:
            return
        first = [
            place
            for label in range(self._server.shape.classes)
            for place in (labels == label).nonzero().flatten()[:_SHOWN].tolist()
        ]
        shown = self._server.shape.normalisation.to_pixels(images[first])
        self._samples.append(
            {
                "images": shown,
                "labels": labels[first],
                "epochs": torch.full((len(first),), epoch + 1),
            }
        )
        self._server.observe(self.student, epoch + 1)

    def finish(self) -> None:
        """Put the student and the images for pictures into the server's state."""
        state, found = self._server.state, list(self._samples)
        state.update(prefixed(self.student.state_dict(), _NET))
        for name in ("images", "labels", "epochs"):
            state[f"{_SAMPLES}{name}"] = torch.cat([each[name] for each in found])


def _networks(server: Server, uploads: Iterable[Upload]) -> tuple[list[ClientInfo], list[Net]]:
    infos, nets = [], []
    for upload in uploads:
        net = server.build(upload.client.model)
        load(net, upload.message.tensors)
        infos.append(upload.client)
        nets.append(net)
    return infos, nets


def _student_model(server: Server, config: DataFreeConfig) -> Model:
    return config.model or server.cell.models[0]
