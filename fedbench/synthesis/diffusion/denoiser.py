"""The training of a diffusion prior: velocities at random timesteps, and an average of weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from fedbench.synthesis.diffusion.model import library
from fedbench.synthesis.diffusion.priors import SCHEDULE, Scale
from fedbench.training.module import NetModule

#: Share of images whose class is hidden in the training of a conditional prior.
_HIDDEN = 0.1  # Ho and Salimans 2022


class Denoiser(NetModule):
    """Trains a U-Net to predict velocities, and keeps a moving average of its weights.

    Args:
        net: In and out (B, C, S, S), about -1 to 1.
        scale: How it trains.
        steps: In all, instead of the scale's.
        null: The class id of none for a conditional network; None for an unconditional one.
    """

    def __init__(
        self, net: nn.Module, scale: Scale, *, steps: int, null: int | None = None
    ) -> None:
        super().__init__(net)
        self.scale, self.steps, self.null = scale, steps, null
        self._schedule = library().DDPMScheduler(**SCHEDULE)
        self._average = library("diffusers.training_utils").EMAModel(
            net.parameters(), decay=scale.decay, use_ema_warmup=False
        )

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the mean square error of velocities at random timesteps.

        Args:
            batch: (B, C, S, S) images about -1 to 1, and (B,) their classes.
            batch_idx: Unused.
        """
        images, classes = batch
        noise = torch.randn(images.shape).to(images.device)
        times = torch.randint(SCHEDULE["num_train_timesteps"], (len(images),)).to(images.device)
        noisy = self._schedule.add_noise(images, noise, times)
        target = self._schedule.get_velocity(images, noise, times)
        told = None
        if self.null is not None:
            hidden = torch.rand(len(images)).to(images.device) < _HIDDEN
            told = torch.where(hidden, self.null, classes)
        predicted = self.net(noisy, times, class_labels=told).sample
        return functional.mse_loss(predicted.float(), target)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW with a warm-up and a cosine, by steps."""
        optimizer = AdamW(self.net.parameters(), lr=self.scale.lr, weight_decay=0.0)
        steps, warm = self.steps, max(self.steps // 20, 1)

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return (1 + math.cos(math.pi * min((step - warm) / max(steps - warm, 1), 1))) / 2

        schedule = LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(self, *_: object, **__: object) -> None:
        """Clip the norm of the gradient to 1."""
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)

    def on_train_batch_end(self, *_: object) -> None:
        """Follow the weights."""
        self._average.step(self.net.parameters())

    def on_fit_start(self) -> None:
        """Enter train mode; the average goes where the network is."""
        super().on_fit_start()
        self._average.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the average into a checkpoint."""
        checkpoint["average"] = self._average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self._average.load_state_dict(checkpoint["average"])

    def averaged(self) -> dict[str, Tensor]:
        """Return the averaged weights by name, on the CPU."""
        names = (name for name, _ in self.net.named_parameters())
        shadows = self._average.shadow_params
        kept = dict(zip(names, shadows, strict=True))
        return {
            name: kept.get(name, value).detach().cpu().clone()
            for name, value in self.net.state_dict().items()
        }
