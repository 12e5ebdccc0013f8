"""Distillation of client models on public images: the tools of FedDF and of the single image.

The server keeps a mirror for each architecture (see ``mirrors``). What clients know meets there as
logits on public images: either they upload weights and the server computes the logits, or they are
given the images once and upload logits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fedbench.config import Cell, MethodConfig
from fedbench.data.dataset import Split
from fedbench.federation.averaging import average
from fedbench.federation.budget import budget_pixels
from fedbench.federation.client import Client, ClientInfo, Trained
from fedbench.federation.message import Message
from fedbench.federation.method import ClientTraining, Method, Upload
from fedbench.federation.server import Server
from fedbench.federation.stages import Kept
from fedbench.federation.state import part, prefixed
from fedbench.federation.work import load
from fedbench.models.families import Initialisation
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.synthesis.public import mirrors
from fedbench.synthesis.public.schedule import StepSchedule
from fedbench.synthesis.public.voting import Best, Rule, client_weights, keep_best_teachers
from fedbench.synthesis.teachers import Teachers
from fedbench.training.distillation import Distillation, Objective, Teacher
from fedbench.training.logits import LogitBound
from fedbench.training.recipe import Augment, Recipe

State = Mapping[str, Tensor]

#: How the codes start the convolutions of their architectures, and of those of their kind.
STARTS: Mapping[str, Mapping[str, Initialisation]] = {
    "feddf": dict.fromkeys(("resnet8", "resnet20", "resnet18", "wrn16_4"), "kaiming_normal"),
    "single_image": {
        **dict.fromkeys(("resnet8", "resnet20", "resnet18"), "kaiming_normal"),
        "wrn16_4": "kaiming_uniform",
    },
}


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
    validation_rule: Rule = "single_image"  # S1
    """Which steps are validated, and which of equal snapshots is kept. `single_image`: the first,
    every `validate_every` and the last step; the last of equals. `feddf`: multiples of
    `validate_every` alone; the first of equals."""
    initialisation: Literal["models", "single_image", "feddf"] = "models"  # fedbench: PyTorch's
    """How ResNets and WRNs start whose `models` says nothing of it: as PyTorch starts them, or as
    in the code of either paper (see docs/models.md). Others start as they always do."""
    step_schedule: StepSchedule = StepSchedule()
    """How the number of steps varies over rounds and architectures."""

    @property
    def bound(self) -> LogitBound | None:
        """Bound on the length of logits in losses."""
        return None if self.logit_length is None else LogitBound(self.logit_length, self.logit_rule)

    def started(self, model: Model) -> Model:
        """Return an architecture with the initialisation of the code that the settings name."""
        how = STARTS.get(self.initialisation, {}).get(model.name)
        if how is None or model.initialisation is not None:
            return model
        return model.model_copy(update={"initialisation": how})

    def idle(self, models: Iterable[Model]) -> Iterator[str]:
        """Yield what no architecture takes, and a rule of validation where there is none."""
        if all(self.started(model) == model for model in models):
            yield "initialisation"
        if self.validation == "none":
            yield "validation_rule"

    def warm(self, round: int) -> bool:
        """Return whether a round (from 0) starts from the average of its uploads."""
        return round < self.warm_rounds or (round + 1) % self.init_every == 0

    def local(self, cell: Cell) -> Recipe:
        """Return the recipe of one local training."""
        recipe = cell.recipe
        return recipe if self.epochs is None else recipe.model_copy(update={"epochs": self.epochs})


class PublicMethod(Method):
    """What plans and records ask of both methods; the algorithms are in their files."""

    Config = PublicConfig
    uses_budget = True
    config: PublicConfig

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
        return _never_measured(config)

    def rounds(self) -> int:
        """Return R."""
        return self.config.rounds

    def client_training(self, cell: Cell) -> ClientTraining:
        """Return the first round's training."""
        return ClientTraining(self.config.local(cell), logit_bound=self.config.bound)

    def passes(self, cell: Cell) -> float | None:
        """Return the clients' passes and the students'."""
        local = super().passes(cell)
        students = self.config.steps * self.config.batch_size * len(set(cell.models))
        return local and local + students * self.config.rounds

    def setup(self, server: Server) -> None:
        """Start every mirror from its architecture's common initial weights."""
        mirrors.begin(server)
        server.state["reached"] = torch.zeros(len(server.clients), dtype=torch.bool)

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the mirror as ``global``, or each architecture's as ``mirror/...``."""
        yield from mirrors.final(server)


def _never_measured(config: PublicConfig) -> str | None:
    """Say that a student may end before it is validated, or return None."""
    least = config.step_schedule.least(config.steps)
    always = config.validation_rule != "feddf" or config.validation == "none"
    if always or config.steps == 0 or least >= config.validate_every:
        return None
    return (
        f"validation_rule: feddf validates after every {config.validate_every} steps alone, and a "
        f"round may have {least}; set validate_every to {least} or less, or the rule to "
        "single_image"
    )


@dataclass
class Gathered:
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


def task(server: Server, to: ClientInfo, round: int) -> dict[str, Tensor]:
    """Return what gives a client its mirror: in the first round a seed does."""
    if round == 0:
        return dict(server.seed().tensors)
    return prefixed(mirrors.weights(server, to.model), "model/")


def answer(client: Client, trained: Trained, images: Tensor, *, with_weights: bool) -> Message:
    """Return what a client says of public images after its training.

    Args:
        client: Computes.
        trained: Its network's weights.
        images: (n, C, S, S) uint8.
        with_weights: Send the weights as well, for an average to start from.
    """
    net = client.build(client.info.model)
    load(net, trained.state)
    tensors = {"logits": client.inference.logits(net, images)}
    if with_weights:
        tensors.update(prefixed(trained.state, "model/"))
    return Message("logits", tensors)


