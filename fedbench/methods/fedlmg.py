"""FedLMG: clients' classifiers guide a diffusion model, and a student learns what it makes.

One round: clients upload weights and which classes they have seen. For each client and class the
server denoises images while the client's classifier pulls them towards the class (cross entropy)
and towards the look of the client's data (BatchNorm statistics). A model is trained on all of them.
The diffusion model, the prior, is the server's own and never leaves it.

"One-Shot Heterogeneous Federated Learning with Local Model-Guided Diffusion Models" (S4, FedLMG,
earlier FedCADO), https://arxiv.org/abs/2311.08870.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fedbench.config import Cell
from fedbench.data.specs import DATASETS
from fedbench.data.stream import Columns, Stream
from fedbench.errors import ModelError, TrainingError
from fedbench.federation.artefacts import tensors_digest
from fedbench.federation.client import Client, ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import ClientTraining, Course, Method, Upload
from fedbench.federation.server import Server
from fedbench.federation.stages import Kept
from fedbench.federation.state import part, prefixed
from fedbench.federation.synthetic import SyntheticSet
from fedbench.federation.work import load
from fedbench.models.families import MODELS
from fedbench.models.net import Net
from fedbench.models.settings import Model, why_not
from fedbench.synthesis.data_free.lessons import Tutor
from fedbench.synthesis.data_free.pool import ImagePool
from fedbench.synthesis.diffusion.guidance import TOLD
from fedbench.synthesis.diffusion.priors import SCALES
from fedbench.synthesis.diffusion.sets import Order, Progress, Studio, orders
from fedbench.synthesis.diffusion.settings import PUBLIC, UNUSED, GuidedConfig
from fedbench.synthesis.diffusion.trained_priors import Prior, installed, trained
from fedbench.synthesis.teachers import Teachers
from fedbench.training.distillation import Distillation, Teacher
from fedbench.training.recipe import Augment, Recipe

_STUDENT, _GUIDE, _PRIOR, _SET = "student/", "guide/", "prior/", "set/"


class FedLMGConfig(GuidedConfig):
    """Settings of FedLMG."""

    aggregation: Literal["fine_tune", "multi_teacher", "specific_teacher"] = "multi_teacher"  # S4
    """What the student learns beside labels: nothing; all clients' mean prediction; that of the
    client whose classifier guided the image."""
    network: Model | None = None  # S4: ResNet-18, of ImageNet
    """The student's architecture; None takes the first client's."""
    epochs: int = Field(30, ge=1)  # fedbench: S4 20
    """Passes of the student over the set."""
    student_batch_size: int = Field(64, ge=2)  # fedbench: S4 256
    """Images in a step of it."""
    lr: float = Field(0.05, gt=0)  # fedbench, from scratch: S4 .005, from ImageNet's weights
    """Its learning rate, SGD."""
    momentum: float = Field(0.9, ge=0, lt=1)  # S4
    """Its momentum."""
    weight_decay: float = Field(1e-5, ge=0)  # S4
    """Its L2 penalty."""
    schedule: Literal["constant", "cosine"] = "cosine"  # fedbench: S4 constant
    """Of its learning rate."""
    augment: Augment = "standard"  # fedbench: S4 none
    """Of the made images."""

    @property
    def recipe(self) -> Recipe:
        """How the student trains."""
        return Recipe(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_size=self.student_batch_size,
            epochs=self.epochs,
            schedule=self.schedule,
            augment=self.augment,
        )


@dataclass
class Gathered:
    """What clients sent.

    Attributes:
        infos: Who.
        nets: Their classifiers.
        digests: Of their weights.
        seen: (K, classes) bool, the classes that each has images of.
    """

    infos: list[ClientInfo]
    nets: list[Net]
    digests: list[str]
    seen: Tensor


class FedLMG(Method):
    """Guided diffusion at the server, by uploaded classifiers."""

    name = "fedlmg"
    course = Course(
        down="a seed",
        client="trains from the common start",
        up="weights and classes seen, once",
        server="lets clients' models guide a diffusion model; a student learns its images",
        leaves="one model, and the images",
    )
    Config = FedLMGConfig
    config: FedLMGConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # What we recommend, as hold-outs had it: the defaults.
        "fedbench": {},
        # As S4's code behaves, with a prior of ours in place of Stable Diffusion.
        "reference": {
            "images_per_class": 30,
            "batch_size": 1,
            "sampler": "ddpm",
            "steps": 50,
            "cross_entropy": 1.0,
            "batch_norm": 0.1,
            "batch_norm_layers": "sum",
            "scale": 1.0,
            "step": "raw",
            "edits": 10,
            "edit_with": "batch_norm",
            "detach_eps": False,
            "predict_twice": True,
            "clamp": "hard",
            "filter": None,
            "aggregation": "specific_teacher",
            "epochs": 20,
            "student_batch_size": 256,
            "lr": 0.005,
            "momentum": 0.9,
            "weight_decay": 1e-5,
            "schedule": "constant",
            "augment": "none",
        },
    }

    def skip(self, cell: Cell) -> str | None:
        """Refuse clients without BatchNorm where it counts, and what cannot be made or learnt."""
        config = self.config
        for model in cell.models if config.batch_norm else ():
            if not MODELS.get(model.name).has_batch_norm(model, cell.data.size):
                return (
                    f"{model.label} has no BatchNorm, whose statistics guide as well; choose a "
                    "model with it, such as resnet8 or a convnet with norm: batch, or set the "
                    "method's batch_norm to 0 (cross entropy alone)"
                )
        count = len(DATASETS.get(cell.data.name).classes)
        if count and (strange := [label for label in config.classes or () if label >= count]):
            return (
                f"{cell.data.name} has classes 0 to {count - 1}, and the method's `classes` ask "
                f"for {strange[0]}; leave it out"
            )
        if config.trains:
            halvings = len(SCALES[config.prior_size].channels) - 1
            if cell.data.size % 2**halvings:
                return (
                    f"a {config.prior_size} prior halves images {halvings} times, and these have "
                    f"{cell.data.size}x{cell.data.size}; set data.image_size to a multiple of "
                    f"{2**halvings}, or take a smaller prior"
                )
        if config.prior == UNUSED and not self.resources(cell):
            if cell.data.train_size is not None and _whole(cell) is None:
                return (
                    f"how many images {cell.data.name} has is known only after reading, and so is "
                    "how many no client holds; say how many the prior takes, such as "
                    "prior: unused@1000"
                )
            return (
                "the prior is trained on images that no client holds, and the clients share all; "
                "set data.train_size below the data set's size, or choose another prior"
            )
        return why_not(config.network or cell.models[0], cell.data.size)

    def resources(self, cell: Cell) -> tuple[str, ...]:
        """Return the diffusion model, or the images that one is trained on."""
        prior = self.config.prior
        if prior.startswith(PUBLIC):
            return (f"dataset:{prior.removeprefix(PUBLIC)}",)
        if prior != UNUSED:
            return () if prior == "none" else (prior,)
        whole, taken = _whole(cell), cell.data.train_size
        if whole is None or taken is None or taken >= whole:
            return ()
        return (f"unused@{whole - taken}",)

    def disclosures(self, cell: Cell) -> tuple[str, ...]:
        """Say what clients tell of their labels."""
        return ("which classes every client holds",)

    def client_training(self, cell: Cell) -> ClientTraining:
        """Return the recipe's training."""
        return ClientTraining(cell.recipe)

    def passes(self, cell: Cell) -> float | None:
        """Return the clients' passes, and rough ones of sampling and of the student."""
        local, config = super().passes(cell), self.config
        classes = len(config.classes or DATASETS.get(cell.data.name).classes)
        made = cell.partition.clients * classes * config.images_per_class
        return local and made and local + made * (4 * config.steps + config.epochs)

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message:
        """Send the seed of the common initialisation."""
        return server.seed()

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Train from the common initialisation; send the result and the classes seen."""
        trained = client.train_classifier(client.cell.recipe)
        counts = torch.bincount(client.data.labels.cpu(), minlength=client.shape.classes)
        return Message("classifier", {**prefixed(trained.state, "model/"), "seen": counts > 0})

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Make every client's images batch by batch, then teach the student."""
        gathered = self._gather(server, uploads)
        wanted = self._wanted(gathered)
        studio = self._studio(server, gathered)
        todo = orders(
            [info.id for info in gathered.infos],
            wanted,
            each=self.config.images_per_class,
            batch_size=self.config.batch_size,
            attempts=1 if self.config.filter is None else self.config.attempts,
        )
        trail, progress = server.trail(), Progress()
        pool = ImagePool(trail, server.shape.normalisation, server.device, space="pixels")
        keep: dict[str, Kept] = {"pool": trail, **progress.kept}
        for number in server.stages("guided batches", len(todo), keep=keep):
            self._make(studio, todo[number], pool, progress)
        if not len(trail):
            raise TrainingError(
                f"no image passed the filter of {self.config.filter}; raise it, or leave it out"
            )
        net = self._teach(server, gathered, pool)
        server.observe(net, self.config.epochs)
        images, labels, clients, _ = pool.take(torch.arange(len(pool)))
        server.state.update(prefixed(net.state_dict(), _STUDENT))
        made = {"images": images, "labels": labels, "clients": clients, **progress.summary}
        made["missing"] = progress.missing(todo)
        server.state.update(prefixed(made, _SET))
        server.state.update(prefixed(gathered.nets[0].state_dict(), _GUIDE))
        if studio.prior is not None:
            server.state.update(prefixed(studio.prior.tensors, _PRIOR))

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the student."""
        net = server.build(self._network(server.cell))
        load(net, part(server.state, _STUDENT))
        yield "global", net

    def synthetic(self, server: Server) -> SyntheticSet:
        """Return the guided images with the client of each."""
        made = part(server.state, _SET)
        scale = server.shape.normalisation
        return SyntheticSet(made["images"], made["labels"], scale, made["clients"])

    def outputs(self, server: Server) -> Mapping[str, Mapping[str, Tensor]]:
        """Return the first client's classifier and a prior trained here, for `show guidance`."""
        found = {"guide": part(server.state, _GUIDE), "prior": part(server.state, _PRIOR)}
        return {name: tensors for name, tensors in found.items() if tensors}

    def findings(
        self, server: Server, clients: Mapping[int, Mapping[str, Tensor]]
    ) -> Mapping[str, Any]:
        """Return the prior, how images came out, and what classifiers said on the way."""
        made = part(server.state, _SET)
        held = torch.bincount(made["clients"], minlength=len(server.clients))
        about = {
            "images": held.tolist(),
            "missing": made["missing"].tolist(),
            "right": float(made["right"]),
            "sure": float(made["sure"]),
        }
        curves = {
            name: [None if value != value else value for value in column.tolist()]
            for name, column in zip(TOLD, made["trace"].T, strict=True)
        }
        return {
            "prior": self._about(server),
            "guided": about,
            "over_timesteps": curves,
        }

    def _about(self, server: Server) -> Mapping[str, Any]:
        name, tensors = self.config.prior, part(server.state, _PRIOR)
        if not tensors:
            return {"name": name}
        size = sum(value.nbytes for value in tensors.values())
        return {"name": name, "bytes": size, "digest": tensors_digest(tensors)}

    def _network(self, cell: Cell) -> Model:
        return self.config.network or cell.models[0]

    def _gather(self, server: Server, uploads: Iterable[Upload]) -> Gathered:
        """Read the uploads; the networks of all clients are in memory."""
        infos, nets, digests, seen = list[ClientInfo](), list[Net](), list[str](), list[Tensor]()
        for upload in uploads:
            tensors = upload.message.tensors
            state = part(tensors, "model/")
            net = server.build(upload.client.model)
            load(net, state)
            infos.append(upload.client)
            nets.append(net)
            digests.append(tensors_digest(state))
            seen.append(tensors["seen"])
        return Gathered(infos, nets, digests, torch.stack(seen))

    def _wanted(self, gathered: Gathered) -> list[list[int]]:
        """Return the classes that images of each client are made of.

        Raises:
            TrainingError: A class that is asked for is nobody's.
        """
        seen, asked = gathered.seen, self.config.classes
        if asked is not None:
            known = seen.any(0).nonzero().flatten().tolist()
            if strange := sorted(set(asked) - set(known)):
                raise TrainingError(
                    f"no client has seen class {strange[0]}, so nobody can guide images of it; "
                    f"leave it out of the method's `classes` (clients have {known})"
                )
        return [
            [label for label in row.nonzero().flatten().tolist() if asked is None or label in asked]
            for row in seen
        ]

    def _studio(self, server: Server, gathered: Gathered) -> Studio:
        config = self.config
        return Studio(
            server,
            Teachers(gathered.nets, server.inference),
            {info.id: place for place, info in enumerate(gathered.infos)},
            gathered.digests,
            config.guidance,
            prior=self._prior(server),
            sampling=(config.sampler, config.steps),
            descent_steps=config.descent_steps,
        )

    def _prior(self, server: Server) -> Prior | None:
        config, shape = self.config, server.shape
        if config.prior == "none":
            return None
        (name,) = self.resources(server.cell)
        if config.trains:
            return trained(
                server,
                name,
                config.prior_size,
                config.prior_steps,
                conditional=config.conditional,
            )
        prior = installed(server, name, size=shape.size, channels=shape.channels)
        if config.emphasis != 1 and prior.model.classes is None:
            raise ModelError(
                f"resource {name!r} takes no classes, so emphasis would change nothing; set 1"
            )
        return prior

    def _make(self, studio: Studio, order: Order, pool: ImagePool, progress: Progress) -> None:
        """Make a batch, and keep what is still wanted and passes the filter."""
        if not progress.open(order):
            return
        made, bound = studio.make(order), self.config.filter
        good = torch.ones(len(order.labels), dtype=torch.bool)
        if bound is not None:
            good = made["right"] & (made["losses"] <= bound)
        progress.add(made)
        places = progress.choose(order, good.tolist())
        if places:
            labels = torch.tensor(order.labels)[places]
            pool.add(made["images"][places], labels, clients=order.client)

    def _teach(self, server: Server, gathered: Gathered, pool: ImagePool) -> Net:
        """Train the student on all images."""
        from fedbench.synthesis.student import Student

        config, shape = self.config, server.shape
        net = server.build(self._network(server.cell), "student")
        images, *columns = pool.take(torch.arange(len(pool)))
        stream = Stream(
            Columns(images, *columns),
            batch_size=config.student_batch_size,
            seed=server.derive("student"),
            normalisation=shape.normalisation,
            augment=shape.augmentation(config.augment),
        )
        module = Student(
            net,
            config.recipe,
            ImagePool.columns,
            epochs=config.epochs,
            steps_per_epoch=len(stream),
            teacher=self._teacher(server, gathered),
            # Cross entropy with one temperature has the divergence's gradients.
            distillation=Distillation("avg_probs"),
        )
        server.fit(module, stream, name="student", epochs=config.epochs)
        return net

    def _teacher(self, server: Server, gathered: Gathered) -> Teacher | None:
        if self.config.aggregation == "fine_tune":
            return None
        teachers = Teachers(gathered.nets, server.inference)
        if self.config.aggregation == "multi_teacher":
            return lambda images, _: teachers.logits(images)
        return Tutor(teachers, [info.id for info in gathered.infos])


def _whole(cell: Cell) -> int | None:
    return DATASETS.get(cell.data.name).train_size
