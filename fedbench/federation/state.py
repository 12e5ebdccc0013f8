"""Named tensors that live side by side in one dictionary, told apart by how their names begin."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors with a prefix before their names."""
    return {f"{prefix}{name}": value for name, value in tensors.items()}