def gather(
    server: Server, uploads: Iterable[Upload], exchange: Literal["weights", "logits"]
) -> Gathered:
    """Read a round's uploads, weights or logits with weights beside them on warm rounds.

    The networks of all clients are in memory at once. Who has sent has the public images.
    """
    found = Gathered()
    for upload in uploads:
        info, tensors = upload.client, upload.message.tensors
        found.clients.append(info)
        server.state["reached"][info.id] = True
        if exchange == "weights":
            state: State = tensors
            found.nets.append(mirrors.network(server, info.model, state))
        else:
            state = part(tensors, "model/")
            found.logits.append(tensors["logits"])
        if state:
            found.states.setdefault(info.model.label, []).append((info, state))
    return found


def starts(server: Server, config: PublicConfig, found: Gathered, round: int) -> dict[str, State]:
    """Return what each architecture's student starts from, by label.

    On warm rounds that is the average of the architecture's uploads; otherwise, and where none of
    its clients took part, its mirror.
    """
    given: dict[str, State] = {}
    for model in mirrors.architectures(server.cell):
        sent = found.states.get(model.label, [])
        if not sent or not config.warm(round):
            given[model.label] = mirrors.weights(server, model)
            continue
        batch_size = server.cell.recipe.batch_size
        shares = client_weights([info for info, _ in sent], config.weighting, batch_size)
        mean = average((state, share) for (_, state), share in zip(sent, shares, strict=True))
        if not config.average_buffers:
            mean |= {name: sent[-1][1][name] for name, _ in server.build(model).named_buffers()}
        given[model.label] = mean
    return given


def teach(
    server: Server, config: PublicConfig, found: Gathered, images: Tensor
) -> tuple[Teacher, Tensor]:
    """Return a round's clients as one teacher, and their shares, (K,) summing to 1.

    Args:
        server: Computes.
        config: Who counts how much, and whether the worst are left out.
        found: What they sent.
        images: (n, C, S, S) uint8 that students will see. Where they are not augmented, or clients
            sent logits, the teacher is a table of the logits at each place.
    """
    batch_size = server.cell.recipe.batch_size
    shares = torch.tensor(client_weights(found.clients, config.weighting, batch_size))
    nets = found.nets
    if config.drop_worst:
        scores = [server.validate(net) for net in nets]
        kept = keep_best_teachers(scores, server.shape.classes)
        nets, shares = [nets[k] for k in kept], shares[kept]
    shares = shares / shares.sum()
    if found.logits:
        table = torch.stack([each.to(server.device) for each in found.logits])
    else:
        teachers = Teachers(nets, server.inference)
        if config.augment != "none":
            return lambda batch, _: teachers.logits(batch), shares
        table = teachers.table(images)
    return lambda _, row: table.index_select(1, row["places"]), shares


def distil(
    server: Server,
    config: PublicConfig,
    begun: Mapping[str, State],
    images: Tensor,
    teacher: Teacher,
    shares: Tensor,
    round: int,
) -> None:
    """Distil every mirror, one stage each, and mark a point of its curve.

    A student that is validated ends as its best snapshot.

    Args:
        server: Trains, and validates where the settings say so.
        config: How.
        begun: Weights and buffers that each architecture starts from, by label.
        images: (n, C, S, S) uint8.
        teacher: From ``teach``; so are the shares.
        shares: (K,).
        round: From 0; the steps may depend on it.
    """
    models = mirrors.architectures(server.cell)
    nets = [mirrors.network(server, model, begun[model.label]) for model in models]
    largest, found = max(map(mirrors.size, nets)), dict[str, float]()
    keep: dict[str, Kept] = {"nets": nn.ModuleList(nets), "accuracies": found}
    for number in server.stages("mirrors", len(models), keep=keep):
        model, net = models[number], nets[number]
        size = mirrors.size(net)
        steps = config.step_schedule.steps(config.steps, round + 1, size=size, largest=largest)
        if steps:
            best = _student(server, config, model, net, steps, images, teacher, shares, round)
            if best is not None:
                found[model.label] = best
        server.observe(net, round + 1, mirrors.name(server.cell, model))
    for model, net in zip(models, nets, strict=True):
        mirrors.keep(server, model, net.state_dict())
        if model.label in found:
            mirrors.rate(server, model, found[model.label])


def _student(
    server: Server,
    config: PublicConfig,
    model: Model,
    net: Net,
    steps: int,
    images: Tensor,
    teacher: Teacher,
    shares: Tensor,
    round: int,
) -> float | None:
    """Train a student in place, and return its accuracy where it is validated."""
    from fedbench.synthesis.student import Student

    best = None
    if config.validation != "none":
        rule = config.validation_rule
        best = Best(server, net, config.validate_every, steps, config.patience, rule)
        if config.keep_initial:
            best.measure(0)
    recipe = Recipe(
        optimizer="adam",
        lr=config.lr,
        schedule=config.schedule,
        clip_norm=config.clip_norm,
        batch_size=config.batch_size,
        augment=config.augment,
    )
    module = Student(
        net,
        recipe,
        ("places",),
        epochs=steps,
        teacher=teacher,
        shares=shares,
        distillation=Distillation(config.objective, config.temperature),
        logit_bound=config.bound,
        after_step=best,
    )
    places = Split(images, torch.arange(len(images)))
    loader = server.loader(places, recipe, "distil", model.label, round)
    server.fit(module, loader, name=f"distil {model.label}", steps=steps)
    if best is None:
        return None
    load(net, best.state)
    return best.accuracy
