"""A union of images on which the server looks for the best optimiser before it trains.

Every trial trains a new network and measures it on the clients' hold-outs, never on test data.
What is compared, such as distilled and real images, is given the same number of trials.

Source: Epple, "On the Efficiency of Sharing Distilled Data", EPFL project report (S5), which names
Optuna, SGD or Adam, and a learning rate; ranges and trials are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from fedbench.config import Cell, MethodConfig
from fedbench.data import dsa
from fedbench.errors import TrainingError
from fedbench.federation.budget import quotas
from fedbench.federation.client import Client
from fedbench.federation.method import Upload
from fedbench.federation.server import Server
from fedbench.federation.state import part, prefixed
from fedbench.federation.synthetic import SyntheticSet
from fedbench.models.families import MODELS
from fedbench.synthesis.matching.local import by_class, real_start
from fedbench.synthesis.matching.search import Tried, Value, search
from fedbench.synthesis.sets import UnionMethod, train_on_set
from fedbench.training.recipe import Student

if TYPE_CHECKING:
    import optuna

#: The optimisers that are tried, and the learning rates between which each is.  # fedbench
SPACE: Mapping[str, tuple[float, float]] = {"sgd": (1e-3, 1.0), "adam": (1e-4, 1e-1)}

_SEARCH = "search/"


class SearchedConfig(MethodConfig):
    """Settings of every method whose server searches how to train on the union."""

    student_recipe: Literal["search", "fixed"] = "fixed"  # fedbench: S5 searches
    """Take the cell's `student`, by which all shared sets are trained, or search optimiser and
    learning rate on the clients' hold-outs, which needs a `validation`."""
    trials: int = Field(20, ge=1)  # fedbench: S5 does not say
    """Trials of the search."""
    search_epochs: int = Field(300, ge=1)  # fedbench: S5 does not say; the default of `student`
    """Passes over the set in a trial."""
    augment: str = dsa.STRATEGY  # S5, MTT; DSA's authors leave out the flip for digits
    """Differentiable augmentation: operations joined by `_`, or `none`."""
    student_dsa: bool = False  # fedbench: the same training for all shared sets; S5, MTT true
    """Train on the set with `augment`, instead of the recipe's augmentation."""

    @field_validator("augment")
    @classmethod
    def _known(cls, value: str) -> str:
        dsa.parse(value)
        return value

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if self.student_recipe == "search" and self.validation == "none":
            raise ValueError(
                "a search has to measure what it tries, and `validation` is none; set validation "
                "to pooled or poll and partition.validation to a share such as 0.1, or "
                "student_recipe to fixed"
            )
        return self

    @property
    def ops(self) -> tuple[dsa.Op, ...]:
        """The operations of ``augment``."""
        return dsa.parse(self.augment)


class SearchedUnion(UnionMethod):
    """Base of methods whose server unites images and searches how to train on them."""

    config: SearchedConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def start(self, client: Client, quota: int) -> tuple[Tensor, Tensor]:
        """Draw the real images that a client shares, or starts from: its base images.

        Args:
            client: Whose.
            quota: How many, at most.

        Returns:
            (n, C, S, S) normalised floats on its device and (n,) int64 labels, ascending.
        """
        shares = even_shares(quota, client.data.labels, client.shape.classes)
        return real_start(client, by_class(client), shares, 1)

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Unite the images, search how to train on them, and train one model."""
        images, labels, origin = [], [], []
        for upload in uploads:
            sent = upload.message.tensors
            kept = sent["images"]
            images.append(kept if kept.dtype == torch.uint8 else kept.float())
            labels.append(sent["labels"].long())
            origin.append(torch.full((len(kept),), upload.client.id))
        scale = server.shape.normalisation
        shared = SyntheticSet(torch.cat(images), torch.cat(labels), scale, torch.cat(origin))
        ops = self.config.ops if self.config.student_dsa else ()
        recipe = server.cell.student
        if self.config.student_dsa:  # in place of other augmentation, even if it is none
            recipe = recipe.model_copy(update={"augment": "none"})
        if self.config.student_recipe == "search":
            tried = self._search(server, shared, recipe, ops)
            server.state.update(prefixed(_tensors(tried), _SEARCH))
            recipe = _with(recipe, best(tried).params)
        self.conclude(server, shared, recipe=recipe, ops=ops)

    def outputs(self, server: Server) -> Mapping[str, Mapping[str, Tensor]]:
        """Return the search's trials, for `fedbench show search`."""
        found = part(server.state, _SEARCH)
        return {"search": found} if found else {}

    def findings(
        self, server: Server, clients: Mapping[int, Mapping[str, Tensor]]
    ) -> Mapping[str, Any]:
        """Return what the search has found."""
        found = part(server.state, _SEARCH)
        if not found:
            return {}
        tried = trials(found)
        top = best(tried)
        failed = sum(math.isnan(each.value) for each in tried)
        return {
            "search": {"trials": len(tried), "failed": failed, "best": top.params, "at": top.value}
        }

    def searching_passes(self, cell: Cell, images: float) -> float:
        """Return passes of a set's images in the search and in the training after it."""
        config = self.config
        tried = config.trials * config.search_epochs if config.student_recipe == "search" else 0
        return images * (tried + cell.student.epochs)

    def _search(
        self, server: Server, shared: SyntheticSet, student: Student, ops: Sequence[dsa.Op]
    ) -> list[Tried]:
        def objective(params: dict[str, Value]) -> float:
            net = server.build(server.cell.student_model)
            recipe = _with(student, params, epochs=self.config.search_epochs)
            try:
                train_on_set(server, net, shared, recipe, name="trial", ops=ops)
            except TrainingError:  # its learning rate is too large
                return math.nan
            return server.validate(net)

        return search(server, "search", self.config.trials, _suggest, objective)


