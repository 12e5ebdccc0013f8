"""Kernel inducing points: images learnt through kernel ridge regression, without any network.

Where distribution matching compares features of sampled networks, this regresses with the neural
tangent kernel of an infinitely wide one, which has a closed form: a fully connected ReLU network
with weights of variance 2 over the layer's width and biases of variance .01. All in float64: the
ridge is a millionth of the kernel's mean diagonal.

Source: Nguyen, Chen, Lee, "Dataset Meta-Learning from Kernel Ridge-Regression", ICLR 2021,
https://arxiv.org/abs/2011.00050, in the form that FedD3 uses (https://arxiv.org/abs/2208.11311).
Kernel: Jacot et al. 2018, https://arxiv.org/abs/1806.07572; arc-cosine expectations: Cho and Saul
2009.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from fedbench.data.dataset import Split
from fedbench.data.epochs import Epochs
from fedbench.data.normalisation import Normalisation

_WEIGHTS = 2.0  # FedD3: σ_w = √2
_BIASES = 0.01  # FedD3: σ_b = .1
_LAYERS = 4  # FedD3: hidden ones
# At a correlation of 1 the kernel's slope is infinite. Nearer to 1 than this, none is taken; the
# diagonal of a kernel of one set with itself is exactly 1 and is set apart.
_NEAR = 1 - 1e-12


def ntk(one: Tensor, other: Tensor | None = None, *, layers: int = _LAYERS) -> Tensor:
    """Return the neural tangent kernel Θ of an infinitely wide fully connected ReLU network.

    Args:
        one: (n, dim), computed with in float64.
        other: (m, dim); None for ``one`` itself, which is more exact than giving it twice.
        layers: Hidden layers.

    Returns:
        (n, m) float64; for one set symmetric and positive semi-definite.
    """
    left = one.double()
    right = left if other is None else other.double()
    scale = _WEIGHTS / left.shape[1]
    covariance = scale * left @ right.T + _BIASES
    # The variances of both sides' outputs, a layer's bias more in each.
    rows, columns = (scale * x.square().sum(1) + _BIASES for x in (left, right))
    same = None
    if other is None:
        same = torch.eye(len(left), dtype=torch.bool, device=left.device)
    theta = covariance
    for layer in range(layers):
        norm = torch.outer(rows + layer * _BIASES, columns + layer * _BIASES).sqrt()
        step, slope = _arc_cosine(covariance / norm, same)
        covariance = norm * step + _BIASES
        theta = covariance + theta * slope
    return theta


def _arc_cosine(correlation: Tensor, same: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return κ₁ and κ₀: twice the expected products of ReLUs and of their slopes.

    Args:
        correlation: (n, m) of the inputs.
        same: Where an input meets itself, if it does: both are 1 there, and so is their gradient.
    """
    if same is not None:
        correlation = correlation.masked_fill(same, 0)
    rho = correlation.clamp(-_NEAR, _NEAR)
    angle = math.pi - rho.acos()
    step = ((1 - rho.square()).sqrt() + rho * angle) / math.pi
    slope = angle / math.pi
    if same is None:
        return step, slope
    return step.masked_fill(same, 1), slope.masked_fill(same, 1)


def centred(labels: Tensor, classes: int) -> Tensor:
    """Return what is regressed to, (N, classes) float64: one-hot minus 1/classes."""
    return functional.one_hot(labels, classes).double() - 1 / classes


def regress(support: Tensor, labels: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Return kernel ridge regression's answers.

    Args:
        support: (n, dim) inputs that are learnt from.
        labels: (n, classes) float64 of them.
        target: (m, dim) inputs that are asked about.
        ridge: Added to the kernel's diagonal, as a multiple of its mean.

    Returns:
        (m, classes) float64.
    """
    kernel = ntk(support)
    lift = ridge * kernel.diagonal().mean()
    lifted = kernel + lift * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    answers: Tensor = ntk(target, support) @ torch.linalg.solve(lifted, labels)
    return answers


class Kip(LightningModule):
    """Learns images from which kernel ridge regression answers a batch of real ones.

    Args:
        images: (n, C, H, W) normalised floats to start from; the parameter is a float64 copy.
        labels: (n,) int64, which stay.
        classes: Number of classes.
        ridge: See ``regress``.
        lr: Adam's.
        stop: Share of a batch, in [0, 1]: the fit ends when more than that is answered rightly.
    """

    labels: Tensor
    answers: Tensor

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        classes: int,
        *,
        ridge: float = 1e-6,
        lr: float = 4e-3,
        stop: float = 0.999,
    ) -> None:
        super().__init__()
        self.images = nn.Parameter(images.detach().double().clone())
        self.register_buffer("labels", labels)
        self.register_buffer("answers", centred(labels, classes))
        self.ridge, self.lr, self.stop = ridge, lr, stop
        self._right = torch.tensor(0.0)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return half the mean squared error over real normalised images and their labels."""
        images, labels = batch
        found = regress(self.images.flatten(1), self.answers, images.flatten(1), self.ridge)
        self._right = (found.argmax(1) == labels).double().mean()
        return (found - centred(labels, self.answers.shape[1])).square().mean() / 2

    def configure_optimizers(self) -> Adam:
        """Return Adam over the images."""
        return Adam([self.images], lr=self.lr)

    def on_train_batch_end(self, *_: object) -> None:
        """Stop when enough is answered rightly."""
        if float(self._right) > self.stop:
            self.trainer.should_stop = True


class TargetBatches(Epochs[tuple[Tensor, Tensor]]):
    """Batches of real images, as many of each class as it has, that are drawn anew each time.

    Args:
        split: uint8 images and their labels, at least one.
        batch_size: Images in a batch; at least one of each class, and no image twice.
        seed: Of the draws.
        normalisation: Of the images.
        length: Batches in an epoch.  # fedbench: a progress report, and room for a checkpoint
    """

    _purpose = "targets"

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int,
        normalisation: Normalisation,
        length: int = 50,
    ) -> None:
        super().__init__(seed)
        self._split, self._normalisation, self._length = split, normalisation, length
        present = torch.unique(split.labels)
        self._places = [(split.labels == label).nonzero().flatten().cpu() for label in present]
        self._each = max(batch_size // len(present), 1)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self._length

    def batches(self, epoch: int, source: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (B, C, H, W) float32 and (B,) int64 on the images' device."""
        for _ in range(self._length):
            drawn = [
                places[torch.randperm(len(places), generator=source)[: self._each]]
                for places in self._places
            ]
            batch = self._split.take(torch.cat(drawn).to(self._split.labels.device))
            yield self._normalisation(batch.images), batch.labels
