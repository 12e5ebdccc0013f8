"""Diffusion priors: networks of some sizes, their training on public images, and folders of them.

A prior is trained on images that no client holds, in a cell as a public artefact or by `fedbench
pretrain-diffusion`, and is a folder as diffusers writes it, safetensors alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from fedbench.errors import DataError, ModelError, SettingsError
from fedbench.federation.priors import settings_of
from fedbench.federation.resources import Resource
from fedbench.synthesis.diffusion import Diffusion
from fedbench.training.module import NetModule

Size = Literal["tiny", "small", "card"]

#: Raised when the same settings train another prior; part of the key of trained ones.
VERSION = 1
#: METHODS: velocity is well scaled at every step of this schedule, where a predicted noise is not.
SCHEDULE: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "timestep_spacing": "leading",
    "clip_sample": False,
}
#: Share of images whose class is hidden in the training of a conditional prior.
_HIDDEN = 0.1  # Ho and Salimans 2022


@dataclass(frozen=True)
class Scale:
    """How large a prior is, and how long it trains.

    Attributes:
        channels: Of each level of the U-Net; every level but the last halves the image.
        attention: Levels with attention.
        layers: Blocks in each level.
        groups: Of its GroupNorm.
        steps: Of AdamW.
        batch_size: Images in a step.
        lr: Learning rate after a warm-up, falling to 0 by a cosine.
        decay: Of the moving average of the weights.
    """

    channels: tuple[int, ...]
    attention: tuple[int, ...]
    layers: int
    groups: int
    steps: int
    batch_size: int = 64
    lr: float = 1e-3
    decay: float = 0.999


#: `tiny`: digits in two minutes on two cores; `small`: MNIST in fifteen; `card`: METHODS, eight
#: minutes of an H100 or more.
SCALES: Mapping[Size, Scale] = {
    "tiny": Scale((16, 32), (1,), 1, 8, 800, lr=2e-3, decay=0.99),
    "small": Scale((16, 32, 64), (2,), 1, 8, 2000, lr=2e-3, decay=0.995),
    "card": Scale((64, 128, 128), (1,), 2, 32, 20_000, batch_size=128, lr=2e-4),
}


def network(
    scale: Scale, channels: int, size: int, classes: int | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a new U-Net and its settings, as diffusers writes them.

    Args:
        scale: Of the network.
        channels: Of the images, 1 or 3.
        size: Their height and width.
        classes: Of a conditional one, which has one more class for none; None for unconditional.

    Raises:
        SettingsError: The images cannot be halved that often.
    """
    from diffusers import UNet2DModel

    halvings = len(scale.channels) - 1
    if size % 2**halvings:
        raise SettingsError(
            f"images of {size}x{size} cannot be halved {halvings} times; take a smaller prior, or "
            f"set data.image_size to a multiple of {2**halvings}"
        )
    levels = range(len(scale.channels))
    settings: dict[str, Any] = {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": scale.channels,
        "layers_per_block": scale.layers,
        "down_block_types": tuple(
            "AttnDownBlock2D" if level in scale.attention else "DownBlock2D" for level in levels
        ),
        "up_block_types": tuple(
            "AttnUpBlock2D" if level in scale.attention else "UpBlock2D"
            for level in reversed(levels)
        ),
        "norm_num_groups": scale.groups,
        "num_class_embeds": None if classes is None else classes + 1,
    }
    net: nn.Module = UNet2DModel(**settings)
    return net, settings


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
        from diffusers import DDPMScheduler
        from diffusers.training_utils import EMAModel

        super().__init__(net)
        self.scale, self.steps, self.null = scale, steps, null
        self._schedule = DDPMScheduler(**SCHEDULE)
        self._average = EMAModel(net.parameters(), decay=scale.decay, use_ema_warmup=False)

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

    def configure_optimizers(self) -> dict[str, Any]:
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


