"""Data distilled by trajectory matching at every client, united at the server.

Epple, "On the Efficiency of Sharing Distilled Data", EPFL project report (S5), with the
distillation of Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR
2022, https://arxiv.org/abs/2203.11932 (MTT). A client trains experts on its images, starts from a
few real ones, and moves their pixels until some steps on them lead where the experts' epochs led.
Now and then it trains new networks on them and measures these on its hold-out, if it has one; the
set that did best is sent, or the last. A client whose distillation comes to nothing starts again
with a smaller pixel rate, some times.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedbench.config import Cell
from fedbench.errors import TrainingError
from fedbench.federation.client import Client
from fedbench.federation.message import Message
from fedbench.federation.method import Course, training_images
from fedbench.federation.server import Server
from fedbench.federation.state import part, prefixed
from fedbench.federation.synthetic import SyntheticSet
from fedbench.federation.work import load
from fedbench.models.families import MODELS
from fedbench.synthesis.matching.attempts import ILL, WINDOW, Attempt, Rates, mean_of
from fedbench.synthesis.matching.searched import SearchedConfig, SearchedUnion, why_batch_norm
from fedbench.synthesis.matching.trajectories import Experts, InnerLoop, draw_batches, moves
from fedbench.synthesis.sets import set_images, train_on_set
from fedbench.training.recipe import Recipe

_DIARY = "diary/"
_VERSION = 1  # of the distillation: part of its artefact's key


class TrajectoryConfig(SearchedConfig):
    """Settings of trajectory matching."""

    experts: int = Field(10, ge=1)  # fedbench: S5 has 30, MTT 100
    """Networks that a client trains on its images."""
    expert_epochs: int | None = Field(None, ge=1)  # MTT: 50, of which it uses the first
    """Epochs of an expert; None trains those that are matched."""
    expert_lr: float = Field(0.01, gt=0)  # MTT
    """Learning rate of SGD on real images."""
    expert_momentum: float = Field(0.0, ge=0, lt=1)  # MTT
    """Its momentum."""
    expert_batch: int = Field(32, ge=1)  # fedbench: of MTT's 256 a client has a few an epoch
    """Its images in a step."""
    span: int = Field(1, ge=1)  # fedbench: with smaller batches; MTT has 2
    """M: epochs of an expert that the student has to catch up with."""
    start_epochs: int = Field(4, ge=1)  # fedbench: MTT has 2 to 5 at ipc 1, 15 to 20 at ipc 10
    """T⁺: a student starts where an expert was after 0 to T⁺ - 1 epochs."""
    inner_steps: int = Field(10, ge=1)  # fedbench: MTT has 50 at ipc 1, 30 at ipc 10
    """N: steps of the student on the images."""
    inner_batch: int | None = Field(10, ge=1)  # fedbench; MTT takes all, up to ipc 10
    """Images in one of these steps; None takes all."""
    iterations: int = Field(300, ge=0)  # fedbench: S5 has 2000, MTT 5000
    """Times that the images move."""
    lr_images: float = Field(2000.0, gt=0)  # fedbench: MTT has 1000, or 100 with whitening
    """Learning rate of the images."""
    momentum: float = Field(0.5, ge=0, lt=1)  # MTT
    """Of SGD over the images and the student's learning rate."""
    inner_lr: float = Field(0.005, gt=0)  # fedbench: with smaller batches; MTT has .01 and .001
    """α₀: the student's learning rate to begin with; it is learnt."""
    inner_lr_lr: float = Field(0.02, ge=0)  # fedbench: of the logarithm; S5 has 1e-7 and 1e-6
    """The learning rate of that learning rate."""
    inner_lr_space: Literal["log", "linear"] = "log"  # fedbench: MTT's is `linear`
    """What `inner_lr_lr` is a rate of: the learning rate's logarithm, which suits any of them and
    never comes to zero, or the learning rate itself."""
    inner_lr_floor: float = Field(1e-5, gt=0)  # fedbench: nothing keeps MTT's above zero
    """Below this it does not fall."""
    keep: Literal["best", "last"] = "last"  # fedbench: needs no hold-outs; S5 has the best
    """The set that is sent: that on which networks did best on the client's hold-out, or the last;
    `best` needs a partition.validation."""
    evaluate_every: int = Field(100, ge=1)  # fedbench: S5 has 200
    """Iterations after which networks are trained on the images and measured, where clients hold
    out any."""
    judges: int = Field(3, ge=1)  # S5
    """How many networks."""
    judge_epochs: int = Field(300, ge=1)  # fedbench: the default of `student`; MTT has 1000
    """Passes over the images in training one."""
    restarts: int = Field(2, ge=0)  # fedbench: S5 reports ill-trained clients and keeps them
    """How often a client may start again whose distillation came to nothing."""
    restart_factor: float = Field(0.1, gt=0, lt=1)  # fedbench
    """What the pixel rate is multiplied with when it does."""
    gradient: Literal["recomputed", "unrolled"] = "recomputed"  # fedbench: the same, less memory
    """How the gradient passes through the inner steps: computing them again one by one, or keeping
    all of them, as MTT has it, whose memory grows with their number."""
    element: Literal["fp32", "fp16", "uint8"] = "fp32"  # S5
    """What a pixel travels as; `uint8` clips what lies beyond black and white."""

    @model_validator(mode="after")
    def _reach(self) -> Self:
        needed = self.start_epochs + self.span - 1
        if self.expert_epochs is not None and self.expert_epochs < needed:
            raise ValueError(
                f"start_epochs = {self.start_epochs} and span = {self.span} reach to epoch "
                f"{needed}, and experts have {self.expert_epochs}; raise expert_epochs to "
                f"{needed}, or lower start_epochs to {self.expert_epochs - self.span + 1}"
                if self.expert_epochs >= self.span
                else f"span = {self.span} is longer than expert_epochs = {self.expert_epochs}"
            )
        return self

    @property
    def last_epoch(self) -> int:
        """The last epoch of an expert that is matched."""
        return self.start_epochs + self.span - 1

    @property
    def expert_recipe(self) -> Recipe:
        """How experts are trained; their augmentation is ``ops``."""
        return Recipe(
            lr=self.expert_lr,
            momentum=self.expert_momentum,
            batch_size=self.expert_batch,
            epochs=self.expert_epochs or self.last_epoch,
            augment="none",
        )

    def rates(self, attempt: int) -> Rates:
        """Return how images and learning rate move in an attempt, from 0."""
        return Rates(
            images=self.lr_images * self.restart_factor**attempt,
            lr=self.inner_lr_lr,
            momentum=self.momentum,
            log=self.inner_lr_space == "log",
            floor=self.inner_lr_floor,
        )

    def judge_recipe(self, lr: float) -> Recipe:
        """Return how networks are trained that judge a client's images; MTT."""
        return Recipe(
            lr=lr,
            momentum=0.9,
            weight_decay=5e-4,
            batch_size=256,
            epochs=self.judge_epochs,
            schedule="step",
            augment="none",
        )


