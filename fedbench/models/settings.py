"""The settings of a network, and whether it takes images of some size."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from fedbench.models.families import MODELS, Initialisation
from fedbench.settings import Settings

Norm = Literal["instance", "group", "batch", "none"]


class Model(Settings):
    """One network architecture. None takes the family's own value, which the cell then shows."""

    name: str = "convnet"  # DM, MTT, CollabDM
    """The family's name; `fedbench models` lists them."""
    width: int | None = Field(None, ge=1)
    """Channels of the (first) convolution."""
    depth: int | None = Field(None, ge=1)
    """Number of blocks, for families that have it as an option."""
    norm: Norm | None = None
    """Normalisation layer, for families that have it as an option."""
    initialisation: Initialisation | None = None
    """How convolutions start, for families that have it as an option; None: as PyTorch starts
    them. `kaiming_normal` counts outputs (fan-out), `kaiming_uniform` inputs (fan-in)."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: object) -> object:
        if isinstance(values, str):
            values = {"name": values}
        if not isinstance(values, dict):
            return values
        family = MODELS.get(values.get("name", cls.model_fields["name"].default))
        return {
            **values,
            **{key: default for key, default in family.options.items() if values.get(key) is None},
        }

    @model_validator(mode="after")
    def _check(self) -> Self:
        family = MODELS.get(self.name)
        for option in ("width", "depth", "norm"):
            if getattr(self, option) is not None and option not in family.options:
                takes = ", ".join(family.options) or "no options"
                raise ValueError(f"model {self.name!r} takes no {option!r}; it takes {takes}")
        if self.initialisation is not None and not family.initialisation:
            able = ", ".join(name for name in MODELS.names() if MODELS.get(name).initialisation)
            raise ValueError(
                f"model {self.name!r} takes no `initialisation`: its source has one way to start; "
                f"leave it out, or take one of {able}"
            )
        return self

    @property
    def label(self) -> str:
        """A short name that tells architectures apart, such as ``convnet-w32``."""
        defaults = MODELS.get(self.name).options
        parts = [self.name]
        for option, letter in (
            ("width", "w"),
            ("depth", "d"),
            ("norm", ""),
            ("initialisation", ""),
        ):
            value = getattr(self, option)
            if value is not None and value != defaults.get(option):
                parts.append(f"{letter}{value}")
        return "-".join(parts)


def why_not(model: Model, size: int) -> str | None:
    """Say why a model cannot take images of this size, or return None if it can.

    Args:
        model: The model's settings.
        size: Height of the images in pixels.
    """
    family = MODELS.get(model.name)
    smallest = family.smallest(model)
    if size >= smallest:
        return None
    shallower = ", or lower the model's depth" if "depth" in family.options else ""
    return (
        f"model {model.label!r} takes images of at least {smallest}x{smallest} pixels and these "
        f"have {size}x{size}; set data.image_size to {smallest} or more, take another model"
        f"{shallower}"
    )
