"""Distribution matching: images whose mean embeddings under random networks are those of real data.

A network is never trained and never travels: its seed does, and everyone who builds it gets the
same weights. Real data is seen through ``class_moments`` alone; synthetic images are the parameters
of ``matcher.DistributionMatching``, which sees moments and no real image.

Source: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023,
https://arxiv.org/abs/2110.04181; collaborative: Holland et al., "CollabDM", 2024,
https://arxiv.org/abs/2408.02266, and their code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fedbench.data import dsa
from fedbench.data.epochs import Epochs
from fedbench.models.factory import build
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.seeding import generator

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
        classes: Number of classes; some architectures have other widths for many.
        device: Where to compute.
        ops: Siamese augmentation of real and synthetic images; none leaves them as they are.
    """

    model: Model
    channels: int
    size: int
    classes: int
    device: torch.device
    ops: tuple[dsa.Op, ...] = ()

    def network(self, seed: int) -> Net:
        """Return a seed's network, without gradients for its weights."""
        net = build(
            self.model,
            channels=self.channels,
            size=self.size,
            classes=self.classes,
            seed=seed,
            device=self.device.type,
        )
        # Not blocking: there is a network for each step, and a GPU would wait for every weight.
        return net.requires_grad_(False).to(self.device, non_blocking=True)

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
            chosen = chosen[order[:samples].to(chosen.device, non_blocking=True)]
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


class MomentLoader(Epochs[Moments]):
    """Moments step by step, in epochs of a few steps: a fit can be resumed where one ends.

    Args:
        moments: Returns those of a step, from 0; the same each time it is asked.
        steps: How many there are.
        seed: Of a module's own noise; the moments have seeds of their own.
        epoch_steps: Steps in an epoch.  # fedbench: less than a second
    """

    def __init__(
        self, moments: Callable[[int], Moments], steps: int, *, seed: int, epoch_steps: int = 10
    ) -> None:
        super().__init__(seed)
        self._moments, self._steps, self._length = moments, steps, min(epoch_steps, steps)

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return self._length

    def batches(self, epoch: int, source: torch.Generator) -> Iterator[Moments]:
        """Yield the moments of an epoch's steps."""
        start = epoch * self._length
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
