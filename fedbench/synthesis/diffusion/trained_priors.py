"""Priors that are trained here: on a resource's images within a cell, as a public artefact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from fedbench.data.epochs import Epochs
from fedbench.errors import DataError, ModelError
from fedbench.federation.artefacts import tensors_digest
from fedbench.federation.server import Server
from fedbench.seeding import derive, isolated
from fedbench.synthesis.diffusion.model import Diffusion, versions
from fedbench.synthesis.diffusion.priors import (
    SCALES,
    SCHEDULE,
    VERSION,
    Size,
    network,
    of_folder,
    of_network,
)

#: Steps in an epoch of a prior's training: what a kill may cost, and how often progress moves.
EPOCH = 50


class PriorImages(Epochs[tuple[Tensor, Tensor]]):
    """Random batches of images about -1 to 1 with their classes, without end.

    Args:
        images: (N, C, S, S) uint8.
        labels: (N,) int64.
        batch_size: Images in a batch, drawn with replacement.
        steps: Batches in an epoch.
        seed: Of the draws.
        device: Where batches go.
    """

    _purpose = "prior"

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        steps: int,
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__(seed)
        if not len(images):
            raise DataError("there is no image to train a diffusion model on; give it some")
        self._images, self._labels = images.to(device), labels.to(device)
        self._batch_size, self._steps = batch_size, steps

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return self._steps

    def batches(self, epoch: int, source: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches."""
        for _ in range(self._steps):
            places = torch.randint(len(self._images), (self._batch_size,), generator=source)
            places = places.to(self._images.device)
            yield self._images[places].float() / 127.5 - 1, self._labels[places]


@dataclass(frozen=True)
class Prior:
    """A diffusion model, and what names it.

    Attributes:
        model: Frozen.
        digest: Names it in the keys of what is made with it.
        tensors: Its weights where it was trained in the cell; empty otherwise.
    """

    model: Diffusion
    digest: str
    tensors: Mapping[str, Tensor]


def trained(
    server: Server, name: str, size: Size, steps: int | None, *, conditional: bool
) -> Prior:
    """Return a prior trained on a resource's images, once for all cells that ask for it.

    Args:
        server: Trains, and is charged for it.
        name: Of the resource.
        size: How large it is.
        steps: Instead of the size's.
        conditional: Whether it is told classes; these have to be the clients'.
    """
    found, shape, scale = server.resource(name).tensors, server.shape, SCALES[size]
    images, labels = _ordered(found["images"].cpu(), found["labels"].cpu())
    classes = shape.classes if conditional else None
    if conditional and int(labels.max()) >= shape.classes:
        raise DataError(
            f"resource {name!r} has {int(labels.max()) + 1} classes and the clients have "
            f"{shape.classes}; train the prior without classes (conditional: false)"
        )
    count = scale.steps if steps is None else steps
    settings = {
        "version": VERSION,
        "images": tensors_digest({"images": images, "labels": labels}),
        "scale": asdict(scale),
        "steps": count,
        "classes": classes,
    }

    def build() -> dict[str, Tensor]:
        from fedbench.synthesis.diffusion.denoiser import Denoiser

        with isolated(derive(0, "prior", "initialisation")):
            net, _ = network(scale, shape.channels, shape.size, classes)
        module = Denoiser(net, scale, steps=count, null=classes)
        loader = PriorImages(
            images,
            labels,
            batch_size=scale.batch_size,
            steps=min(EPOCH, count),
            seed=derive(0, "prior", "batches"),
            device=server.device,
        )
        server.fit(module, loader, name="prior", steps=count)
        return module.averaged()

    artefact = server.artefact("prior", settings, build, public=True, libraries=versions())
    with isolated(0):  # what is drawn for new weights is overwritten
        net, about = network(scale, shape.channels, shape.size, classes)
    net.load_state_dict(dict(artefact.tensors))
    bf16 = server.cell.precision == "bf16-mixed"
    model = of_network(net, about, SCHEDULE, server.device, classes=shape.classes, bf16=bf16)
    weights = dict(artefact.tensors)
    return Prior(model, tensors_digest(weights), weights)


def _ordered(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return images in an order of their own, so that one set in any order trains one prior."""
    order = sorted(range(len(images)), key=lambda place: images[place].numpy().tobytes())
    places = torch.tensor(order)
    return images[places], labels[places]


def installed(server: Server, name: str, *, size: int, channels: int) -> Prior:
    """Return the prior of a diffusers folder.

    Args:
        server: Has the resource.
        name: Of it.
        size: Of the clients' images.
        channels: Of them.

    Raises:
        ModelError: It makes images of other channels.
    """
    found = server.resource(name)
    bf16 = server.cell.precision == "bf16-mixed"
    model = of_folder(found, server.device, size=size, classes=server.shape.classes, bf16=bf16)
    made = 3 if "prompts" in found.tensors else model.shape[0]
    if made != channels:
        raise ModelError(
            f"resource {name!r} makes images of {made} channels and the clients' have {channels}; "
            "take a model of these, such as one of fedbench pretrain-diffusion"
        )
    return Prior(model, found.digest, {})
