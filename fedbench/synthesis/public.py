"""Distillation of client models on public images: the base of FedDF and of the single image.

The server keeps one network for each architecture among the clients, a mirror. In each round
clients train from the mirror of theirs; what they know meets at the server as logits on public
images, and every mirror is distilled from all of them. Either clients upload weights and the server
computes the logits, or clients are given the public images once, and upload logits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fedbench.config import Cell, MethodConfig
from fedbench.data.dataset import Split
from fedbench.federation.averaging import average
from fedbench.federation.budget import budget_pixels
from fedbench.federation.client import Client, ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import MIRROR, ClientTraining, Method, Upload
from fedbench.federation.server import Server
from fedbench.federation.state import part, prefixed
from fedbench.federation.work import Work, load
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.synthesis.schedule import StepSchedule
from fedbench.synthesis.voting import Best, client_weights, keep_best_teachers
from fedbench.training.distillation import Distillation, Objective, Teacher
from fedbench.training.logits import LogitBound
from fedbench.training.recipe import Augment, Recipe

State = Mapping[str, Tensor]


class PublicConfig(MethodConfig):
    """Settings of distillation on public images."""

    rounds: int = Field(1, ge=1)  # fedbench: one shot; FedDF has 100 rounds, S1 30
    """Communication rounds, R."""
    epochs: int | None = Field(None, ge=0)
    """Local epochs a round; None takes the recipe's."""
    exchange: Literal["weights", "logits"] = "weights"  # FedDF
    """What goes up: weights; or logits on the public images, which then go down once, and weights
    only in rounds that start from their average."""
    weighting: Literal["uniform", "samples", "batches"] = "uniform"  # FedDF
    """How clients are weighed in both averages: alike, or by samples or mini-batches."""
    objective: Objective = "avg_probs"  # fedbench: docs/public.md; FedDF and S1: avg_logits
    """What a student learns from several teachers."""
    temperature: float = Field(1.0, gt=0)  # FedDF, S1
    """T of the softmax of teachers and student."""
    steps: int = Field(500, ge=0)  # S1
    """Distillation steps a round, at most where they are scheduled."""
    batch_size: int = Field(64, ge=1)  # FedDF
    """Public images in a step."""
    lr: float = Field(1e-3, gt=0)  # FedDF
    """Learning rate of Adam, new in every round."""
    schedule: Literal["constant", "cosine"] = "cosine"  # FedDF
    """Of the learning rate over a round's steps."""
    clip_norm: float | None = Field(5.0, gt=0)  # FedDF
    """Largest norm of the student's gradient; None does not clip."""
    augment: Augment = "standard"  # FedDF
    """Of the public images, which needs the teachers' weights at the server."""
    init_every: int = Field(1, ge=1)  # FedDF, S1
    """I: a round divisible by it starts from the average of its uploads, others from the last
    mirror."""
    warm_rounds: int = Field(1, ge=0)  # S1
    """First rounds that start from the average as well."""
    average_buffers: bool = True  # fedbench: FedDF's code keeps the last client's
    """Average BatchNorm statistics; if not, those of the last client stay."""
    logit_length: float | None = Field(None, gt=0)
    """Bound on the length of logits in the clients' and the students' losses."""
    logit_rule: Literal["jump", "clip"] = "clip"  # fedbench: S1's code jumps
    """How logits are bounded (see ``LogitBound``)."""
    drop_worst: bool = False  # FedDF: an option
    """Leave out teachers that validation finds bad."""
    validate_every: int = Field(50, ge=1)  # S1; FedDF has 100
    """Steps between two validations, where there is one; the best snapshot is kept."""
    patience: int | None = Field(None, ge=1)
    """Steps without a better snapshot after which a student stops; None never stops."""
    keep_initial: bool = False  # FedDF's code, S1
    """Whether a student as it was before its first step may be the best."""
    step_schedule: StepSchedule = StepSchedule()
    """How the number of steps varies over rounds and architectures."""


@dataclass
class _Gathered:
    """What a round's uploads come to.

    Attributes:
        clients: Who sent.
        logits: Of each client, (n, classes) on the chosen images, where logits are exchanged.
        nets: Of each client, where weights are.
        states: Weights by architecture, each with its client, where they were sent.
    """

    clients: list[ClientInfo] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    nets: list[Net] = field(default_factory=list)
    states: dict[str, list[tuple[ClientInfo, State]]] = field(default_factory=dict)


