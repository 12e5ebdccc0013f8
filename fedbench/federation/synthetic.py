"""Shared sets of images: what data-sharing methods leave at the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fedbench.data.normalisation import Normalisation
from fedbench.errors import FedbenchError, StoreError
from fedbench.federation.artefacts import tensors_digest
from fedbench.files import write_atomic

#: The output of a record that is the shared set; the names of further ones begin with it.
SET = "synthetic"


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
        labels: (N,) int64 class ids, or (N, classes) float32 soft labels.
        normalisation: Of the images.
        origin: (N,) int64, the client that each image comes from, -1 where that is not known; None
            where it is of none.
    """

    images: Tensor
    labels: Tensor
    normalisation: Normalisation
    origin: Tensor | None = None

    @property
    def pixels(self) -> int:
        """Storage of the images in pixels; the channels of one pixel count once."""
        count, _, height, width = self.images.shape
        return int(count * height * width)

    @property
    def label_bytes(self) -> int:
        """Storage of soft labels in bytes; a class id costs nothing, as in a budget of pixels."""
        return self.labels.nbytes if self.labels.ndim == 2 else 0

    @property
    def classes(self) -> Tensor:
        """The class of each image, (N,) int64; of soft labels the likeliest."""
        return self.labels.argmax(1) if self.labels.ndim == 2 else self.labels

    def tensors(self) -> dict[str, Tensor]:
        """Return everything as named tensors."""
        known = {} if self.origin is None else {"origin": self.origin.cpu().contiguous()}
        return {
            "images": self.images.cpu().contiguous(),
            "labels": self.labels.cpu().contiguous(),
            "mean": torch.tensor(self.normalisation.mean),
            "std": torch.tensor(self.normalisation.std),
            **known,
        }

    def save(self, folder: Path) -> str:
        """Write the set as ``DIGEST.safetensors`` and return the digest."""
        return save_outputs({SET: self.tensors()}, folder)[SET]

    @classmethod
    def load(cls, path: Path) -> SyntheticSet:
        """Read a set that ``save`` wrote.

        Raises:
            StoreError: The file is no synthetic set.
        """
        try:
            tensors = safetensors.torch.load_file(path)
            mean, std = (tuple(tensors[name].tolist()) for name in ("mean", "std"))
            return cls(
                tensors["images"],
                tensors["labels"],
                Normalisation(mean, std),
                tensors.get("origin"),
            )
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            raise StoreError(f"{path} is not a synthetic set: {error}") from error


def named_sets(
    found: SyntheticSet | Mapping[str, SyntheticSet] | None,
) -> dict[str, SyntheticSet]:
    """Return the shared sets of a method by the name of their output.

    Args:
        found: What ``Method.synthetic`` returned.

    Returns:
        ``synthetic``, what the method shares and its budget bounds, first; others, such as the
        images that it began with, as ``synthetic/NAME``.

    Raises:
        FedbenchError: Several sets, and none is called ``synthetic``.
    """
    if found is None:
        return {}
    if isinstance(found, SyntheticSet):
        return {SET: found}
    if SET not in found:
        raise FedbenchError(
            f"the method leaves the sets {', '.join(found) or 'none'}; call the one that it shares "
            f"{SET!r}, because the budget is on that"
        )
    others = {f"{SET}/{name}": each for name, each in found.items() if name != SET}
    return {SET: found[SET], **others}


def is_set(output: str) -> bool:
    """Return whether an output of a record, by its name, is a shared set of images."""
    return output == SET or output.startswith(f"{SET}/")
