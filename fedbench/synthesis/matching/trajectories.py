"""Trajectory matching: images on which a few steps lead where an expert's epochs of real data led.

A student starts from an expert's weights and takes N steps of gradient descent on the images; the
loss says how far it ends from where the expert was M epochs later. The gradient for the images
passes through all of the steps. ``unrolled`` keeps every step's graph for it. ``recomputed`` goes
back step by step: it multiplies the gradient for the weights after a step by that step's
derivative, whose graph is made for it alone, so that memory does not grow with N. Both give the
same gradient.

Source: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022,
https://arxiv.org/abs/2203.11932, and its code; memory that does not grow: Cui et al., "Scaling Up
Dataset Distillation to ImageNet-1K with Constant Memory", ICML 2023,
https://arxiv.org/abs/2211.10586, who leave out what a step changes by way of the weights after it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from fedbench.data import dsa

Weights = tuple[Tensor, ...]
Way = Literal["recomputed", "unrolled"]

#: Shortest step of an expert that can be matched, in proportion to the length of its weights:
#: below, the loss divides by what float32 cannot tell from nothing.
SHORTEST = 1e-5
#: Steps whose weights are kept; between them weights are computed again, so that memory stays.
_KEPT = 10


class Batch(NamedTuple):
    """What one step of the student sees.

    Attributes:
        places: (B,) int64 positions of its images.
        draw: Their augmentation, each image with parameters of its own; None for none.
    """

    places: Tensor
    draw: dsa.Draw | None


class Segment(NamedTuple):
    """A part of an expert's trajectory: weights that it had, and those M epochs later."""

    start: Weights
    target: Weights


class Gradient(NamedTuple):
    """A loss and what it says of the images.

    Attributes:
        loss: In proportion to the expert's step: 1 for a student that has not moved.
        images: Its gradient for the images, shaped like them.
        lr: Its gradient for the student's learning rate.
    """

    loss: Tensor
    images: Tensor
    lr: Tensor


@dataclass(frozen=True)
class Experts:
    """What a client's experts leave.

    Attributes:
        names: Of a network's weights, in its order.
        trajectories: Of each expert: its weights before training and after each epoch in use.
        accuracies: (E,) of each at its end, on the client's hold-out; (0,) where it has none.
        size_bytes: Of what is kept.
    """

    names: tuple[str, ...]
    trajectories: tuple[tuple[Mapping[str, Tensor], ...], ...]
    accuracies: Tensor
    size_bytes: int

    def weights(self, expert: int, epoch: int, device: torch.device) -> Weights:
        """Return an expert's weights after an epoch."""
        kept = self.trajectories[expert][epoch]
        return tuple(kept[name].to(device) for name in self.names)

    def segment(self, expert: int, epoch: int, span: int, device: torch.device) -> Segment:
        """Return the part of a trajectory that begins after an epoch."""
        start, target = (self.weights(expert, at, device) for at in (epoch, epoch + span))
        return Segment(start, target)


