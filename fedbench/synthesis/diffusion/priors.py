"""Diffusion priors: networks of some sizes, and folders of them.

A prior is trained on images that no client holds, in a cell as a public artefact or by `fedbench
pretrain-diffusion`, and is a folder as diffusers writes it, safetensors alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedbench.errors import ModelError, SettingsError
from fedbench.federation.priors import schedule_of, settings_of, whole
from fedbench.federation.resources import Resource
from fedbench.synthesis.diffusion.model import Diffusion, library

Size = Literal["tiny", "small", "large"]

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


#: `tiny`: digits in two minutes on two cores; `small`: MNIST in fifteen; `large`: METHODS, eight
#: minutes of an H100 or more.
SCALES: Mapping[Size, Scale] = {
    "tiny": Scale((16, 32), (1,), 1, 8, 800, lr=2e-3, decay=0.99),
    "small": Scale((16, 32, 64), (2,), 1, 8, 2000, lr=2e-3, decay=0.995),
    "large": Scale((64, 128, 128), (1,), 2, 32, 20_000, batch_size=128, lr=2e-4),
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
    net: nn.Module = library().UNet2DModel(**settings)
    return net, settings


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

    side = settings["sample_size"]
    side = side[0] if isinstance(side, list | tuple) else side
    shape = (settings["in_channels"], side, side)
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

    Raises:
        DataError: A network of it cannot be read, or not all of its weights are there.
    """
    diffusers, folder = library(), resource.folder
    assert folder is not None  # a resource of this kind has one
    settings, schedule = settings_of(folder), schedule_of(folder)
    prompts = resource.tensors.get("prompts")
    family = diffusers.UNet2DModel if prompts is None else diffusers.UNet2DConditionModel
    place = folder / "unet" if (folder / "unet").is_dir() else folder
    net = whole(family, place, use_safetensors=True)
    if prompts is None:
        return of_network(net, settings, schedule, device, classes=classes, bf16=bf16)
    vae = whole(diffusers.AutoencoderKL, folder / "vae", use_safetensors=True)
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
    net = net.to(device).eval().requires_grad_(False)
    coder: Any = vae.to(device).eval().requires_grad_(False)
    told, factor = prompts.to(device), float(coder.config["scaling_factor"])

    def predict(noisy: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None  # it takes classes
        found: Tensor = net(noisy, times, encoder_hidden_states=told[labels]).sample
        return found

    def decode(clean: Tensor) -> Tensor:
        images: Tensor = coder.decode(clean / factor).sample
        return images

    def resize(images: Tensor) -> Tensor:
        if images.shape[-1] == size:
            return images
        return functional.interpolate(
            images, (size, size), mode="bicubic", antialias=True, align_corners=False
        )

    side, classes = settings["sample_size"], len(prompts) - 1
    shape = (settings["in_channels"], side, side)
    return Diffusion(predict, shape, schedule, decode, classes + 1, classes, bf16, resize)
