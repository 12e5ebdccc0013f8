"""A generator at work: it is moved until its images are what the terms of a loss ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from fedbench.data import augment, dsa
from fedbench.data.epochs import Epochs
from fedbench.data.layouts import Kind
from fedbench.data.normalisation import Normalisation
from fedbench.synthesis.data_free.generator import Generator
from fedbench.synthesis.data_free.terms import Seen, Terms
from fedbench.synthesis.teachers import Teachers
from fedbench.training.module import NetModule

_BETAS = (0.5, 0.999)  # DENSE, Co-Boosting: of Adam


class Generation(NetModule):
    """Trains a generator and its noise together, and keeps the batch of the lowest loss.

    Args:
        net: The generator, new.
        noise: (B, n) to start from.
        labels: (B,) classes to make.
        terms: What is asked of the images.
        teachers: The clients' networks.
        shares: (K,) of them.
        student: Returns logits of normalised images; nothing of it is changed.
        normalisation: Of what teachers and student see.
        view: How images are moved before they are seen.
        lr: Learning rate of Adam.
        clip_norm: Largest norm of the generator's gradient; None does not clip.

    Attributes:
        best: (B, C, S, S) float32 pixels in [0, 1]: the batch of the lowest loss, before it is
            moved.
    """

    best: Tensor
    lowest: Tensor
    labels: Tensor
    shares: Tensor

    def __init__(
        self,
        net: Generator,
        noise: Tensor,
        labels: Tensor,
        *,
        terms: Terms,
        teachers: Teachers,
        shares: Tensor,
        student: Callable[[Tensor], Tensor],
        normalisation: Normalisation,
        view: Kind,
        lr: float,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(net)
        self.noise = nn.Parameter(noise)
        self._terms, self._teachers = terms, teachers
        self._student = (student,)  # a network would become a part of this module
        self._normalisation, self._view = normalisation, view
        self._lr, self._clip_norm = lr, clip_norm
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("shares", shares, persistent=False)
        self.register_buffer("best", torch.zeros(len(noise), *net.shape))
        self.register_buffer("lowest", torch.tensor(torch.inf))

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """Return the loss of the images as they are now."""
        images = self.net(self.noise)
        moved = self._normalisation.of_unit(move(images, self._view))
        seen = Seen(moved, self.labels, lambda: self._student[0](moved))
        loss = self._terms.loss(self._teachers, self.shares, seen)
        if loss.detach() < self.lowest:
            self.lowest, self.best = loss.detach().clone(), images.detach().clone()
        return loss

    def configure_optimizers(self) -> Optimizer:
        """Return Adam over the generator and the noise."""
        return Adam([*self.net.parameters(), self.noise], lr=self._lr, betas=_BETAS)

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: object, **__: object) -> None:
        """Clip the norm of the generator's gradient, and not that of the noise."""
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self._clip_norm)


def move(images: Tensor, kind: Kind) -> Tensor:
    """Crop and flip every image by its own draw of torch's global CPU generator.

    Where ``augment.apply`` is made for bytes, gradients pass here.

    Args:
        images: (B, C, S, S), black being 0.
        kind: See ``augment.draw``.
    """
    draws = augment.draw(len(images), kind, images.shape[-1], torch.default_generator)
    if draws is None:
        return images
    flipped = dsa.apply(images, dsa.Draw("flip", draws[:, :1]))
    return dsa.apply(flipped, dsa.Draw("crop", draws[:, 1:]))


class Ticks(Epochs[int]):
    """Steps that need no data: their numbers, in one epoch.

    Args:
        count: How many.
        seed: Of the module's own noise.
    """

    def __init__(self, count: int, seed: int) -> None:
        super().__init__(seed)
        self._count = count

    def __len__(self) -> int:
        """Return the number of steps."""
        return self._count

    def batches(self, epoch: int, source: torch.Generator) -> Iterator[int]:
        """Yield the steps' numbers."""
        yield from range(self._count)
