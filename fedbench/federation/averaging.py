"""Weighted averages of models, buffers included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from fedbench.errors import ModelError


def average(states: Iterable[tuple[Mapping[str, Tensor], float]]) -> dict[str, Tensor]:
    """Average state dictionaries, reading them once and holding one sum.

    Args:
        states: Pairs of a state dictionary and its weight, which is above 0. All have the same
            names and shapes.

    Returns:
        The weighted mean of every entry. Sums are kept in float64; entries keep their element
        type, and integers (``num_batches_tracked``) are rounded.

    Raises:
        ModelError: There is no state, or two of them differ in names or shapes.
    """
    sums: dict[str, Tensor] = {}
    types: dict[str, torch.dtype] = {}
    total = 0.0
    for state, weight in states:
        if not sums:
            sums = {
                name: torch.zeros(value.shape, dtype=torch.float64) for name, value in state.items()
            }
            types = {name: value.dtype for name, value in state.items()}
        if state.keys() != sums.keys():
            odd = sorted(state.keys() ^ sums.keys())[0]
            raise ModelError(
                f"models of two architectures cannot be averaged: {odd!r} is in one "
                "of them only; give all clients one architecture"
            )
        for name, value in state.items():
            if value.shape != sums[name].shape:
                raise ModelError(
                    f"models of two architectures cannot be averaged: {name!r} has "
                    f"shapes {tuple(value.shape)} and {tuple(sums[name].shape)}"
                )
            sums[name].add_(value.cpu(), alpha=weight)
        total += weight
    if not sums:
        raise ModelError("no model arrived, so there is nothing to average")
    return {name: _as_type(value / total, types[name]) for name, value in sums.items()}


def _as_type(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if dtype.is_floating_point else value.round().to(dtype)
