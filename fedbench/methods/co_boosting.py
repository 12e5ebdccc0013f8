"""Co-Boosting: images and ensemble make each other better, and a student distils both.

DENSE's loop with four changes: the clients' models are weighed, and the weights are learnt on the
images made so far; hard images count more; images are sought on which the student differs, whatever
the class; the student sees images moved to where the clients' models differ. Messages are those of
DENSE, one upload of weights.

Source: Dai et al. 2024, "Enhancing One-Shot Federated Learning Through Data and Ensemble
Co-Boosting", https://arxiv.org/abs/2402.15070, and its code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fedbench.data.epochs import Epochs
from fedbench.data.stream import Stream
from fedbench.federation.method import Course, Upload
from fedbench.federation.server import Server
from fedbench.synthesis.data_free.terms import Terms
from fedbench.synthesis.data_free.workshop import DataFreeConfig, DataFreeMethod, Workshop
from fedbench.synthesis.teachers import Teachers, mixture
from fedbench.training.recipe import Augment

_SHARES = "shares"
_PULL = 4.0  # Co-Boosting: T of the softmax whose gradient moves images


class CoBoostingConfig(DataFreeConfig):
    """Settings of Co-Boosting."""

    batch_size: int = Field(128, ge=2)  # Co-Boosting
    """Images that a generator makes."""
    generator_clip: float | None = Field(10.0, gt=0)  # Co-Boosting
    """Largest norm of the generator's gradient; None does not clip."""
    batch_norm: float = Field(0.0, ge=0)  # Co-Boosting
    """λ of the distance between the images' BatchNorm statistics and those of each client."""
    masked: bool = False  # Co-Boosting
    """Count disagreement only for images on whose class clients and student disagree."""
    adversarial_temperature: float = Field(3.0, gt=0)  # Co-Boosting
    """T in it."""
    view: Augment = "none"  # Co-Boosting
    """How made images are moved before clients and student see them."""
    lr: float = Field(0.01, gt=0)  # Co-Boosting
    """The student's learning rate."""
    weight_decay: float = Field(1e-4, ge=0)  # Co-Boosting
    """L2 penalty on its weights."""
    schedule: Literal["constant", "cosine"] = "cosine"  # Co-Boosting
    """Of its learning rate over the epochs."""
    clip_norm: float | None = Field(10.0, gt=0)  # Co-Boosting
    """Largest norm of its gradient; None does not clip."""
    student_batch_size: int = Field(128, ge=1)  # Co-Boosting
    """Images of the pool in a step of the student, and of the weights."""
    temperature: float = Field(4.0, gt=0)  # Co-Boosting
    """T of the distillation."""
    hard: float = Field(1.0, ge=0)  # Co-Boosting
    """h: images weigh (1 - p)^h in the cross entropy, p being the probability of their class."""
    share_step: float = Field(0.01, ge=0)  # Co-Boosting
    """μ: how far a batch moves the weight of a client, which begins at 1/K."""
    share_decay: float = Field(0.99, gt=0, le=1)  # Co-Boosting
    """What it is multiplied with after each epoch."""
    perturbation: float = Field(8 / 255, ge=0)  # Co-Boosting
    """ε in normalised space, by which each value of the student's images moves; with Co-Boosting's
    normalisation, a deviation of .5, that is 4/255 of a pixel's range."""

    @property
    def terms(self) -> Terms:
        """What is asked of images, hard ones above all."""
        return replace(super().terms, hard=self.hard)


class CoBoosting(DataFreeMethod):
    """Data-free one-shot distillation from an ensemble whose weights are learnt."""

    name = "co_boosting"
    course = Course(
        down="a seed",
        client="trains from the common start",
        up="weights, once",
        server="makes hard images, weighs the clients, and distils both",
    )
    Config = CoBoostingConfig
    config: CoBoostingConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # What we recommend: the defaults.
        "fedbench": {},
        # The command of Co-Boosting's code; its images are normalised by .5 (data.normalisation).
        "reference": {"pool_space": "pixels"},
    }

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Make a batch, weigh the clients on those before, and learn from all."""
        config, shop, noted = self.config, Workshop(server, self.config, uploads), list[Tensor]()
        batches, judged = shop.batches("student"), shop.batches("shares")
        moved = Perturbed(batches, shop.mixed, config.perturbation)
        for epoch in server.stages("epochs", config.epochs, keep={**shop.kept, "noted": noted}):
            images, labels = shop.make(epoch)
            if epoch:  # the pool is what earlier epochs made
                judged.set_epoch(epoch)
                step = config.share_step * config.share_decay**epoch
                shop.shares = boosted(shop.shares, shop.teachers, judged, step)
            noted.append(shop.shares)
            shop.pool.add(images, labels)
            shop.learn(moved)
            shop.look(epoch, images, labels)
        shop.finish()
        server.state[_SHARES] = torch.stack(noted)

    def outputs(self, server: Server) -> Mapping[str, Mapping[str, Tensor]]:
        """Return images for pictures, and the clients' weights after each epoch, (epochs, K)."""
        return {**super().outputs(server), _SHARES: {_SHARES: server.state[_SHARES]}}


def boosted(
    shares: Tensor, teachers: Teachers, batches: Iterable[tuple[Tensor, ...]], step: float
) -> Tensor:
    """Return the teachers' weights after one pass over images whose classes are known.

    Each batch moves each weight by a step, down the sign of the gradient of the cross entropy, and
    no further than 0 and 1. Where all would be 0, a batch changes nothing.

    Args:
        shares: (K,) in [0, 1].
        teachers: K of them.
        batches: (B, C, S, S) normalised floats and (B,) class ids first.
        step: At least 0.
    """
    for images, labels, *_ in batches:
        with torch.no_grad():
            logits = teachers.logits(images)
        with torch.enable_grad():
            asked = shares.detach().requires_grad_()
            loss = functional.cross_entropy(mixture(logits, asked), labels)
            (gradient,) = torch.autograd.grad(loss, asked)
        moved = (shares - step * gradient.sign()).clamp(0, 1)
        shares = moved if moved.sum() > 0 else shares
    return shares


class Perturbed(Epochs[tuple[Tensor, ...]]):
    """A stream whose images are moved to where an ensemble's predictions differ.

    Output diversified sampling: Tashiro et al. 2020, https://arxiv.org/abs/2003.06878.

    Args:
        stream: Of normalised images and their columns; its orders and augmentations stay.
        ensemble: Returns (B, classes) logits with gradients to the images.
        size: ε: by how much each value moves, at least 0.
    """

    def __init__(self, stream: Stream, ensemble: Callable[[Tensor], Tensor], size: float) -> None:
        super().__init__(stream.seed)
        self._stream, self._ensemble, self._size = stream, ensemble, size

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._stream)

    def batches(self, epoch: int, source: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield moved images and their columns."""
        for images, *columns in self._stream.batches(epoch, source):
            yield self._moved(images, source), *columns

    def _moved(self, images: Tensor, source: torch.Generator) -> Tensor:
        if not self._size:
            return images
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            said = (self._ensemble(images) / _PULL).softmax(1)
            pull = 2 * torch.rand(said.shape, generator=source) - 1
            (gradient,) = torch.autograd.grad((pull.to(said.device) * said).sum(), images)
        return (images + self._size * gradient.sign()).detach()