class TrajectoryMatching(SearchedUnion):
    """Clients distil by trajectory matching; the server trains on the union."""

    name = "trajectory_matching"
    course = Course(
        down="its quota",
        client="distils a few images by matching how training goes",
        up="its synthetic images",
        server="unites the sets, and may search how to train on them",
        leaves="one model, and the set",
    )
    Config = TrajectoryConfig
    config: TrajectoryConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # S5 with MTT's values for one image of a class and no whitening. S5 does not say which of
        # two lists it took; the candidates for all of its table are in
        # benchmarks/paper/trajectory_sharing.yaml.
        "reference": {
            "student_recipe": "search",
            "student_dsa": True,
            "validation": "pooled",
            "experts": 30,
            "expert_batch": 256,
            "span": 2,
            "start_epochs": 5,
            "inner_steps": 50,
            "inner_batch": None,
            "iterations": 2000,
            "lr_images": 1000.0,
            "inner_lr": 0.01,
            "inner_lr_lr": 1e-7,
            "inner_lr_space": "linear",
            "keep": "best",
            "evaluate_every": 200,
            "judge_epochs": 1000,
            "restarts": 0,
        },
        # What we recommend: the defaults.
        "fedbench": {},
    }

    def skip(self, cell: Cell) -> str | None:
        """Ask for hold-outs, and for one architecture without BatchNorm at all clients."""
        reason = super().skip(cell) or why_batch_norm(cell)
        if reason is None and self.config.keep == "best" and cell.partition.validation == 0:
            return (
                "keep: best measures sets on the clients' hold-outs, and partition.validation is "
                "0; set it to a share such as 0.1, or keep to last"
            )
        if reason is None and len(set(cell.models)) > 1:
            return "trajectories are of one architecture, and the clients have several"
        return reason

    def passes(self, cell: Cell) -> float | None:
        """Return passes of real images at experts, and of synthetic ones."""
        held, images, config = training_images(cell), set_images(cell), self.config
        if held is None or images is None:
            return None
        seen = min(images, (config.inner_batch or images) * cell.partition.clients)
        judged = config.iterations // config.evaluate_every + 1
        return (
            held * config.expert_recipe.epochs * config.experts
            + 3 * seen * config.inner_steps * config.iterations
            + images * judged * config.judges * config.judge_epochs
            + self.searching_passes(cell, images)
        )

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Train experts, distil, and send the set."""
        assert received is not None
        images, labels = self.start(client, int(received.tensors["images"]))
        if not len(labels):
            sent = self._packed(client, images).cpu()
            return Message("synthetic", {"images": sent, "labels": labels})
        found = self._distilled(client, images, labels, self._experts(client))
        client.state.update(prefixed({**found, "labels": labels, "base": images}, _DIARY))
        return Message(
            "synthetic", {"images": self._packed(client, found["images"]), "labels": labels}
        )

    def client_outputs(self, client: Client) -> Mapping[str, Tensor]:
        """Return how a client's distillation went, for `fedbench show distillation`."""
        return part(client.state, _DIARY)

    def findings(
        self, server: Server, clients: Mapping[int, Mapping[str, Tensor]]
    ) -> Mapping[str, Any]:
        """Return what to know of the clients' experts and distillations, and of the search."""
        keep = self.config.keep
        own = [_told(number, kept, keep) for number, kept in sorted(clients.items()) if kept]
        ill = [each["client"] for each in own if each["ill"]]
        found = {"clients": own, "ill_trained": ill}
        return {**found, **super().findings(server, clients)}

    def _experts(self, client: Client) -> Experts:
        """Train a client's experts, each an artefact, and measure them on its hold-out."""
        config = self.config
        net, epochs = client.build(client.info.model), range(config.last_epoch + 1)
        trajectories, accuracies, size = [], [], 0
        for number in range(config.experts):
            trained = client.train_classifier(
                config.expert_recipe, f"expert-{number}", tuple(epochs), ops=config.ops
            )
            trajectories.append(trained.snapshots)
            size += sum(value.nbytes for each in trained.snapshots for value in each.values())
            if client.held_out:
                load(net, trained.state)
                accuracies.append(client.measure(net))
        names = tuple(name for name, _ in net.named_parameters())
        return Experts(names, tuple(trajectories), torch.tensor(accuracies), size)

    def _distilled(
        self, client: Client, images: Tensor, labels: Tensor, experts: Experts
    ) -> dict[str, Tensor]:
        """Return a client's set and how it came about, an artefact.

        Returns:
            ``images`` (n, C, S, S) float32 of the chosen attempt, its ``losses`` by iteration,
            ``judged`` iterations (none without a hold-out) and for each of them ``accuracies``
            (judged, networks) and ``lrs`` that these were trained with; ``ill``, a code (see
            ``ILL``) for each attempt, ``rates`` of their pixels, and which is ``chosen``;
            ``experts``: their accuracies; ``expert_count`` and ``expert_bytes``.
        """
        config = self.config
        build = partial(self._distil, client, images, labels, experts)
        leave = {"name", "preset", "validation", "student_recipe", "trials", "search_epochs"}
        leave |= {"student_dsa", "element"}
        model = client.info.model
        settings = {
            **config.model_dump(mode="json", exclude=leave),
            "counts": torch.bincount(labels).tolist(),
            "held_out": client.held_out,
            "model": model.model_dump(mode="json", exclude_none=True),
            "versions": [_VERSION, Recipe.version, MODELS.get(model.name).version],
        }
        return dict(client.artefact("trajectory-set", settings, build).tensors)

    def _distil(
        self, client: Client, images: Tensor, labels: Tensor, experts: Experts
    ) -> dict[str, Tensor]:
        """Distil, and start again with a smaller pixel rate while it comes to nothing."""
        config, attempts = self.config, []
        for number in range(config.restarts + 1):
            attempts.append(self._attempt(client, images, labels, experts, number))
            if not attempts[-1].ill:
                break
        chosen = max(attempts, key=lambda each: (not each.ill, each.worth(config.keep)))
        return {
            **chosen.tensors(config.keep),
            "ill": torch.tensor([each.ill for each in attempts]),
            "rates": torch.tensor([each.rates.images for each in attempts]),
            "chosen": torch.tensor(attempts.index(chosen)),
            "experts": experts.accuracies,
            "expert_count": torch.tensor(config.experts),
            "expert_bytes": torch.tensor(experts.size_bytes),
        }

    def _attempt(
        self, client: Client, images: Tensor, labels: Tensor, experts: Experts, number: int
    ) -> Attempt:
        """Move the images for all iterations, each a stage."""
        config, device = self.config, client.device
        usable = self._usable(client, experts)
        loop = InnerLoop(
            client.build(client.info.model).to(device),
            labels.to(device),
            bf16=client.cell.precision == "bf16-mixed",
        )
        attempt = Attempt(images, config.inner_lr, config.rates(number))
        stages = client.stages(
            f"attempt {number}", config.iterations + 1, keep={"attempt": attempt.kept}
        )
        for step in stages:
            if step % config.evaluate_every == 0 or step == config.iterations:
                attempt.judge(step, self._judged(client, attempt, labels))
            if step == config.iterations or attempt.diverged:
                continue
            source = client.generator("trajectory", number, step)
            expert, epoch = usable[int(torch.randint(len(usable), (), generator=source))]
            batches = draw_batches(
                len(images),
                config.inner_steps,
                config.inner_batch,
                config.ops,
                client.shape.size,
                source,
                device,
            )
            segment = experts.segment(expert, epoch, config.span, device)
            way = loop.recomputed if config.gradient == "recomputed" else loop.unrolled
            attempt.move(way(segment, attempt.images, attempt.lr, batches))
        return attempt

    def _usable(self, client: Client, experts: Experts) -> list[tuple[int, int]]:
        """Return which experts and epochs a student may start from: those that move at all.

        Raises:
            TrainingError: There are none.
        """
        config, cpu = self.config, torch.device("cpu")
        found = [
            (expert, epoch)
            for expert in range(config.experts)
            for epoch in range(config.start_epochs)
            if moves(experts.segment(expert, epoch, config.span, cpu))
        ]
        if not found:
            raise TrainingError(
                f"the experts of client {client.info.id} do not move within {config.span} epochs "
                f"of {len(client.data)} images in batches of {config.expert_batch} at expert_lr = "
                f"{config.expert_lr:g}, so there is nothing to match; raise `span` or `expert_lr`, "
                "or lower `expert_batch`"
            )
        return found

    def _judged(self, client: Client, attempt: Attempt, labels: Tensor) -> list[float]:
        """Train new networks on the images, and return their accuracies on the hold-out if any.

        That of a network whose training diverges at the learned rate is 0.
        """
        if attempt.diverged or not client.held_out:
            return []
        shared = SyntheticSet(attempt.images.cpu(), labels, client.shape.normalisation)
        recipe, found = self.config.judge_recipe(float(attempt.lr)), []
        for number in range(self.config.judges):
            net = client.build(client.info.model, f"judge-{number}")
            name, ops = f"judge {number}", self.config.ops
            try:
                train_on_set(client, net, shared, recipe, name=name, ops=ops)
            except TrainingError:  # the learned rate is too large for it
                found.append(0.0)
            else:
                found.append(client.measure(net))
        return found

    def _packed(self, client: Client, images: Tensor) -> Tensor:
        """Return images as they travel."""
        if self.config.element == "uint8":
            return client.shape.normalisation.to_pixels(images)
        return images.half() if self.config.element == "fp16" else images


def _told(number: int, kept: Mapping[str, Tensor], keep: Literal["best", "last"]) -> dict[str, Any]:
    """Return in plain values how a client's distillation went, and how good what it sent is."""
    ill, losses = kept["ill"].tolist(), kept["losses"].tolist()
    found = {
        "client": number,
        "experts": int(kept["expert_count"]),
        "expert_bytes": int(kept["expert_bytes"]),
        "attempts": len(ill),
        "ill": ILL[ill[int(kept["chosen"])]],
        "loss": [mean_of(losses[:WINDOW]), mean_of(losses[-WINDOW:])] if losses else None,
    }
    if len(kept["judged"]):
        means = kept["accuracies"].mean(1)
        sent = int(means.argmax()) if keep == "best" else len(means) - 1
        found |= {
            "expert_accuracy": float(kept["experts"].mean()),
            "base_accuracy": float(means[0]),
            "accuracy": float(means[sent]),
            "iteration": int(kept["judged"][sent]),
            "inner_lr": float(kept["lrs"][sent]),
        }
    return found
