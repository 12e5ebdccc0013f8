"""What networks say of many images: logits, features, both in one pass, BatchNorm's statistics."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from fedbench.models.net import Net

T = TypeVar("T")

#: Images in a forward pass, by device and whether it is in bfloat16. On a CPU core maps of 500
#: images leave the cache: ConvNets of width 32 and 128 were 2.3 and 1.4 times as fast with 64 in
#: float32; in bfloat16, whose maps take half, ResNet-8 and ConvNet were a third quicker with 128.
_BATCH = {("cpu", False): 64, ("cpu", True): 128}
_BATCH_ELSEWHERE = 1000


class Moments(NamedTuple):
    """Mean and variance of each channel of what one BatchNorm layer is given.

    Attributes:
        mean: (C,) float32.
        var: (C,) float32, biased: over batch and space, as BatchNorm itself normalises with.
    """

    mean: Tensor
    var: Tensor


@dataclass(frozen=True)
class Inference:
    """Asks networks in eval mode, without gradients, some images at a time.

    A network is moved to the device; which of its parts are in train mode stays as it was.

    Attributes:
        normalise: Makes normalised floats of uint8 images, and leaves floats as they are.
        device: Where to compute.
        bf16: Compute features in bfloat16 where torch deems that safe, and logits from them in
            float32, because rounded ones would hardly tell one confident image from another. A
            module that is no ``Net`` has no head apart: it computes in float32 altogether.
    """

    normalise: Callable[[Tensor], Tensor]
    device: torch.device
    bf16: bool = False

    def logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return (N, classes) float32 of (N, C, H, W) images, uint8 or normalised."""
        if self.bf16 and isinstance(model, Net):
            return self.both(model, images)[1]
        return torch.cat(self._each(model, images, model)).float()

    def features(self, net: Net, images: Tensor) -> Tensor:
        """Return penultimate features, (N, d), float32 or bfloat16, of (N, C, H, W) images."""
        return torch.cat(self._each(net, images, lambda part: features(net, part, bf16=self.bf16)))

    def both(self, net: Net, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits (see there), in one pass."""
        found, said = zip(
            *self._each(net, images, lambda part: ask(net, part, bf16=self.bf16)), strict=True
        )
        return torch.cat(found), torch.cat(said)

    def statistics(self, net: Net, images: Tensor) -> tuple[Moments, ...]:
        """Return the moments over all images of what each BatchNorm layer is given, in order."""

        def sums(part: Tensor) -> list[Tensor]:
            with batch_norm_inputs(net) as heard:
                features(net, part, bf16=self.bf16)
            return [_sums(given) for _, given in heard]

        parts = zip(*self._each(net, images, sums), strict=True)
        totals = [torch.stack(layer).sum(0) for layer in parts]
        means = [(total[1] / total[0], total[2] / total[0]) for total in totals]
        return tuple(
            Moments(mean.float(), (square - mean.square()).clamp_min(0).float())
            for mean, square in means
        )

    @torch.no_grad()
    def _each(self, model: nn.Module, images: Tensor, step: Callable[[Tensor], T]) -> list[T]:
        """Return what a step makes of the images, some at a time, normalised on the device."""
        size = _BATCH.get((self.device.type, self.bf16), _BATCH_ELSEWHERE)
        modes = [(module, module.training) for module in model.modules()]
        model.to(self.device).eval()
        try:
            with torch.autocast(self.device.type, enabled=False):
                return [
                    step(self.normalise(part)) for part in torch.split(images.to(self.device), size)
                ]
        finally:
            for module, training in modes:
                module.training = training


def features(net: Net, images: Tensor, *, bf16: bool) -> Tensor:
    """Return penultimate features of normalised images in one batch, float32 or bfloat16."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        found = net.features(images)
    # Some layers leave autocast in float32.
    return found.bfloat16() if bf16 else found


def ask(net: Net, images: Tensor, *, bf16: bool) -> tuple[Tensor, Tensor]:
    """Return features and float32 logits of one batch; gradients pass, and autocast does not.

    Args:
        net: In whichever mode it is.
        images: (B, C, H, W) normalised floats on its device.
        bf16: See ``Inference``.
    """
    found = features(net, images, bf16=bf16)
    with torch.autocast(images.device.type, enabled=False):
        return found, net.head(found.float())


@contextmanager
def batch_norm_inputs(net: nn.Module) -> Iterator[list[tuple[_BatchNorm, Tensor]]]:
    """Hear what each BatchNorm layer of a network is given inside the block, in order.

    Yields:
        A list that forward passes fill: the layer, and its input (B, C, ...) with its graph. The
        hooks are gone when the block ends, also by an error.
    """
    heard: list[tuple[_BatchNorm, Tensor]] = []

    def hear(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        heard.append((layer, inputs[0]))

    handles = [
        layer.register_forward_pre_hook(hear)
        for layer in net.modules()
        if isinstance(layer, _BatchNorm)
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def moments(given: Tensor) -> Moments:
    """Return the moments of one batch, (B, C, ...); gradients pass, once."""
    mean, var = cast("tuple[Tensor, Tensor]", _Moments.apply(given.float()))
    return Moments(mean, var)


class _Saved(Protocol):
    saved_tensors: tuple[Tensor, Tensor]


class _Moments(Function):
    """Mean and biased variance over all axes but the second, in two plain passes.

    On a CPU core `torch.var_mean` over maps takes 15 times as long, and its gradient four passes
    where one does: x times a number of its channel, plus another one.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, given: Tensor) -> tuple[Tensor, Tensor]:
        over = [axis for axis in range(given.ndim) if axis != 1]
        mean = given.mean(over, keepdim=True)
        var = (given - mean).square_().mean(over)
        ctx.save_for_backward(given, mean)
        return mean.flatten(), var

    @staticmethod
    @once_differentiable
    def backward(ctx: _Saved, of_mean: Tensor, of_var: Tensor) -> Tensor:
        given, mean = ctx.saved_tensors
        count = given.numel() // mean.numel()
        slope = (2 / count) * of_var.view_as(mean)
        return torch.addcmul(of_mean.view_as(mean) / count - slope * mean, given, slope)


def _sums(given: Tensor) -> Tensor:
    """Return count, sum and sum of squares of each channel of (B, C, ...), (3, C) float64."""
    flat = given.double().transpose(0, 1).flatten(1)
    return torch.stack(
        [torch.full_like(flat[:, 0], flat.shape[1]), flat.sum(1), flat.square().sum(1)]
    )


def unhooked(model: nn.Module) -> nn.Module:
    """Return a copy without hooks: what it is shown, its owner does not see.

    Copying takes as much memory as the model has, so make one copy for all that it is shown.
    """
    copied = copy.deepcopy(model)
    for module in copied.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return copied