class InnerLoop:
    """A student's training on images, as a function of images and learning rate.

    Args:
        net: Any network without buffers; its weights count for nothing.
        labels: (n,) int64 of the images, on their device.
        bf16: Compute convolutions in bfloat16; weights, losses and steps are as they are.
    """

    def __init__(self, net: nn.Module, labels: Tensor, *, bf16: bool = False) -> None:
        self._net, self._labels, self._bf16 = net, labels, bf16
        self._names = [name for name, _ in net.named_parameters()]

    def gradient(
        self, weights: Weights, images: Tensor, batch: Batch, *, graph: bool = False
    ) -> Weights:
        """Return the gradient of the cross entropy of a batch for the weights.

        Args:
            weights: Those of the network, in the order of its parameters, leaves or in a graph.
            images: (n, C, S, S) normalised floats, all of them.
            batch: Which of them, and how they are augmented.
            graph: Make one, so that the gradient has a gradient.
        """
        seen = dsa.apply(images[batch.places], batch.draw)
        named = dict(zip(self._names, weights, strict=True))
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._bf16):
            logits = functional_call(self._net, named, (seen,))
        logits = logits if logits.dtype == torch.float64 else logits.float()
        loss = functional.cross_entropy(logits, self._labels[batch.places])
        return torch.autograd.grad(loss, weights, create_graph=graph)

    def unrolled(
        self, segment: Segment, images: Tensor, lr: Tensor, batches: Sequence[Batch]
    ) -> Gradient:
        """Return the gradient through all steps at once; memory grows with their number.

        Args:
            segment: Where the student starts and should end.
            images: (n, C, S, S) normalised floats.
            lr: The student's learning rate, a number.
            batches: One for each of the N steps.
        """
        images, lr = images.detach().requires_grad_(), lr.detach().requires_grad_()
        weights = _leaves(segment.start)
        for batch in batches:
            slopes = self.gradient(weights, images, batch, graph=True)
            weights = tuple(
                weight - lr * slope for weight, slope in zip(weights, slopes, strict=True)
            )
        loss = distance(weights, segment)
        if not batches:
            return Gradient(loss.detach(), torch.zeros_like(images), torch.zeros_like(lr))
        return Gradient(loss.detach(), *torch.autograd.grad(loss, (images, lr)))

    def recomputed(
        self, segment: Segment, images: Tensor, lr: Tensor, batches: Sequence[Batch]
    ) -> Gradient:
        """Return the same gradient, one step at a time from the last to the first.

        With v the gradient for the weights after a step θ' = θ - α g(θ, X), that for the weights
        before it is v - α ∂(g·v)/∂θ, and what the step adds for X is -α ∂(g·v)/∂X and for α -g·v.

        Args:
            segment: Where the student starts and should end.
            images: (n, C, S, S) normalised floats.
            lr: The student's learning rate, a number.
            batches: One for each of the N steps.
        """
        images, lr = images.detach().requires_grad_(), lr.detach()
        stride = max(1, math.ceil(len(batches) / _KEPT))
        marks, last = self._marks(segment.start, images, lr, batches, stride)
        loss = distance(last, segment)
        size = length(segment)
        back = [2 * (w - t) / size for w, t in zip(last, segment.target, strict=True)]
        for_images, for_lr = torch.zeros_like(images), torch.zeros_like(lr)
        for mark in reversed(range(len(marks))):
            start = mark * stride
            part = batches[start : start + stride]
            steps = [marks[mark]]
            for batch in part[:-1]:
                steps.append(self._stepped(steps[-1], images, lr, batch))
            for weights, batch in zip(reversed(steps), reversed(part), strict=True):
                leaves = _leaves(weights)
                slopes = self.gradient(leaves, images, batch, graph=True)
                along = torch.stack([(s * v).sum() for s, v in zip(slopes, back, strict=True)])
                moved = along.sum()
                *turn, pixels = torch.autograd.grad(moved, (*leaves, images))
                back = [v - lr * turned for v, turned in zip(back, turn, strict=True)]
                for_images -= lr * pixels
                for_lr -= moved.detach()
        return Gradient(loss, for_images, for_lr)

    def _marks(
        self, start: Weights, images: Tensor, lr: Tensor, batches: Sequence[Batch], stride: int
    ) -> tuple[list[Weights], Weights]:
        """Return the weights before every so many steps, and those after the last."""
        weights, marks = start, []
        for step, batch in enumerate(batches):
            if step % stride == 0:
                marks.append(weights)
            weights = self._stepped(weights, images, lr, batch)
        return marks, weights

    def _stepped(self, weights: Weights, images: Tensor, lr: Tensor, batch: Batch) -> Weights:
        slopes = self.gradient(_leaves(weights), images.detach(), batch)
        return tuple(weight - lr * slope for weight, slope in zip(weights, slopes, strict=True))


def draw_batches(
    count: int,
    steps: int,
    size: int | None,
    ops: Sequence[dsa.Op],
    side: int,
    source: torch.Generator,
    device: torch.device,
) -> list[Batch]:
    """Draw what the steps of a student see: pass after pass over the images in a new order.

    Args:
        count: Images, n.
        steps: N.
        size: Images in a step; None takes all in each.
        ops: Augmentations of which each step has one.
        side: Height and width of the images in pixels.
        source: On the CPU; it is advanced.
        device: Of the images.
    """
    found: list[Batch] = []
    waiting: list[Tensor] = []
    for _ in range(steps):
        if not waiting:
            order = torch.randperm(count, generator=source)
            waiting = list(torch.split(order, size or count))
        places = waiting.pop(0)
        found.append(Batch(places.to(device), dsa.draw(ops, side, source, len(places))))
    return found


def distance(weights: Weights, segment: Segment) -> Tensor:
    """Return the squared distance from the target, in proportion to that of the start."""
    return _squares(weights, segment.target) / length(segment)


def length(segment: Segment) -> Tensor:
    """Return the squared length of an expert's step."""
    return _squares(segment.start, segment.target)


def moves(segment: Segment) -> bool:
    """Return whether an expert's step is long enough to be matched, and finite."""
    whole = sum(float(weight.double().square().sum()) for weight in segment.start)
    step = float(length(segment))
    return math.isfinite(step) and step > SHORTEST**2 * whole


def _squares(one: Weights, other: Weights) -> Tensor:
    return torch.stack([(a - b).square().sum() for a, b in zip(one, other, strict=True)]).sum()


def _leaves(weights: Weights) -> Weights:
    return tuple(weight.detach().requires_grad_() for weight in weights)