class PublicDistillation(Method):
    """Base of methods that distil on public images."""

    Config = PublicConfig
    uses_budget = True
    config: PublicConfig

    @abstractmethod
    def delivery(self, server: Server) -> dict[str, Tensor]:
        """Return what clients have to be given once, to have the public images."""

    @abstractmethod
    def public(self, worker: Work, delivered: State) -> Tensor:
        """Return all public images, (N, C, S, S) uint8, made from what ``delivery`` returned."""

    def choose(self, server: Server, bank: Tensor, guide: Guide, round: int) -> Tensor:
        """Return positions of the public images that a round distils on, (n,) int64."""
        return torch.arange(len(bank))

    @property
    def chooses_late(self) -> bool:
        """Whether ``choose`` waits for the clients' models."""
        return False

    def skip(self, cell: Cell) -> str | None:
        """Refuse settings that contradict each other."""
        config = self.config
        if cell.budget is None:
            return f"{self.name} needs a budget, such as budget.pixels = 100000"
        if budget_pixels(cell) is None:
            return (
                f"the classes of {cell.data.name!r} are known from its files only; give "
                "budget.pixels instead of budget.ipc"
            )
        if cell.budget.scope == "per_client":
            return "public images are one set that all share; set budget.scope to total"
        if config.exchange == "logits" and config.augment != "none":
            return "clients send logits of public images as they are; set augment to none"
        if config.exchange == "logits" and config.drop_worst:
            return "drop_worst validates the clients' models, which only exchange: weights sends"
        if config.drop_worst and config.validation == "none":
            return "drop_worst needs validation: poll or pooled"
        return None

    def rounds(self) -> int:
        """Return R."""
        return self.config.rounds

    def recipe(self, cell: Cell) -> Recipe:
        """Return the recipe of one local training."""
        epochs = self.config.epochs
        return cell.recipe if epochs is None else cell.recipe.model_copy(update={"epochs": epochs})

    def client_training(self, cell: Cell) -> ClientTraining:
        """Return the first round's training."""
        return ClientTraining(self.recipe(cell), logit_bound=self._bound())

    def passes(self, cell: Cell) -> float | None:
        """Return the clients' passes and the students'."""
        local = super().passes(cell)
        students = self.config.steps * self.config.batch_size * len(set(cell.models))
        return local and local + students * self.config.rounds

    def setup(self, server: Server) -> None:
        """Start every mirror from its architecture's common initial weights."""
        for model in dict.fromkeys(server.cell.models):
            _put(server, model, server.build(model).state_dict())
        server.state["reached"] = torch.zeros(len(server.clients), dtype=torch.bool)

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message:
        """Send the client its mirror; with logits, also what to compute them on."""
        tensors = prefixed(_mirror(server, to.model), "model/")
        if self.config.exchange == "logits":
            tensors["chosen"] = server.state["chosen"].int()
            if not server.state["reached"][to.id]:
                tensors.update(prefixed(self.delivery(server), "public/"))
        return Message("task", tensors)

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Train from the mirror, and send weights, or logits on the chosen images."""
        assert received is not None
        trained = client.train_classifier(
            self.recipe(client.cell),
            init=part(received.tensors, "model/"),
            logit_bound=self._bound(),
        )
        if self.config.exchange == "weights":
            return Message.of_model(trained.state)
        client.state.update(part(received.tensors, "public/"))
        bank = self.public(client, client.state)
        net = client.build(client.info.model)
        load(net, trained.state)
        chosen = received.tensors["chosen"].long()
        tensors = {"logits": client.forward(net, bank[chosen])}
        if self._warm(round):
            tensors.update(prefixed(trained.state, "model/"))
        return Message("logits", tensors)

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Choose public images, gather what clients know of them, distil every mirror."""
        bank = self.public(server, self.delivery(server))
        if not self.chooses_late:
            self._choose(server, bank, self._mirror_guide(server), round)
        found = self._gather(server, uploads, round)
        starts = self._starts(server, found, round)
        if self.chooses_late:
            self._choose(server, bank, self._ensemble_guide(server, found, starts), round)
        images = bank[server.state["chosen"].long()]
        teacher, shares = self._teacher(server, found, images)
        for model in dict.fromkeys(server.cell.models):
            net = self._distil(server, model, starts[model.label], images, teacher, shares, round)
            _put(server, model, net.state_dict())
            server.observe(net, round + 1, _name(server.cell, model))

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the mirror as ``global``, or each architecture's as ``mirror/...``."""
        for model in dict.fromkeys(server.cell.models):
            yield _name(server.cell, model), _net(server, model)

    def _bound(self) -> LogitBound | None:
        length = self.config.logit_length
        return None if length is None else LogitBound(length, self.config.logit_rule)

    def _warm(self, round: int) -> bool:
        """Return whether a round (from 0) starts from the average of its uploads."""
        return round < self.config.warm_rounds or (round + 1) % self.config.init_every == 0

    def _choose(self, server: Server, bank: Tensor, guide: Guide, round: int) -> None:
        server.state["chosen"] = self.choose(server, bank, guide, round)

    def _gather(self, server: Server, uploads: Iterable[Upload], round: int) -> _Gathered:
        """Read a round's uploads; the networks of all clients are in memory at once."""
        found, weights = _Gathered(), self.config.exchange == "weights"
        for upload in uploads:
            info, tensors = upload.client, upload.message.tensors
            found.clients.append(info)
            server.state["reached"][info.id] = True
            if not weights:
                found.logits.append(tensors["logits"])
            state = tensors if weights else part(tensors, "model/")
            if state:
                found.states.setdefault(info.model.label, []).append((info, state))
            if weights:
                net = server.build(info.model)
                load(net, state)
                found.nets.append(net)
        return found

    def _starts(self, server: Server, found: _Gathered, round: int) -> dict[str, State]:
        """Return what each architecture's student starts from."""
        starts: dict[str, State] = {}
        for model in dict.fromkeys(server.cell.models):
            sent = found.states.get(model.label, [])
            if not sent or not self._warm(round):
                starts[model.label] = _mirror(server, model)
                continue
            weighting, batch_size = self.config.weighting, server.cell.recipe.batch_size
            weights = client_weights([info for info, _ in sent], weighting, batch_size)
            mean = average(
                (state, weight) for (_, state), weight in zip(sent, weights, strict=True)
            )
            if not self.config.average_buffers:
                net = server.build(model)
                mean |= {name: sent[-1][1][name] for name, _ in net.named_buffers()}
            starts[model.label] = mean
        return starts

    def _teacher(self, server: Server, found: _Gathered, images: Tensor) -> tuple[Teacher, Tensor]:
        """Return the teachers as one function of a batch, and their shares."""
        weighting, batch_size = self.config.weighting, server.cell.recipe.batch_size
        shares = torch.tensor(client_weights(found.clients, weighting, batch_size))
        nets = found.nets
        if self.config.drop_worst:
            scores = [server.validate(net) for net in nets]
            kept = keep_best_teachers(scores, server.shape.classes)
            nets, shares = [nets[k] for k in kept], shares[kept]
        shares = shares / shares.sum()
        if nets and self.config.augment != "none":
            for net in nets:
                net.to(server.device).eval()
            return lambda batch, _: torch.stack([net(batch).float() for net in nets]), shares
        logits = found.logits or [server.forward(net, images) for net in nets]
        table = torch.stack([part.to(server.device) for part in logits])
        return lambda _, places: table.index_select(1, places), shares

    def _distil(
        self,
        server: Server,
        model: Model,
        start: State,
        images: Tensor,
        teacher: Teacher,
        shares: Tensor,
        round: int,
    ) -> Net:
        """Return an architecture's student after its steps, or its best snapshot."""
        from fedbench.training.distiller import Distiller

        config = self.config
        net = server.build(model)
        load(net, start)
        sizes = {each.label: _size(server.build(each)) for each in server.cell.models}
        steps = config.step_schedule.steps(
            config.steps, round + 1, size=sizes[model.label], largest=max(sizes.values())
        )
        if steps == 0:
            return net
        best = None
        if config.validation != "none":
            best = Best(server, net, config.validate_every, steps, config.patience)
            if config.keep_initial:
                best.measure(0)
        plan = Distillation(
            config.lr,
            steps,
            config.schedule,
            config.clip_norm,
            config.temperature,
            config.objective,
            self._bound(),
        )
        places = Split(images, torch.arange(len(images)))
        recipe = Recipe(batch_size=config.batch_size, augment=config.augment)
        loader = server.loader(places, recipe, "distil", model.label, round)
        module = Distiller(net, teacher, shares, plan, best)
        server.fit(module, loader, name=f"distil {model.label}", steps=steps)
        if best is not None:
            load(net, best.state)
            server.state[f"accuracy/{model.label}"] = torch.tensor(best.accuracy)
        return net

    def _mirror_guide(self, server: Server) -> Guide:
        return Guide(server, _net(server, _best_model(server)), ())

    def _ensemble_guide(
        self, server: Server, found: _Gathered, starts: Mapping[str, State]
    ) -> Guide:
        model = _best_model(server)
        net = server.build(model)
        load(net, starts[model.label])
        return Guide(server, net, tuple(found.nets))


