"""All clients of a cell, light until they work: an index list each over one set of images.

Only the loop and the harness hold a population. Methods get one open client at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fedbench.data.dataset import Split
from fedbench.data.domains import domain_of, transform
from fedbench.data.partition import ClientSplit
from fedbench.data.settings import Domain
from fedbench.errors import DataError
from fedbench.federation.client import Client, ClientInfo, split_digest
from fedbench.federation.context import Context


class Population:
    """The clients.

    Args:
        context: The cell's means.
        train: All training images.
        split: Who holds which.
        fingerprint: The data set's.
    """

    def __init__(
        self, context: Context, train: Split, split: ClientSplit, fingerprint: str
    ) -> None:
        self._context, self._train, self._split = context, train, split
        self._fingerprint = fingerprint
        self.infos = tuple(
            ClientInfo(k, len(indices), context.cell.client_model(k))
            for k, indices in enumerate(split.train)
        )
        empty = [info.id for info in self.infos if not info.samples]
        if empty:
            raise DataError(
                f"client {empty[0]} holds no training image (so do {len(empty) - 1} "
                "others); use fewer clients, a larger beta or a min_size above 0"
            )

    @contextmanager
    def open(self, client: int, state: dict[str, Tensor]) -> Iterator[Client]:
        """Give a client its images for the length of the block."""
        indices = self._split.train[client]
        worker = Client(
            self._context,
            self.infos[client],
            self._seen(client, self._train.take(torch.from_numpy(indices)), "train"),
            self.hold_out(client),
            split_digest(
                self._fingerprint,
                indices.tobytes(),
                self._context.cell.data.normalisation,
                self._domain(client),
            ),
            state,
        )
        try:
            yield worker
        finally:
            worker.close()

    def hold_out(self, client: int) -> Split:
        """Return what a client withholds for validation; it may be empty."""
        held = self._train.take(torch.from_numpy(self._split.validation[client]))
        return self._seen(client, held, "validation")

    def _domain(self, client: int) -> Domain:
        return domain_of(self._context.cell.partition.domains, client)

    def _seen(self, client: int, split: Split, which: str) -> Split:
        """Return images as a client sees them."""
        seed, domain = self._context.cell.seed, self._domain(client)
        return Split(transform(split.images, domain, seed, client, which), split.labels)
