"""Shared sets of images: who may contribute how many, and how a model is trained on them.

Every method that shares images takes these pieces, so that their rows differ by the images alone.
Synthetic images are floats in normalised space that leave the range of pixels, so they have a
loader of their own; real ones stay bytes and go through the loader of all training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedbench.config import Cell
from fedbench.data import augment as augmentation
from fedbench.data.augment import Kind
from fedbench.data.dataset import Split
from fedbench.data.loaders import BatchLoader, batches
from fedbench.federation.budget import budget_pixels, quotas, total_images
from fedbench.federation.client import ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import Method, Upload
from fedbench.federation.server import Server
from fedbench.federation.state import part, prefixed
from fedbench.federation.synthetic import SyntheticSet
from fedbench.federation.work import Work, load
from fedbench.models.settings import why_not
from fedbench.seeding import generator
from fedbench.synthesis import dsa
from fedbench.synthesis.expansion import expand
from fedbench.training.recipe import Recipe

_NET = "net/"


class SyntheticLoader(BatchLoader):
    """Shuffled, augmented batches of normalised float images.

    An epoch's batches depend on the seed and its number only (see ``BatchLoader``). Without
    Siamese operations they are those of a ``BatchLoader`` on the same images as bytes.

    Args:
        images: (N, C, S, S) float in normalised space; N at least 1.
        labels: (N,) int64 on the same device.
        batch_size: Images in a batch; a last batch of one joins the one before it.
        seed: Root of the orders and the augmentations.
        mean: Of the normalisation, one value a channel: crops are filled with black.
        std: Likewise.
        augment: ``none``, ``crop`` or ``flip_crop``; left out where there are ``ops``.
        ops: Differentiable augmentation instead: one operation a batch, each image with parameters
            of its own.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        seed: int,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Kind = "none",
        ops: Sequence[dsa.Op] = (),
    ) -> None:
        super().__init__(
            images, labels, batch_size=batch_size, seed=seed, mean=mean, std=std, augment=augment
        )
        self._ops = tuple(ops)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (B, C, S, S) float32 and (B,) int64 on the images' device."""
        epoch, self._epoch = self._epoch, self._epoch + 1
        count, size, device = len(self.images), self.images.shape[-1], self.images.device
        source = generator(self.seed, "epoch", epoch)
        order = torch.randperm(count, generator=source).to(device)
        kind: Kind = "none" if self._ops else self._augment
        moves = augmentation.draw(count, kind, size, source)
        moves = None if moves is None else moves.to(device)
        for start, stop in self._bounds:
            chosen = order[start:stop]
            pixels = self.images.index_select(0, chosen)
            if moves is not None:  # black is 0 there
                pixels = augmentation.apply(pixels - self._bias, moves[start:stop]) + self._bias
            pixels = dsa.apply(pixels, dsa.draw(self._ops, size, source, stop - start))
            yield pixels, self.labels.index_select(0, chosen)


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


def normalised(shared: SyntheticSet) -> Tensor:
    """Return the images of a set as (N, C, S, S) float32 in normalised space."""
    if shared.images.dtype != torch.uint8:
        return shared.images.float()
    return torch.cat(list(batches(shared.images, 1000, shared.mean, shared.std)))


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
        shared: uint8 images, or floats in normalised space.
        recipe: How; its augmentation applies to floats as it does to bytes.
        name: See ``Work.fit``; also names the batches' random numbers.
        ops: Differentiable augmentation instead of the recipe's.
        factor: Partition and expand: every image is a canvas of factor² tiles.
    """
    from fedbench.training.classifier import Classifier

    if shared.images.dtype == torch.uint8 and not ops and factor == 1:
        worker.train(net, Split(shared.images, shared.labels), recipe, name=name)
        return
    images, labels = expand(normalised(shared), shared.labels, factor)
    loader = SyntheticLoader(
        images.to(worker.device),
        labels.to(worker.device),
        batch_size=recipe.batch_size,
        seed=worker.generator(name).initial_seed(),
        mean=shared.mean,
        std=shared.std,
        augment=worker.shape.augment if recipe.augment == "standard" else recipe.augment,
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
        self, server: Server, shared: SyntheticSet, *, ops: Sequence[dsa.Op] = (), factor: int = 1
    ) -> None:
        """Train the model on the shared set (see ``train_on_set``) and keep both."""
        net = server.build(server.cell.student_model)
        train_on_set(server, net, shared, server.cell.student, ops=ops, factor=factor)
        server.state.update(prefixed(net.state_dict(), _NET))
        server.state.update({"images": shared.images, "labels": shared.labels})

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the model trained on the shared set."""
        net = server.build(server.cell.student_model)
        load(net, part(server.state, _NET))
        yield "global", net

    def synthetic(self, server: Server) -> SyntheticSet:
        """Return the shared set."""
        shape, state = server.shape, server.state
        return SyntheticSet(state["images"], state["labels"], shape.mean, shape.std)


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
        shared = SyntheticSet(**union, mean=server.shape.mean, std=server.shape.std)
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
