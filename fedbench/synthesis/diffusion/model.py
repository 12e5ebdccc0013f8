"""A frozen diffusion model as guidance uses it: predictions, clean images by formula, steps.

Networks and schedulers are those of diffusers, which is imported only where one is used. What a
network predicts (noise, velocity or the clean image) and the noise of every timestep stand in its
scheduler's settings.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from fedbench.errors import ModelError

Sampling = Literal["ddim", "ddpm"]
#: Of noisy samples (B, ...), timesteps (B,) int64 and class ids (B,) or None: the prediction.
Predict = Callable[[Tensor, Tensor, Tensor | None], Tensor]
#: Of clean samples: images (B, C, S, S), about -1 to 1.
Decode = Callable[[Tensor], Tensor]


def library(name: str = "diffusers") -> ModuleType:
    """Import a module of diffusers where it is used; mypy takes what it defines as it is used."""
    return importlib.import_module(name)


def versions() -> dict[str, str]:
    """Return what computes a prior and samples it, for the keys of artefacts."""
    return {"diffusers": str(library().__version__)}


def _as_it_is(images: Tensor) -> Tensor:
    return images


@dataclass(frozen=True)
class Diffusion:
    """A frozen diffusion model.

    Attributes:
        predict: Asks the network; gradients pass to the samples.
        shape: Of one noisy sample: channels, height, width.
        settings: Of its scheduler, as diffusers writes them.
        decode: Makes images of clean samples; gradients pass.
        classes: How many classes it takes, or None where it takes none.
        null: The class id that stands for none of them, or None where it was not trained with one.
        bf16: Compute predictions in bfloat16 where torch deems that safe.
        resize: Brings images that were cut to black and white to the clients' size; gradients pass.
    """

    predict: Predict
    shape: tuple[int, int, int]
    settings: Mapping[str, Any]
    decode: Decode
    classes: int | None = None
    null: int | None = None
    bf16: bool = False
    resize: Decode = _as_it_is

    def __post_init__(self) -> None:
        kind = self.settings.get("prediction_type", "epsilon")
        if kind not in ("epsilon", "v_prediction", "sample"):
            raise ModelError(
                f"a diffusion model that predicts {kind!r} is not known; it has to predict "
                "epsilon, v_prediction or sample"
            )

    def ask(
        self, noisy: Tensor, timestep: int, labels: Tensor | None = None, emphasis: float = 1.0
    ) -> Tensor:
        """Return what the network predicts, float32.

        Args:
            noisy: (B, ...) samples at a timestep.
            timestep: From 0.
            labels: (B,) class ids, for a network that takes some.
            emphasis: Of the classes (classifier-free guidance, Ho and Salimans 2022,
                https://arxiv.org/abs/2207.12598); 1 asks once.
        """
        times = torch.full((len(noisy),), timestep, device=noisy.device)
        with torch.autocast(noisy.device.type, torch.bfloat16, enabled=self.bf16):
            if self.classes is None:
                return self.predict(noisy, times, None).float()
            if labels is None:
                labels = self._none(noisy)
            told = self.predict(noisy, times, labels).float()
            if emphasis == 1:
                return told
            plain = self.predict(noisy, times, self._none(noisy)).float()
        return plain + emphasis * (told - plain)

    def _none(self, noisy: Tensor) -> Tensor:
        if self.null is None:
            raise ModelError(
                "this diffusion model knows no image without a class; leave its emphasis at 1, or "
                "train one with a null class (fedbench pretrain-diffusion --conditional)"
            )
        return torch.full((len(noisy),), self.null, device=noisy.device)


class Sampler:
    """Denoises in some steps, as diffusers' scheduler does.

    Args:
        diffusion: The model.
        kind: ``ddim`` is deterministic once it has begun (Song et al. 2021,
            https://arxiv.org/abs/2010.02502); ``ddpm`` draws noise at each step (Ho et al. 2020,
            https://arxiv.org/abs/2006.11239).
        steps: How many.

    Attributes:
        timesteps: In the order in which they are visited, the noisiest first.
    """

    def __init__(self, diffusion: Diffusion, kind: Sampling, steps: int) -> None:
        diffusers = library()
        # Guidance leaves the range that a clipped sample is cut to.
        given = {**diffusion.settings, "clip_sample": False, "thresholding": False}
        family = diffusers.DDIMScheduler if kind == "ddim" else diffusers.DDPMScheduler
        self._schedule = family.from_config(given)
        most = int(self._schedule.config["num_train_timesteps"])
        if steps > most:
            raise ModelError(f"{steps} steps of a schedule of {most}; take at most {most}")
        self._schedule.set_timesteps(steps)
        self.timesteps: Sequence[int] = self._schedule.timesteps.tolist()
        self._target = str(diffusion.settings.get("prediction_type", "epsilon"))
        self._shape = diffusion.shape

    def begin(self, count: int, source: torch.Generator) -> Tensor:
        """Return noise to begin with, (count, ...), on the CPU."""
        noise = torch.randn(count, *self._shape, generator=source)
        return noise * float(self._schedule.init_noise_sigma)

    def spread(self, timestep: int) -> float:
        """Return √(1-ᾱ), the noise's share at a timestep, in [0, 1]."""
        return float((1 - self._kept(timestep)) ** 0.5)

    def signal(self, timestep: int) -> float:
        """Return √ᾱ, the clean sample's share at a timestep, in (0, 1]."""
        return math.sqrt(float(self._kept(timestep)))

    def clean(self, noisy: Tensor, predicted: Tensor, timestep: int) -> Tensor:
        """Return the clean samples that a prediction stands for; gradients pass to both.

        By formula: a scheduler's step would draw random numbers.
        """
        kept = float(self._kept(timestep))
        signal, noise = math.sqrt(kept), math.sqrt(1 - kept)
        if self._target == "v_prediction":
            return signal * noisy - noise * predicted
        if self._target == "epsilon":
            return (noisy - noise * predicted) / signal
        return predicted

    def step(
        self, predicted: Tensor, timestep: int, noisy: Tensor, source: torch.Generator
    ) -> Tensor:
        """Return the samples of the next timestep.

        Args:
            predicted: For these samples.
            timestep: Theirs.
            noisy: (B, ...).
            source: Of the noise that ``ddpm`` adds, on the CPU.
        """
        found = self._schedule.step(predicted, timestep, noisy, generator=source)
        after: Tensor = found.prev_sample
        return after

    def _kept(self, timestep: int) -> Tensor:
        kept: Tensor = self._schedule.alphas_cumprod[timestep]
        return kept
