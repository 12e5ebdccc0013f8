"""What a student is shown while images are still being made: fresh ones, a pool's, and real ones.

And what it is told of them by teachers that each know some of the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fedbench.data.epochs import Epochs
from fedbench.data.stream import Stream
from fedbench.synthesis.data_free.pool import UNKNOWN
from fedbench.synthesis.teachers import UNSEEN, Teachers, mixture

#: In the place of a client's number: a real image of the server's own.
OWN = -2

Batch = tuple[Tensor, ...]


class Lesson(Epochs[Batch]):
    """Some steps of a student: batches made for it first, then rows of streams, as long as asked.

    Args:
        first: Batches with their columns, normalised, shown as they are.
        streams: Each gives a part of every further batch, and is iterated as often as that takes.
        steps: Batches in all.
        seed: Of the draws; those of the streams have their own.
    """

    def __init__(
        self, first: Sequence[Batch], streams: Sequence[Stream], *, steps: int, seed: int
    ) -> None:
        super().__init__(seed)
        self._shown, self._streams, self._steps = first, streams, steps

    def __len__(self) -> int:
        """Return the number of steps."""
        return self._steps

    def batches(self, epoch: int, source: torch.Generator) -> Iterator[Batch]:
        """Yield normalised images with their columns."""
        first = self._shown[: self._steps]
        yield from first
        endless = [_endless(stream) for stream in self._streams]
        for _ in range(self._steps - len(first)):
            parts = [next(rows) for rows in endless]
            yield tuple(torch.cat(column) for column in zip(*parts, strict=True))


class Tutor:
    """Says what teachers know of images that were made from them.

    An image of one client's is asked about from that client alone, one of several clients' from
    all of them, their logits averaged; a real image's teacher is its label.

    Args:
        teachers: Masked where their heads are to be.
        clients: Whose they are, by id.
        together: Ask all of them about every made image.
    """

    def __init__(
        self, teachers: Teachers, clients: Sequence[int], *, together: bool = False
    ) -> None:
        self._teachers, self._together = teachers, together
        self._of = {client: teachers.subset([k]) for k, client in enumerate(clients)}

    def __call__(self, images: Tensor, row: Mapping[str, Tensor]) -> Tensor:
        """Return logits, (1, B, classes).

        Args:
            images: (B, C, S, S) normalised floats.
            row: ``clients`` (B,), their ids or ``UNKNOWN`` or ``OWN``, and ``classes`` (B,).
        """
        clients, labels = row["clients"], row["classes"]
        if self._together:
            clients = torch.where(clients == OWN, clients, UNKNOWN)
        said = [
            (here, self._ask(client, images[here], labels[here]))
            for client, here in _by_value(clients)
        ]
        found = said[0][1].new_empty(len(images), said[0][1].shape[1])
        for here, logits in said:
            found[here] = logits
        return found.unsqueeze(0)

    def _ask(self, client: int, images: Tensor, labels: Tensor) -> Tensor:
        if client >= 0:
            return self._of[client].logits(images)[0]
        if client == UNKNOWN:
            return mixture(self._teachers.logits(images), images.new_ones(len(self._teachers)))
        classes = self._teachers.nets[0].head.out_features
        sure = torch.full((len(labels), classes), UNSEEN, device=images.device)
        return sure.scatter_(1, labels.unsqueeze(1), 0.0)


def _by_value(values: Tensor) -> list[tuple[int, Tensor]]:
    """Return each value with the positions where it is."""
    return [
        (int(value), (values == value).nonzero().flatten()) for value in torch.unique(values).cpu()
    ]


def _endless(stream: Stream) -> Iterator[Batch]:
    while True:
        yield from stream