def of_network(
    net: nn.Module,
    settings: Mapping[str, Any],
    schedule: Mapping[str, Any],
    device: torch.device,
    *,
    classes: int,
    bf16: bool = False,
) -> Diffusion:
    """Return a frozen U-Net in pixel space.

    Args:
        net: A ``UNet2DModel``; taken over.
        settings: Its.
        schedule: Of its scheduler.
        device: Where it is to be.
        classes: Of the images that are wanted.
        bf16: See ``Diffusion``.

    Raises:
        ModelError: It takes classes, and others.
    """
    net = net.to(device).eval().requires_grad_(False)
    taken = settings.get("num_class_embeds")
    if taken not in (None, classes, classes + 1):
        raise ModelError(
            f"the diffusion model takes {taken} classes and the clients have {classes}; take an "
            "unconditional one, or one of the same classes (and one more for none)"
        )
    null = classes if taken == classes + 1 else None

    def predict(noisy: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
        found: Tensor = net(noisy, times, class_labels=labels).sample
        return found

    shape = (settings["in_channels"], settings["sample_size"], settings["sample_size"])
    return Diffusion(predict, shape, schedule, lambda clean: clean, taken, null, bf16)


def of_folder(
    resource: Resource, device: torch.device, *, size: int, classes: int, bf16: bool = False
) -> Diffusion:
    """Return the model of a diffusers folder, frozen.

    Args:
        resource: Of the kind ``diffusers``.
        device: Where it is to be.
        size: Of the images that are wanted; those of a latent model are resized.
        classes: Of them.
        bf16: See ``Diffusion``.
    """
    import diffusers

    folder = resource.folder
    assert folder is not None  # a resource of this kind has one
    whole = (folder / "unet").is_dir()
    settings, schedule = settings_of(folder), _schedule(folder)
    prompts = resource.tensors.get("prompts")
    family = diffusers.UNet2DModel if prompts is None else diffusers.UNet2DConditionModel
    part = {"subfolder": "unet"} if whole else {}
    net = family.from_pretrained(str(folder), use_safetensors=True, local_files_only=True, **part)
    if prompts is None:
        return of_network(net, settings, schedule, device, classes=classes, bf16=bf16)
    vae = diffusers.AutoencoderKL.from_pretrained(
        str(folder), subfolder="vae", use_safetensors=True, local_files_only=True
    )
    return _latent(net, vae, settings, schedule, prompts, device, size=size, bf16=bf16)


def _latent(
    net: nn.Module,
    vae: nn.Module,
    settings: Mapping[str, Any],
    schedule: Mapping[str, Any],
    prompts: Tensor,
    device: torch.device,
    *,
    size: int,
    bf16: bool,
) -> Diffusion:
    """Return a U-Net over a VAE's latents, told classes by embeddings of their prompts."""
    net, vae = (part.to(device).eval().requires_grad_(False) for part in (net, vae))
    told, factor = prompts.to(device), float(vae.config["scaling_factor"])

    def predict(noisy: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None  # it takes classes
        found: Tensor = net(noisy, times, encoder_hidden_states=told[labels]).sample
        return found

    def decode(clean: Tensor) -> Tensor:
        images: Tensor = vae.decode(clean / factor).sample
        if images.shape[-1] == size:
            return images
        return functional.interpolate(
            images, (size, size), mode="bicubic", antialias=True, align_corners=False
        )

    side, classes = settings["sample_size"], len(prompts) - 1
    shape = (settings["in_channels"], side, side)
    return Diffusion(predict, shape, schedule, decode, classes + 1, classes, bf16)


def _schedule(folder: Path) -> dict[str, Any]:
    """Return the settings of a folder's scheduler; those that priors are trained with for none."""
    for place in (folder / "scheduler", folder):
        if (file := place / "scheduler_config.json").is_file():
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return found
    raise DataError(
        f"{folder} has no scheduler_config.json, so nobody knows what its network predicts; copy "
        "that of the pipeline beside it"
    )