@dataclass(frozen=True)
class Guide:
    """What tells crops apart: a network's features, and its or an ensemble's logits.

    Attributes:
        server: Computes.
        net: Gives features.
        teachers: Their averaged logits are taken instead of the network's.
    """

    server: Server
    net: Net
    teachers: tuple[Net, ...]

    def describe(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, d) and logits (N, classes) of (N, C, S, S) uint8 images."""
        features, logits = self.server.describe(self.net, images)
        if self.teachers:
            total = torch.zeros_like(logits)
            for teacher in self.teachers:
                total += self.server.forward(teacher, images).to(total.device)
            logits = total / len(self.teachers)
        return features, logits


def _best_model(server: Server) -> Model:
    """Return the architecture of the mirror that validation found best, or of the largest one."""

    def rank(model: Model) -> tuple[float, int]:
        accuracy = server.state.get(f"accuracy/{model.label}", torch.tensor(-1.0))
        return float(accuracy), _size(server.build(model))

    return max(dict.fromkeys(server.cell.models), key=rank)


def _size(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


def _name(cell: Cell, model: Model) -> str:
    return "global" if len(set(cell.models)) == 1 else f"{MIRROR}{model.label}"


def _mirror(server: Server, model: Model) -> dict[str, Tensor]:
    return part(server.state, f"{MIRROR}{model.label}/")


def _net(server: Server, model: Model) -> Net:
    net = server.build(model)
    load(net, _mirror(server, model))
    return net


def _put(server: Server, model: Model, state: State) -> None:
    server.state.update(prefixed(state, f"{MIRROR}{model.label}/"))
