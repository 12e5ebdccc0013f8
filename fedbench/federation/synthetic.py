"""Shared sets of images: what data-sharing methods leave at the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fedbench.errors import StoreError
from fedbench.federation.artefacts import tensors_digest
from fedbench.files import write_atomic


def save_outputs(outputs: Mapping[str, Mapping[str, Tensor]], folder: Path) -> dict[str, str]:
    """Write named tensors as ``DIGEST.safetensors`` each.

    Args:
        outputs: Named tensors by the output's name.
        folder: Where.

    Returns:
        Digests by name.
    """
    digests = {}
    for name, tensors in outputs.items():
        plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        digests[name] = tensors_digest(plain)
        write_atomic(
            folder / f"{digests[name]}.safetensors", safetensors.torch.save(plain), durable=True
        )
    return digests


@dataclass(frozen=True)
class SyntheticSet:
    """Images and labels that a model can be trained on.

    Attributes:
        images: (N, C, H, W): uint8 pixels, or float32 in normalised space.
        labels: (N,) int64 class ids.
        mean: The normalisation's constants, one value a channel.
        std: Likewise.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def pixels(self) -> int:
        """Storage in pixels; the channels of one pixel count once."""
        count, _, height, width = self.images.shape
        return int(count * height * width)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything as named tensors."""
        return {
            "images": self.images.cpu().contiguous(),
            "labels": self.labels.cpu().contiguous(),
            "mean": torch.tensor(self.mean),
            "std": torch.tensor(self.std),
        }

    def save(self, folder: Path) -> str:
        """Write the set as ``DIGEST.safetensors`` and return the digest."""
        return save_outputs({"synthetic": self.tensors()}, folder)["synthetic"]

    @classmethod
    def load(cls, path: Path) -> SyntheticSet:
        """Read a set that ``save`` wrote.

        Raises:
            StoreError: The file is no synthetic set.
        """
        try:
            tensors = safetensors.torch.load_file(path)
            return cls(
                tensors["images"],
                tensors["labels"],
                tuple(tensors["mean"].tolist()),
                tuple(tensors["std"].tolist()),
            )
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            raise StoreError(f"{path} is not a synthetic set: {error}") from error
