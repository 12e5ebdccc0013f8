"""Clients' networks as a server uses them: frozen, asked for logits, with gradients to images.

What inverts models and what distils from them asks the same things of K networks of any
architectures: logits, alone, mixed, or of the classes that a client has seen; and how far the
BatchNorm statistics of a batch are from those of the client's data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedbench.errors import ModelError
from fedbench.models.inference import Inference, ask, batch_norm_inputs, moments
from fedbench.models.net import Net

#: The logit of a class that a teacher has not seen: finite, so that losses and mixtures stay so,
#: and below all others, so that its probability is 0 and no gradient reaches it.
UNSEEN = -1e9


class Layer(NamedTuple):
    """What one BatchNorm layer of a teacher is given, and what it was given in training.

    Attributes:
        mean: (C,) of the batch, with gradients to its images.
        var: (C,) of the batch, biased, likewise.
        running_mean: (C,) of the client's data.
        running_var: (C,) of the client's data.
    """

    mean: Tensor
    var: Tensor
    running_mean: Tensor
    running_var: Tensor


class Teachers:
    """K networks of clients, which nothing changes any more.

    They compute in the cell's precision and their heads in float32, whoever asks. They are no
    module, so no fit puts them in train mode and no checkpoint holds them.

    Args:
        nets: Taken over: moved to the device, in eval mode, without gradients for their weights.
        inference: Device and precision.
        seen: (K, classes) bool, the classes that each one's head is restricted to; None for all.

    Raises:
        ModelError: There is none, or ``seen`` does not fit them.
    """

    def __init__(
        self, nets: Sequence[Net], inference: Inference, seen: Tensor | None = None
    ) -> None:
        if not nets:
            raise ModelError("there is no teacher; at least one client has to take part")
        self.nets = tuple(net.to(inference.device).eval().requires_grad_(False) for net in nets)
        self._inference = inference
        classes = self.nets[0].head.out_features
        if seen is not None and seen.shape != (len(nets), classes):
            raise ModelError(
                f"classes seen are given as {tuple(seen.shape)}; give one row for each of "
                f"{len(nets)} teachers and one column for each of {classes} classes"
            )
        self._seen = None if seen is None else seen.to(inference.device)

    def __len__(self) -> int:
        return len(self.nets)

    @property
    def device(self) -> torch.device:
        """Where they compute."""
        return self._inference.device

    @property
    def seen(self) -> Tensor | None:
        """The classes of restricted heads, (K, classes) bool; None where they are whole."""
        return self._seen

    def subset(self, which: Sequence[int]) -> Teachers:
        """Return some of these teachers, the same networks, by their positions."""
        seen = None if self._seen is None else self._seen[list(which)]
        return Teachers([self.nets[k] for k in which], self._inference, seen)

    def masked(self, seen: Tensor) -> Teachers:
        """Return these teachers with heads of the classes that each has seen, (K, classes) bool.

        The logit of any other class is ``UNSEEN``: no loss depends on what the network says of it.
        """
        return Teachers(self.nets, self._inference, seen)

    def logits(self, images: Tensor) -> Tensor:
        """Return (K, B, classes) float32 logits of one batch, with gradients to it.

        Args:
            images: (B, C, H, W) normalised floats on the teachers' device.
        """
        bf16 = self._inference.bf16
        return self._restricted(torch.stack([ask(net, images, bf16=bf16)[1] for net in self.nets]))

    def inspect(self, images: Tensor) -> tuple[Tensor, tuple[tuple[Layer, ...], ...]]:
        """Return logits as ``logits`` does, and each teacher's BatchNorm layers, from one pass.

        Returns:
            (K, B, classes), and K tuples of layers in order: empty for a network without BatchNorm.
            Both have gradients to the images. No hook is left.
        """
        said, layers = [], []
        for net in self.nets:
            with batch_norm_inputs(net) as heard:
                said.append(ask(net, images, bf16=self._inference.bf16)[1])
            layers.append(tuple(_layer(norm, given) for norm, given in heard))
        return self._restricted(torch.stack(said)), tuple(layers)

    def describe(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return logits as ``logits`` does, and each teacher's penultimate features, (B, d).

        They come from one pass, and both have gradients to the images.
        """
        asked = [ask(net, images, bf16=self._inference.bf16) for net in self.nets]
        features, said = zip(*asked, strict=True)
        return self._restricted(torch.stack(said)), features

    def table(self, images: Tensor) -> Tensor:
        """Return (K, N, classes) logits of many images, (N, C, H, W) uint8 or normalised floats.

        They are computed some at a time and without gradients.
        """
        said = [self._inference.logits(net, images) for net in self.nets]
        return self._restricted(torch.stack(said))

    def average(self, images: Tensor) -> Tensor:
        """Return (N, classes) logits of many images, averaged over the teachers.

        As the mean of ``table``, whose memory grows with their number.
        """
        total = torch.zeros((), device=self._inference.device)
        for k in range(len(self)):
            total = total + self.subset([k]).table(images)[0]
        return total / len(self)

    def _restricted(self, logits: Tensor) -> Tensor:
        if self._seen is None:
            return logits
        return logits.masked_fill(~self._seen.unsqueeze(1), UNSEEN)


