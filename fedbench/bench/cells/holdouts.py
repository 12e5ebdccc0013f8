"""Whether the clients hold out anything for a method that measures itself; asked before training.

A client with fewer than two images holds none of them out (see ``fedbench.data.partition``), and
where that is so of every client there is nothing to measure on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedbench.config import Cell
from fedbench.errors import PartitionError

if TYPE_CHECKING:
    from fedbench.data.partition import ClientSplit


def why_none(cell: Cell) -> str | None:
    """Return why no client can have a hold-out, or None; knows settings only, no data.

    That is certain where there are no more images than clients and every client gets one.
    """
    from fedbench.federation.method import training_images

    spread, images = cell.partition, training_images(cell)
    if cell.method.validation == "none" or images is None or images > spread.clients:
        return None
    may_be_empty = getattr(spread, "min_size", 1) == 0  # only some schemes have it
    return None if may_be_empty else _reason(cell, images)


def check_hold_outs(cell: Cell, split: ClientSplit) -> None:
    """Refuse a drawn partition that leaves a method nothing to measure itself on.

    Raises:
        PartitionError: The method measures itself, and no client has a hold-out.
    """
    if cell.method.validation != "none" and not any(map(len, split.validation)):
        raise PartitionError(_reason(cell, int(split.histogram.sum())))


def _reason(cell: Cell, images: int) -> str:
    clients = cell.partition.clients
    return (
        f"validation {cell.method.validation!r} needs a hold-out, and none of the {clients} "
        f"clients has one: they share {images} images, and a client with fewer than 2 holds out "
        f"none, whatever partition.validation is ({cell.partition.validation:g}); set "
        f"partition.clients to at most {max(images // 2, 1)}, give more images (data.train_size), "
        "or set the method's `validation` to none"
    )