def even_shares(count: int, labels: Tensor, classes: int) -> list[int]:
    """Return how many images of each class a client starts from.

    S5 gives a client of S shards S times ipc images. A shard may end within a class, so that a
    client holds more than S: what cannot be shared evenly goes to those of which it holds most.

    Args:
        count: Images that it may have in sum.
        labels: (n,) int64 of what it holds.
        classes: C.

    Returns:
        C numbers, none above what the client holds of the class; their sum is min(count, n).
    """
    held = torch.bincount(labels.cpu(), minlength=classes)
    order = held.argsort(descending=True, stable=True)
    shares = torch.zeros_like(held)
    shares[order] = torch.tensor(quotas(count, held[order].tolist()))
    return [int(share) for share in shares]


def best(tried: Sequence[Tried]) -> Tried:
    """Return the trial with the largest value, of equal ones the first.

    Raises:
        TrainingError: Every trial has failed.
    """
    good = [each for each in tried if not math.isnan(each.value)]
    if not good:
        raise TrainingError(
            f"all {len(tried)} trials of the search diverged; look at the shared images (are their "
            "values finite?), or set the method's `student_recipe` to fixed"
        )
    return max(good, key=lambda each: each.value)


def trials(kept: Mapping[str, Tensor]) -> list[Tried]:
    """Return the trials of a record's output ``search``, in their order."""
    names = list(SPACE)
    return [
        Tried({"optimizer": names[which], "lr": lr}, value)
        for which, lr, value in zip(
            kept["optimizer"].tolist(), kept["lr"].tolist(), kept["value"].tolist(), strict=True
        )
    ]


def why_batch_norm(cell: Cell) -> str | None:
    """Return why a cell's clients' networks cannot be matched, or None."""
    for model in cell.models:
        if MODELS.get(model.name).has_batch_norm(model, cell.data.size):
            return (
                f"{model.label} has BatchNorm, whose statistics are no part of a trajectory; give "
                "the clients a convnet with norm: instance"
            )
    return None


def _suggest(trial: optuna.Trial) -> None:
    optimizer = trial.suggest_categorical("optimizer", list(SPACE))
    low, high = SPACE[optimizer]
    trial.suggest_float(f"lr_{optimizer}", low, high, log=True)


def _with(recipe: Student, params: Mapping[str, Value], epochs: int | None = None) -> Student:
    """Return a recipe with what a trial says, and with other epochs if any are given."""
    optimizer = params["optimizer"]
    lr = params.get("lr", params.get(f"lr_{optimizer}"))
    length = recipe.epochs if epochs is None else epochs
    return recipe.model_copy(update={"optimizer": optimizer, "lr": lr, "epochs": length})


def _tensors(tried: Sequence[Tried]) -> dict[str, Tensor]:
    """Return trials as tensors, from which ``trials`` makes them again."""
    names = list(SPACE)
    which = [str(each.params["optimizer"]) for each in tried]
    lrs = [each.params[f"lr_{name}"] for each, name in zip(tried, which, strict=True)]
    return {
        "optimizer": torch.tensor([names.index(name) for name in which]),
        "lr": torch.tensor(lrs, dtype=torch.float64),
        "value": torch.tensor([each.value for each in tried], dtype=torch.float64),
    }
