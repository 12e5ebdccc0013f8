"""Distribution matching: images whose mean embeddings under random networks are those of real data.

A network is never trained and never travels: its seed does, and everyone who builds it gets the
same weights. Real data is seen through ``class_moments`` alone; synthetic images are the parameters
of ``DistributionMatching``, which sees moments and no real image.

Source: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023,
https://arxiv.org/abs/2110.04181; collaborative: Xu et al., "CollabDM", 2024,
https://arxiv.org/abs/2408.02266, and their code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from fedbench.config import Model
from fedbench.models.factory import build
from fedbench.models.net import Net
from fedbench.seeding import generator
from fedbench.synthesis import dsa
from fedbench.synthesis.expansion import enlarge

#: Images that go through a network at once, by device type. On a CPU core the maps of more leave
#: the cache; see benchmarks/speed/matching.py.
CHUNK = {"cpu": 64, "cuda": 1000}


class Moments(NamedTuple):
    """Class-wise moments of real embeddings under one network: what synthetic images have to match.

    Attributes:
        seed: The network's.
        labels: The P classes that are known, ascending.
        means: (P, d) float32.
        stds: (P, d) float32, unbiased; None where they are no part of the loss.
    """

    seed: int
    labels: tuple[int, ...]
    means: Tensor
    stds: Tensor | None = None


@dataclass(frozen=True)
class Embedding:
    """A family of random networks and augmentations, one of each for every seed.

    Attributes:
        model: The architecture; its penultimate features are the embedding.
        channels: Of the images.
        size: Height and width of the images in pixels.
        device: Where to compute.
        ops: Siamese augmentation of real and synthetic images; none leaves them as they are.
    """

    model: Model
    channels: int
    size: int
    device: torch.device
    ops: tuple[dsa.Op, ...] = ()

    def network(self, seed: int) -> Net:
        """Return a seed's network, without gradients for its weights."""
        net = build(self.model, channels=self.channels, size=self.size, classes=1, seed=seed)
        return net.requires_grad_(False).to(self.device)

    def draw(self, seed: int, label: int) -> dsa.Draw | None:
        """Return the augmentation of a class under a seed's network."""
        return dsa.draw(self.ops, self.size, generator(seed, "augmentation", label))


@torch.no_grad()
def class_moments(
    embedding: Embedding,
    seed: int,
    images: Mapping[int, Tensor],
    *,
    samples: int | None = None,
    with_stds: bool = False,
    bf16: bool = False,
) -> Moments:
    """Return the moments of real images under one network.

    Args:
        embedding: Networks and augmentations.
        seed: Which of them.
        images: (n, C, S, S) normalised floats of each class that is there, by label, on the
            embedding's device.
        samples: Images of a class that are drawn for it, under this seed; None takes all.
        with_stds: Compute standard deviations as well; they are 0 for one image.
        bf16: Compute convolutions in bfloat16. Sums are always in float64.

    Returns:
        The moments, on the device.
    """
    net, labels = embedding.network(seed), sorted(images)
    chunk = CHUNK[embedding.device.type]
    sums = torch.zeros(
        2, len(labels), net.feature_dim, dtype=torch.float64, device=embedding.device
    )
    counts = []
    for row, label in enumerate(labels):
        chosen, draw = images[label], embedding.draw(seed, label)
        if samples is not None and samples < len(chosen):
            order = torch.randperm(len(chosen), generator=generator(seed, "samples", label))
            chosen = chosen[order[:samples].to(chosen.device)]
        counts.append(len(chosen))
        for part in torch.split(chosen, chunk):
            with torch.autocast(embedding.device.type, torch.bfloat16, enabled=bf16):
                features = net.features(dsa.apply(part, draw)).double()
            sums[0, row] += features.sum(0)
            if with_stds:
                sums[1, row] += features.square().sum(0)
    number = torch.tensor(counts, dtype=torch.float64, device=embedding.device).view(-1, 1)
    means = sums[0] / number
    stds = None
    if with_stds:
        spread = (sums[1] - number * means.square()).clamp_min(0)
        stds = (spread / (number - 1).clamp_min(1)).sqrt().float()
    return Moments(seed, tuple(labels), means.float(), stds)


class MomentLoader:
    """Moments step by step, in epochs of a few steps: a fit can be resumed where one ends.

    Args:
        moments: Returns those of a step, from 0; the same each time it is asked.
        steps: How many there are.
        epoch_steps: Steps in an epoch.  # fedbench: less than a second
    """

    def __init__(
        self, moments: Callable[[int], Moments], steps: int, epoch_steps: int = 10
    ) -> None:
        self._moments, self._steps, self._length = moments, steps, min(epoch_steps, steps)
        self._epoch = 0

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return self._length

    @property
    def sampler(self) -> MomentLoader:
        """This object: where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, from 0."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Moments]:
        """Yield the moments of the next epoch's steps."""
        start = self._epoch * self._length
        self._epoch += 1
        for step in range(start, min(start + self._length, self._steps)):
            yield self._moments(step)


@dataclass(frozen=True)
class Descent:
    """How synthetic images move.

    Attributes:
        step: ``joint``: one step on the sum over classes. ``classwise``: a step after each class,
            as the reference codes have it; with momentum m the images of all other classes drift on
            in each of them, which acts like a joint step at lr/(1-m) without momentum.
        lr: Learning rate of SGD.
        momentum: Of SGD.
    """

    step: Literal["joint", "classwise"] = "joint"
    lr: float = 20.0
    momentum: float = 0.0


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
