"""A pool of made images that grows on disk: what inversion leaves, and students learn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedbench.data.normalisation import Normalisation
from fedbench.errors import TrainingError
from fedbench.federation.shelf import Ref
from fedbench.federation.trail import Trail

#: Of an image whose client or class is not known.
UNKNOWN = -1


class ImagePool:
    """Images with targets and origins, batch by batch on disk; rows of a ``Stream``.

    It keeps nothing besides its trail, so it is as durable as that: stages that keep the trail keep
    the pool.

    Args:
        trail: Where images are, a batch at each place; it may hold some already.
        normalisation: Of the images.
        device: Where rows are taken to.
        space: ``normalised`` keeps floats; ``pixels`` rounds them to bytes, a quarter of that, as
            DENSE's files do.
        limit: Images at most; the oldest batches make room. None keeps all.
    """

    #: What a row has beside its image: names for ``Student``.
    columns: ClassVar[tuple[str, ...]] = ("labels", "clients", "classes")

    def __init__(
        self,
        trail: Trail,
        normalisation: Normalisation,
        device: torch.device,
        *,
        space: Literal["normalised", "pixels"] = "normalised",
        limit: int | None = None,
    ) -> None:
        self._trail, self._normalisation, self._device = trail, normalisation, device
        self._space, self._limit = space, limit
        self._open: list[dict[str, Tensor]] = []
        self._refs: tuple[Ref, ...] = ()

    def __len__(self) -> int:
        return sum(len(chunk["images"]) for chunk in self._opened())

    @property
    def size(self) -> int:
        """Height and width of the images in pixels.

        Raises:
            TrainingError: The pool is empty.
        """
        return int(self._first()["images"].shape[-1])

    @property
    def device(self) -> torch.device:
        """Where rows are taken to."""
        return self._device

    def add(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        clients: Tensor | int = UNKNOWN,
        classes: Tensor | None = None,
    ) -> None:
        """Add a batch, and let the oldest ones go where there are too many images.

        Args:
            images: (n, C, S, S): floats in normalised space, or uint8.
            labels: (n,) int64 class ids, or (n, classes) float32 soft labels.
            clients: (n,) int64, or one for all: whose model each image comes from.
            classes: (n,) int64 that each image was made for; None for the labels, where these are
                class ids.

        Raises:
            TrainingError: The batch is larger than the pool may be, or unlike what is in it.
        """
        count = len(images)
        if isinstance(clients, int):
            clients = torch.full((count,), clients)
        if classes is None:
            classes = labels if labels.ndim == 1 else torch.full((count,), UNKNOWN)
        pixels = self._space == "pixels"
        kept = self._normalisation.to_pixels(images) if pixels else self._normalisation(images)
        chunk = {"images": kept, "labels": labels, "clients": clients, "classes": classes}
        self._check(chunk)
        self._trail.append({name: value.detach().cpu() for name, value in chunk.items()})
        surplus, gone = len(self) - (self._limit or len(self)), 0
        while surplus > 0:
            surplus -= len(self._open[gone]["images"])
            gone += 1
        if gone:
            self._trail.drop(gone)
            del self._open[:gone]
            self._refs = self._trail.refs

    def take(self, places: Tensor) -> tuple[Tensor, ...]:
        """Return images, labels, clients and classes at (n,) int64 places, on the device.

        The oldest image has place 0.
        """
        opened, wanted = self._opened(), places.cpu()
        ends = torch.tensor([len(chunk["images"]) for chunk in opened]).cumsum(0)
        holders = torch.searchsorted(ends, wanted, right=True)
        found = [
            torch.empty(len(wanted), *part.shape[1:], dtype=part.dtype)
            for part in self._first().values()
        ]
        for holder in torch.unique(holders).tolist():
            here = (holders == holder).nonzero().flatten()
            chunk = opened[holder]
            rows = wanted[here] - (ends[holder] - len(chunk["images"]))
            for part, name in zip(found, self._first(), strict=True):
                part[here] = chunk[name].index_select(0, rows)
        return tuple(part.to(self._device) for part in found)

    def sample(self, batches: int, images: int, *, made: int) -> dict[str, Tensor]:
        """Return some of it for pictures, evenly over time.

        Args:
            batches: At most, of those that are left.
            images: Of a batch, at most.
            made: Batches that were ever added.

        Returns:
            ``images`` (n, C, S, S) uint8 and (n,) ``labels``, ``clients`` and ``batches``, the
            number of the batch, from 0.
        """
        opened = self._opened()
        places = torch.linspace(0, len(opened) - 1, min(len(opened), batches)).round().long()
        chunks = [(k, {name: opened[k][name][:images] for name in opened[k]}) for k in places]
        found = {
            name: torch.cat([chunk[name] for _, chunk in chunks]) for name in ("labels", "clients")
        }
        first, pixels = made - len(opened), self._normalisation.to_pixels
        numbers = [torch.full((len(chunk["labels"]),), first + int(k)) for k, chunk in chunks]
        shown = torch.cat([pixels(chunk["images"]) for _, chunk in chunks])
        return {"images": shown, **found, "batches": torch.cat(numbers)}

    def _first(self) -> dict[str, Tensor]:
        opened = self._opened()
        if not opened:
            raise TrainingError("the pool holds no image yet; add a batch before it is read")
        return opened[0]

    def _opened(self) -> list[dict[str, Tensor]]:
        """Return the chunks, mapped once: reading a batch touches most of them."""
        refs = self._trail.refs
        if self._refs != refs[: len(self._refs)]:  # a kill took some back
            self._open = []
        self._refs = refs
        for place in range(len(self._open), len(self._trail)):
            chunk = self._trail[place]
            self._open.append({name: chunk[name] for name in ("images", *self.columns)})
        return self._open

    def _check(self, chunk: Mapping[str, Tensor]) -> None:
        count = len(chunk["images"])
        if self._limit is not None and count > self._limit:
            raise TrainingError(
                f"a batch of {count} images does not fit a pool of {self._limit}; raise its limit "
                "or make smaller batches"
            )
        like = self._open[0] if self._opened() else chunk
        for name, value in chunk.items():
            same = value.dtype == like[name].dtype and value.shape[1:] == like[name].shape[1:]
            if len(value) != count or not same:
                raise TrainingError(
                    f"{name} of {value.dtype} in shape {tuple(value.shape)} do not go with "
                    f"{count} images and with {like[name].dtype} in shape "
                    f"(n, {', '.join(map(str, like[name].shape[1:]))}) in the pool"
                )