def mixture(logits: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of teachers' logits.

    Of a class count only the teachers that have seen it; one that nobody with a weight has seen
    stays unseen.

    Args:
        logits: (K, B, classes), from ``Teachers.logits``.
        weights: (K,), or (B, K) with some for each image; at least 0, and scaled here to sum to 1.
            Where they are all 0, teachers count alike.

    Returns:
        (B, classes), with gradients to logits and weights.
    """
    shares = weights.T.unsqueeze(2) if weights.ndim == 2 else weights.view(-1, 1, 1)
    shares = torch.where(shares.sum(0) > 0, shares, 1.0)
    shares = torch.where(logits > UNSEEN / 2, shares, 0.0)
    total = shares.sum(0)
    mean = (shares / torch.where(total > 0, total, 1.0) * logits).sum(0)
    return torch.where(total > 0, mean, UNSEEN)


def batch_norm_gap(layers: Sequence[Layer]) -> Tensor:
    """Return how far a batch is from a client's data, as its BatchNorm layers see both.

    Yin et al. 2020, DeepInversion, https://arxiv.org/abs/1912.08795: Σ‖μ−μ̂‖₂ + ‖σ²−σ̂²‖₂ over
    layers, lengths that are not squared.

    Args:
        layers: Of one teacher; at least one.

    Raises:
        ModelError: There is none: the network has no BatchNorm.
    """
    if not layers:
        raise ModelError(
            "a client's network has no BatchNorm, so it says nothing of its data's statistics; "
            "choose a model with it, such as resnet8 or a convnet with norm: batch"
        )
    gaps = [
        (layer.mean - layer.running_mean).norm() + (layer.var - layer.running_var).norm()
        for layer in layers
    ]
    return torch.stack(gaps).sum()


def _layer(norm: nn.Module, given: Tensor) -> Layer:
    found, mean, var = moments(given), norm.running_mean, norm.running_var
    assert isinstance(mean, Tensor)
    assert isinstance(var, Tensor)
    return Layer(found.mean, found.var, mean, var)


@contextmanager
def frozen(net: Net, inference: Inference) -> Iterator[Teachers]:
    """Ask a network that learns as if it were a teacher, inside the block; then it learns again."""
    learns = [weight.requires_grad for weight in net.parameters()]
    modes = [(module, module.training) for module in net.modules()]
    try:
        yield Teachers([net], inference)
    finally:
        for weight, asked in zip(net.parameters(), learns, strict=True):
            weight.requires_grad_(asked)
        for module, training in modes:
            module.training = training
