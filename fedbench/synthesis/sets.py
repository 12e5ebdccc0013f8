"""Shared sets of images: who may contribute how many, and how a model is trained on them.

Every method that shares images takes these pieces, so that their rows differ by the images alone.
Synthetic images are floats in normalised space, because they leave the range of pixels; real ones
stay bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedbench.config import Cell
from fedbench.data import dsa
from fedbench.data.stream import Columns, Stream
from fedbench.federation.budget import budget_pixels, quotas, total_images
from fedbench.federation.client import ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import Method, Upload
from fedbench.federation.server import Server
from fedbench.federation.state import part, prefixed
from fedbench.federation.synthetic import SyntheticSet
from fedbench.federation.work import Work, load
from fedbench.models.settings import why_not
from fedbench.synthesis.expansion import expand
from fedbench.training.recipe import Recipe

_NET = "net/"


def client_shares(server: Server) -> list[int]:
    """Return how many images each client may contribute to the cell's budget.

    A total is shared as evenly as what the clients hold allows; with the scope ``per_client`` each
    may give the whole budget. The same for every method, so that all share equal pixels.
    """
    budget, shape = server.cell.budget, server.shape
    assert budget is not None  # `skip` asks for it
    holdings = [info.samples for info in server.clients]
    sizes = {"classes": shape.classes, "size": shape.size}
    if budget.scope == "per_client":
        each = total_images(budget, clients=1, **sizes)
        return [min(each, held) for held in holdings]
    return quotas(total_images(budget, clients=len(holdings), **sizes), holdings)


def class_shares(count: int, labels: Tensor, classes: int, source: torch.Generator) -> list[int]:
    """Return how many images of each class a client contributes.

    Args:
        count: Images that it may give in sum.
        labels: (n,) int64 of what it holds.
        classes: C.
        source: Draws the classes that get what is left over, because if every client began with
            the first ones, the union would lack the last. On the CPU; it is advanced.

    Returns:
        C numbers, as even as possible, none above what the client holds of the class; their sum is
        min(count, n). Classes that it does not hold have none.
    """
    order = torch.randperm(classes, generator=source)
    held = torch.bincount(labels.cpu(), minlength=classes)
    shares = torch.zeros_like(held)
    shares[order] = torch.tensor(quotas(count, held[order].tolist()))
    return [int(share) for share in shares]


def train_on_set(
    worker: Work,
    net: nn.Module,
    shared: SyntheticSet,
    recipe: Recipe,
    *,
    name: str = "shared set",
    ops: Sequence[dsa.Op] = (),
    factor: int = 1,
) -> None:
    """Train a classifier in place on a shared set.

    Args:
        worker: Who trains.
        net: Any module that returns logits.
        shared: uint8 images, or floats in normalised space; hard or soft labels.
        recipe: How; its augmentation applies to floats as it does to bytes.
        name: See ``Work.fit``; also names the batches' random numbers.
        ops: Differentiable augmentation instead of the recipe's.
        factor: Partition and expand: every image is a canvas of factor² tiles.
    """
    from fedbench.training.classifier import Classifier

    images, labels = shared.images, shared.labels
    if factor > 1:
        images, labels = expand(shared.normalisation(images), labels, factor)
    loader = Stream(
        Columns(images.to(worker.device), labels.to(worker.device)),
        batch_size=recipe.batch_size,
        seed=worker.derive(name),
        normalisation=shared.normalisation,
        augment=worker.shape.augmentation(recipe.augment),
        ops=ops,
    )
    module = Classifier(net, recipe, steps_per_epoch=len(loader))
    worker.fit(module, loader, name=name, epochs=recipe.epochs)


class SetMethod(Method):
    """Base of methods that leave one shared set, and one model trained on it.

    A subclass calls ``conclude`` at the end of its ``aggregate``.
    """

    uses_budget = True
    uses_student = True
    everyone = True

    def skip(self, cell: Cell) -> str | None:
        """Ask for a budget, and for one architecture that takes the images."""
        if cell.budget is None:
            return f"{self.name} needs a budget, such as budget.ipc = 10"
        if cell.student.model is None and len(set(cell.models)) > 1:
            return "which architecture is trained on the shared set? Set student.model"
        return why_not(cell.student_model, cell.data.size)

    def conclude(
        self,
        server: Server,
        shared: SyntheticSet,
        *,
        recipe: Recipe | None = None,
        ops: Sequence[dsa.Op] = (),
        factor: int = 1,
    ) -> None:
        """Train the model on the shared set (see ``train_on_set``) and keep both.

        Args:
            server: Where.
            shared: The set.
            recipe: Instead of the cell's ``student``.
            ops: See ``train_on_set``.
            factor: Likewise.
        """
        net = server.build(server.cell.student_model)
        recipe = server.cell.student if recipe is None else recipe
        train_on_set(server, net, shared, recipe, ops=ops, factor=factor)
        server.state.update(prefixed(net.state_dict(), _NET))
        server.state.update({"images": shared.images, "labels": shared.labels})
        if shared.origin is not None:
            server.state["origin"] = shared.origin

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the model trained on the shared set."""
        net = server.build(server.cell.student_model)
        load(net, part(server.state, _NET))
        yield "global", net

    def synthetic(self, server: Server) -> SyntheticSet:
        """Return the shared set."""
        state, scale = server.state, server.shape.normalisation
        return SyntheticSet(state["images"], state["labels"], scale, state.get("origin"))


class UnionMethod(SetMethod):
    """Base of methods whose set is the union of what clients give, each a share of the budget.

    A subclass answers the quota in ``client_update``: a message with up to ``images`` images
    (uint8, or floats in normalised space) and their ``labels``.
    """

    def setup(self, server: Server) -> None:
        """Share the budget among the clients, by what they hold."""
        server.state["quotas"] = torch.tensor(client_shares(server))

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message:
        """Send the client its quota."""
        return Message("quota", {"images": server.state["quotas"][to.id]})

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Unite the images and train one model on them."""
        parts = [upload.message.tensors for upload in uploads]
        union = {name: torch.cat([part[name] for part in parts]) for name in ("images", "labels")}
        shared = SyntheticSet(**union, normalisation=server.shape.normalisation)
        self.conclude(server, shared, **self.training())

    def training(self) -> dict[str, Any]:
        """Return what the training on the set has beside the recipe (see ``train_on_set``)."""
        return {}


def set_images(cell: Cell) -> int | None:
    """Return how many whole images a cell's budget allows over all clients, for plans.

    Returns:
        None where the settings do not tell (see ``budget_pixels``).
    """
    pixels = budget_pixels(cell)
    return None if pixels is None else pixels // cell.data.size**2
