"""Guided sampling: a client's classifier steers a diffusion model towards the client's data.

At each timestep the classifier sees the clean images that the model predicts. The gradients of its
cross entropy with the wanted classes, and of the gap between the batch's BatchNorm statistics and
those of the client's data, move the noisy samples. Before the first step they edit the noise
itself.

FedLMG, https://arxiv.org/abs/2311.08870, and its code; normalised steps and the order in which
nothing is predicted twice (Chung et al. 2023, DPS, https://arxiv.org/abs/2209.14687) are options.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fedbench.data.normalisation import Normalisation
from fedbench.errors import TrainingError
from fedbench.synthesis.diffusion.model import Diffusion, Sampler
from fedbench.synthesis.teachers import Teachers, batch_norm_gap

#: What a step's classifier has said: means over a batch of these.
TOLD = ("cross_entropy", "confidence", "batch_norm")


@dataclass(frozen=True)
class Guidance:
    """How a classifier steers.

    Attributes:
        cross_entropy: Weight of the cross entropy, at least 0; with 0 nobody is asked for it.
        batch_norm: Weight of the gap to BatchNorm's statistics, at least 0; with 0 no layer is
            heard.
        layers: Whether that gap is summed over layers, or their mean, which weighs deep and shallow
            classifiers alike.
        scale: Of every step.
        normalised: Bring each term's gradient, by image, to the length of one a pixel before it is
            weighed, and the step to the length of their sum times √(1-ᾱ); if not, take gradients
            as they are.
        edits: M, steps at the noise before denoising begins.
        edit_with: What they follow.
        detach: Take the predicted noise ε̂ for a constant, so that x̂₀ moves by 1/√ᾱ of its noisy
            sample: no gradient through the diffusion model.
        twice: Predict anew from the moved samples before the denoising step; if not, the step is
            taken with the prediction at hand, and what it leads to is moved.
        straight: Let gradients pass the clamp of images to [-1, 1].
        emphasis: Of the classes, for a model that takes some (see ``Diffusion.ask``).
    """

    cross_entropy: float = 1.0
    batch_norm: float = 1.0
    layers: Literal["sum", "mean"] = "sum"
    scale: float = 1.0
    normalised: bool = True
    edits: int = 0
    edit_with: Literal["batch_norm", "both"] = "both"
    detach: bool = False
    twice: bool = False
    straight: bool = True
    emphasis: float = 1.0

    @property
    def steers(self) -> bool:
        """Whether a denoising step is moved at all."""
        return self.scale > 0 and (self.cross_entropy > 0 or self.batch_norm > 0)

    @property
    def of_edits(self) -> Guidance:
        """The same with what edits of the noise follow."""
        return replace(self, cross_entropy=0.0) if self.edit_with == "batch_norm" else self


class Made(NamedTuple):
    """A batch as it came out.

    Attributes:
        images: (B, C, S, S) float32 in [0, 1].
        trace: (timesteps, 3) float32, ``TOLD`` at each step; NaN where nobody was asked.
    """

    images: Tensor
    trace: Tensor


class Guide:
    """Makes batches with one client's classifier.

    Args:
        diffusion: The frozen model.
        sampler: Of it.
        teacher: One classifier.
        normalisation: Of its images.
        guidance: How it steers.
    """

    def __init__(
        self,
        diffusion: Diffusion,
        sampler: Sampler,
        teacher: Teachers,
        normalisation: Normalisation,
        guidance: Guidance,
    ) -> None:
        self._diffusion, self._sampler, self._guidance = diffusion, sampler, guidance
        self._teacher = teacher
        self._mean, self._std = (
            torch.tensor(part, device=teacher.device).view(-1, 1, 1)
            for part in (normalisation.mean, normalisation.std)
        )

    def run(self, labels: Tensor, source: torch.Generator, *, watch: bool = False) -> Made:
        """Make one batch.

        Args:
            labels: (B,) int64 classes that the images are to be of, on the teacher's device.
            source: Of the noise, on the CPU.
            watch: Ask the classifier at every step, also where it does not guide.

        Raises:
            TrainingError: The images are not finite.
        """
        guidance, sampler = self._guidance, self._sampler
        noisy = sampler.begin(len(labels), source).to(labels.device)
        noisy = self.edit(noisy, labels)
        trace, last = [], sampler.timesteps[-1]
        clean = noisy
        for timestep in sampler.timesteps:
            step, told = None, [float("nan")] * len(TOLD)
            if guidance.steers and timestep != last:
                step, predicted, told = self.pull(noisy, labels, timestep, guidance)
                if guidance.twice:
                    noisy, step = noisy - step, None
                    predicted = self._predict(noisy, labels, timestep)
            else:
                predicted = self._predict(noisy, labels, timestep)
            clean = sampler.clean(noisy, predicted, timestep)
            if watch:
                told = self._heard(clean, labels)
            noisy = sampler.step(predicted, timestep, noisy, source)
            if step is not None:
                noisy = noisy - step
            trace.append(told)
        with torch.no_grad():
            images = self._diffusion.resize(self._seen(clean).clamp(0, 1)).clamp(0, 1)
        if not torch.isfinite(images).all():
            raise TrainingError(
                "guided images are not finite; lower the method's scale, or look whether the "
                "clients' models have diverged"
            )
        return Made(images, torch.tensor(trace))

    def edit(self, noisy: Tensor, labels: Tensor) -> Tensor:
        """Return edited noise: M steps at the first timestep."""
        rule = self._guidance.of_edits
        if not rule.steers:
            return noisy
        for _ in range(rule.edits):
            step, _, _ = self.pull(noisy, labels, self._sampler.timesteps[0], rule)
            noisy = noisy - step
        return noisy

    def pull(
        self, noisy: Tensor, labels: Tensor, timestep: int, guidance: Guidance
    ) -> tuple[Tensor, Tensor, list[float]]:
        """Return the step that noisy samples are moved by, what was predicted, and what was said.

        Args:
            noisy: (B, ...).
            labels: (B,).
            timestep: Of the samples.
            guidance: Which terms count.

        Returns:
            To be subtracted, like ``noisy``; the prediction, without gradients; and ``TOLD``.
        """
        here = noisy.detach().requires_grad_()
        with torch.set_grad_enabled(not guidance.detach):
            predicted = self._diffusion.ask(here, timestep, labels, guidance.emphasis)
        with torch.enable_grad():
            clean = self._sampler.clean(here, predicted, timestep)
            wanted, told = self._wanted(clean.detach(), labels, guidance)
            if guidance.detach:
                # Whatever is predicted: with ε̂ a constant, x̂₀ = (x - √(1-ᾱ) ε̂)/√ᾱ.
                step = wanted / self._sampler.signal(timestep)
            else:
                (step,) = torch.autograd.grad(clean, here, wanted)
        if guidance.normalised:
            length = self._sampler.spread(timestep) * _length(wanted)
            step = step * (length / _length(step).clamp_min(1e-12))
        return guidance.scale * step, predicted.detach(), told

    def _wanted(
        self, clean: Tensor, labels: Tensor, guidance: Guidance
    ) -> tuple[Tensor, list[float]]:
        """Return the gradient of the loss at the clean samples, weighed, and ``TOLD``."""
        clean = clean.requires_grad_()
        seen = self._seen(clean)
        images = (self._diffusion.resize(self._clamped(seen)) - self._mean) / self._std
        gap, heard = None, float("nan")
        if guidance.batch_norm:
            (logits,), (layers,) = self._teacher.inspect(images)
            # One batch's statistics: as large for each image as it would be for a batch of one.
            gap = len(labels) * batch_norm_gap(layers)
            heard = float(gap.detach()) / len(labels)
            if guidance.layers == "mean":
                gap = gap / len(layers)
        else:
            logits = self._teacher.logits(images)[0]
        total = torch.zeros_like(clean)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        sure = logits.detach().softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
        if guidance.cross_entropy:
            (part,) = torch.autograd.grad(losses.sum(), clean, retain_graph=gap is not None)
            if guidance.normalised:
                part = part / _length(part).clamp_min(1e-12)
            total = total + guidance.cross_entropy * part
        if gap is not None:
            (part,) = torch.autograd.grad(gap, clean)
            if guidance.normalised:
                part = part / _length(part).clamp_min(1e-12)
            total = total + guidance.batch_norm * part
        return total, [float(losses.detach().mean()), float(sure.mean()), heard]

    @torch.no_grad()
    def _heard(self, clean: Tensor, labels: Tensor) -> list[float]:
        """Return ``TOLD`` of clean samples; NaN for the gap of a classifier without BatchNorm."""
        shown = self._diffusion.resize(self._clamped(self._seen(clean)))
        images = (shown - self._mean) / self._std
        (logits,), (layers,) = self._teacher.inspect(images)
        gap = float(batch_norm_gap(layers)) if layers else float("nan")
        sure = logits.softmax(1).gather(1, labels.unsqueeze(1)).mean()
        return [float(functional.cross_entropy(logits, labels)), float(sure), gap]

    def _predict(self, noisy: Tensor, labels: Tensor, timestep: int) -> Tensor:
        with torch.no_grad():
            return self._diffusion.ask(noisy, timestep, labels, self._guidance.emphasis)

    def _seen(self, clean: Tensor) -> Tensor:
        """Return clean samples as images, about 0 to 1."""
        return (self._diffusion.decode(clean) + 1) / 2

    def _clamped(self, images: Tensor) -> Tensor:
        cut = images.clamp(0, 1)
        return images + (cut - images).detach() if self._guidance.straight else cut


def _length(step: Tensor) -> Tensor:
    """Return the root of the mean square of each sample, (B, 1, ...)."""
    over = list(range(1, step.ndim))
    return step.square().mean(over, keepdim=True).sqrt()
