"""Public resources: what belongs to no client, named in the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedbench.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Resource:
    """Something public that a method asks for by name.

    Attributes:
        name: Such as ``dataset:cifar100@500`` (see ``fedbench.bench.resources``).
        tensors: Its values: ``images`` (N, C, H, W) uint8 in the cell's size and channels with
            their ``labels`` (N,), or a ``picture`` (C, H, W) uint8.
        pixels: What has to be stored, in pixels; 0 where it is no image.
    """

    name: str
    tensors: Mapping[str, Tensor]
    pixels: int


def parse_name(name: str) -> tuple[str, str, int | None]:
    """Split ``KIND:WHICH@COUNT`` into its parts; WHICH may be empty, COUNT may be missing.

    Raises:
        SettingsError: What follows the ``@`` is no number.
    """
    head, at, count = name.rpartition("@")
    if at and not count.isdigit():
        raise SettingsError(f"resource {name!r}: {count!r} after the @ is no number")
    kind, _, which = (head if at else name).partition(":")
    return kind, which, int(count) if at else None
