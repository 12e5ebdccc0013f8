"""The images of distribution matching at work: a Lightning module whose parameters they are.

What they are matched with, networks and moments of real data, is in ``matching``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from fedbench.data import dsa
from fedbench.models.net import Net
from fedbench.synthesis.expansion import enlarge
from fedbench.synthesis.matching.distribution import CHUNK, Descent, Embedding, Moments


class DistributionMatching(LightningModule):
    """Moves images until their embeddings have given moments, one network a step.

    Args:
        images: (N, C, S, S) normalised floats to start from: canvases where they are expanded.
        labels: (N,) int64, ascending.
        embedding: Networks and augmentations.
        descent: How they move.
        factor: Partition and expand: every canvas is seen as factor² images.
        chunk: Images that go through a network at once, in whole classes; None for the device's.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        embedding: Embedding,
        descent: Descent,
        *,
        factor: int = 1,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.images = nn.Parameter(images.detach().clone())
        self._embedding, self._descent, self._factor = embedding, descent, factor
        self._chunk = CHUNK[embedding.device.type] if chunk is None else chunk
        counts = torch.bincount(labels).tolist()
        ends = torch.tensor(counts).cumsum(0).tolist()
        self._places = {
            label: slice(end - count, end)
            for label, (count, end) in enumerate(zip(counts, ends, strict=True))
            if count
        }

    def training_step(self, batch: Moments, batch_idx: int) -> Tensor:
        """Take one step, or one for each class, and return the sum of the losses before it."""
        net, optimizer = self._embedding.network(batch.seed), self._optimizer()
        total = torch.zeros((), device=self.images.device)
        for rows in self._groups(batch.labels):
            loss = self.loss(net, batch, rows)
            self.manual_backward(loss)
            total += loss.detach()
            if self._descent.step == "classwise":
                optimizer.step()
                optimizer.zero_grad()
        if self._descent.step == "joint":
            optimizer.step()
            optimizer.zero_grad()
        return total

    def loss(self, net: Net, batch: Moments, rows: list[int]) -> Tensor:
        """Return the squared distances of the moments of some classes, summed.

        Args:
            net: The network of the batch's seed.
            batch: Moments to match.
            rows: Which of their classes.
        """
        parts = []
        for row in rows:
            label = batch.labels[row]
            seen = enlarge(self.images[self._places[label]], self._factor)
            parts.append(dsa.apply(seen, self._embedding.draw(batch.seed, label)))
        together = net.features(torch.cat(parts)).float()
        features = torch.split(together, [len(part) for part in parts])
        gaps = [own.mean(0) - batch.means[row] for own, row in zip(features, rows, strict=True)]
        if batch.stds is not None:
            gaps += [own.std(0) - batch.stds[row] for own, row in zip(features, rows, strict=True)]
        return torch.stack(gaps).square().sum()

    def configure_optimizers(self) -> Optimizer:
        """Return SGD over the images."""
        return SGD([self.images], lr=self._descent.lr, momentum=self._descent.momentum)

    def _groups(self, labels: Sequence[int]) -> Iterator[list[int]]:
        """Yield rows of classes that go through a network together; unknown classes are left out.

        The loss is a sum over classes, so a gradient can be added up over groups, and memory does
        not grow with the number of classes.
        """
        group: list[int] = []
        filled = 0
        for row, label in enumerate(labels):
            if label not in self._places:
                continue
            place = self._places[label]
            count = (place.stop - place.start) * self._factor**2
            full = filled + count > self._chunk or self._descent.step == "classwise"
            if group and full:
                yield group
                group, filled = [], 0
            group.append(row)
            filled += count
        if group:
            yield group

    def _optimizer(self) -> LightningOptimizer:
        return cast(LightningOptimizer, self.optimizers())
