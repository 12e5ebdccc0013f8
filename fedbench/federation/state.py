"""Named tensors that live side by side in one dictionary, told apart by how their names begin."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fedbench.errors import FedbenchError


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


def plain(state: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Return copies of a worker's tensors on the CPU, where nothing else has a hold on them.

    Args:
        state: By name.
        what: For errors, such as ``server.state``.

    Raises:
        FedbenchError: Something is no tensor.
    """
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise FedbenchError(
                f"{what}[{name!r}] is a {type(value).__name__}; only tensors "
                "outlive a call, so that a killed cell can resume"
            )
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
