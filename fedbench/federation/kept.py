"""What stages keep, in the form in which it is written: plain values and tensors on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from fedbench.data.epochs import Epochs
from fedbench.errors import FedbenchError

#: What is written with the stage itself.
Plain = nn.Module | torch.Generator | Epochs[Any] | dict[str, Any] | list[Any]


def pack(thing: Plain, name: str) -> object:
    """Return what ``torch.load`` reads back without running code.

    Args:
        thing: A module, a generator, a stream of epochs, a dictionary or a list.
        name: What it is called, for errors.

    Raises:
        FedbenchError: It holds something that cannot be kept.
    """
    if isinstance(thing, nn.Module):
        return _pack_module(thing)
    if isinstance(thing, Epochs):
        return thing.next_epoch
    return thing.get_state() if isinstance(thing, torch.Generator) else _pack_value(thing, name)


def unpack(thing: Plain, packed: object, device: torch.device) -> None:
    """Make a thing what it was when ``pack`` was called.

    Args:
        thing: Changed in place.
        packed: From ``pack``.
        device: For tensors that were on a device.

    Raises:
        TypeError: It was something else.
    """
    if isinstance(thing, nn.Module):
        _unpack_module(thing, cast("Mapping[str, Any]", packed), device)
        return
    if isinstance(thing, torch.Generator):
        thing.set_state(cast(Tensor, packed))
        return
    if isinstance(thing, Epochs):
        thing.set_epoch(int(cast(int, packed)))
        return
    value = _unpack_value(packed, device)
    if isinstance(thing, dict) and isinstance(value, dict):
        thing.clear()
        thing.update(value)
    elif isinstance(thing, list) and isinstance(value, list):
        thing[:] = value
    else:
        raise TypeError(f"it was a {type(value).__name__} and is a {type(thing).__name__}")


def _pack_module(module: nn.Module) -> dict[str, Any]:
    """Return weights and buffers, modes, and how far the module's optimisers have come."""
    from fedbench.training.trainer import past_state

    state = module.state_dict()
    return {
        "state": {key: value.detach().cpu() for key, value in state.items()},
        "there": any(value.device.type != "cpu" for value in state.values()),
        "modes": {name: part.training for name, part in module.named_modules()},
        "learns": {name: weight.requires_grad for name, weight in module.named_parameters()},
        "past": past_state(module),
    }


def _unpack_module(module: nn.Module, packed: Mapping[str, Any], device: torch.device) -> None:
    from fedbench.training.trainer import restore_past

    module.load_state_dict(packed["state"])
    if packed["there"]:
        module.to(device)
    for name, part in module.named_modules():
        part.training = packed["modes"][name]
    for name, weight in module.named_parameters():
        weight.requires_grad_(packed["learns"][name])
    restore_past(module, packed["past"])


def _pack_value(value: object, name: str) -> tuple[object, ...]:
    if isinstance(value, nn.Parameter):
        raise FedbenchError(f"keep[{name!r}] holds a parameter; keep the module that it belongs to")
    if isinstance(value, Tensor):
        # An image that is optimised has to be one after a kill as well.
        learns = value.requires_grad and value.is_leaf
        return "tensor", value.detach().cpu().clone(), value.device.type != "cpu", learns
    if isinstance(value, dict):
        for key in value:
            _pack_value(key, name)
        return "dict", {key: _pack_value(each, name) for key, each in value.items()}
    if isinstance(value, list):
        return "list", [_pack_value(each, name) for each in value]
    # Exactly these: NumPy's float64 is a `float`, and is not read back.
    if value is None or type(value) in (str, int, float, bool):
        return "value", value
    raise FedbenchError(
        f"keep[{name!r}] holds a {type(value).__name__}, which a kill would lose; keep modules, "
        "generators, streams, trails, and dictionaries and lists of tensors, texts, truth values "
        "and plain numbers (float(x), int(x))"
    )


def _unpack_value(packed: object, device: torch.device) -> object:
    match packed:
        case ("tensor", Tensor() as value, there, learns):
            value = value.to(device) if there else value
            return value.requires_grad_() if learns else value
        case ("dict", dict() as items):
            return {key: _unpack_value(each, device) for key, each in items.items()}
        case ("list", list() as values):
            return [_unpack_value(each, device) for each in values]
        case (_, plain):
            return plain
    raise AssertionError(packed)
