"""Tensors that behave as if they were on a GPU, for machines without one.

A ``Far`` tensor holds its values on the CPU and says that it is on ``cuda:0``. Torch computes with
what it holds, and refuses what a GPU refuses: operands on two devices, a CPU generator for numbers
that are drawn on the GPU, memory that is read from the wrong side. So the very code of a cell runs
from end to end, its ``device.type`` branches included, and a tensor that was left on the other side
is found. Nothing is learnt of CUDA's kernels, its precision, its memory, or of autocast.
"""

from __future__ import annotations

import contextlib

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda:0")
#: Operations that take tensors of both sides: copies, and indices that a GPU fetches by itself.
_COPIES = {"aten::copy_", "aten::_to_copy"}
_INDEXED = {"aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}


class Far(torch.Tensor):
    """A tensor that says it is on the GPU."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near):
        # To torch's own engine it is on the CPU, because one of a GPU would look for its streams.
        return torch.Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device="cpu",
        )

    def __init__(self, near):
        self.near = near

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __repr__(self):
        return f"Far({self.near})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        _check(func, args, kwargs)
        given = tree_map(_held, args)
        out = func(*given, **tree_map(_held, kwargs))
        schema = func._schema
        if schema.returns and any(
            each.alias_info and each.alias_info.is_write for each in schema.returns
        ):
            written = kwargs.get("out", args[0] if args else None)
            return written if isinstance(out, torch.Tensor) else tree_map(_wrapped, out)
        return tree_map(_wrapped, out)


def _held(value):
    return value.near if isinstance(value, Far) else value


def _wrapped(value):
    return Far(value) if isinstance(value, torch.Tensor) and not isinstance(value, Far) else value


def _check(func, args, kwargs):
    """Refuse what a GPU refuses."""
    name = func._schema.name
    if name in _COPIES:
        return
    values = [value for value in tree_flatten((args, kwargs))[0] if value is not None]
    for value in values:
        _check_source(name, value)
    if torch._C._current_graph_task_id() != -1:
        return  # tensors of its own that the engine makes on the way back are on neither side
    if name in _INDEXED and isinstance(args[0], Far):
        values = [args[0], *args[2:3]]
    near = [
        value
        for value in values
        if isinstance(value, torch.Tensor)
        and not isinstance(value, Far)
        # A number may be on the CPU where numbers are mixed with tensors, element by element.
        and not (value.ndim == 0 and (torch.Tag.pointwise in func.tags or name == "aten::fill_"))
    ]
    if near:
        raise RuntimeError(
            f"{name}: expected all tensors to be on the same device, and found one of shape "
            f"{tuple(near[0].shape)} on the cpu beside {GPU}"
        )


def _check_source(name, value):
    if isinstance(value, torch.Generator) and value.device.type == "cpu":
        raise RuntimeError(f"{name}: expected a 'cuda' generator and got a 'cpu' one")


class _Moves(TorchFunctionMode):
    """Takes tensors to the GPU and back: what the engine knows nothing of."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        first = args[0] if args else None
        if func in (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda):
            return _moved(name, first, args[1:], kwargs)
        if func is torch.Tensor.data.__get__ and isinstance(first, Far):
            return Far(first.near)
        if func is torch.Tensor.data.__set__ and isinstance(first, Far):
            first.near = args[1].near
            return None
        if func in (torch.Tensor.numpy, torch.Tensor.data_ptr) and isinstance(first, Far):
            raise TypeError(f"cannot read a {GPU} tensor's memory; use Tensor.cpu() first")
        if func is torch.Tensor.tolist and isinstance(first, Far):
            return first.near.tolist()
        if func is torch.nn.functional.one_hot and isinstance(first, Far):
            # Made of others inside the engine, which puts its numbers on the wrong side.
            return Far(func(first.near, *args[1:], **kwargs))
        asked = kwargs.get("device")
        if asked is not None and torch.device(asked).type == "cuda":
            _check_source(name, kwargs.get("generator"))
            made = func(*args, **{**kwargs, "device": None if isinstance(first, Far) else "cpu"})
            return _wrapped(made)
        return func(*args, **kwargs)


def _moved(name, tensor, args, kwargs):
    target = GPU if name == "cuda" else torch.device("cpu") if name == "cpu" else None
    types = {}
    for value in [*args, *kwargs.values()]:
        if isinstance(value, torch.Tensor):
            target, types = value.device, {"dtype": value.dtype}
        elif isinstance(value, torch.dtype):
            types = {"dtype": value}
        elif isinstance(value, str | torch.device):
            target = torch.device(value)
    if (layout := kwargs.get("memory_format")) is not None:
        types["memory_format"] = layout
    target = tensor.device if target is None else target
    if target.type == tensor.device.type:
        return torch.Tensor.to(tensor, **types) if types else tensor
    if tensor.requires_grad and torch.is_grad_enabled():
        raise NotImplementedError("a move through which gradients pass")
    values = tensor.near if isinstance(tensor, Far) else tensor.detach()
    values = values.to(**types).clone()
    return values if target.type == "cpu" else Far(values)


class _Autocast(torch.autocast):
    """Autocast of the side that really computes; whoever names the wrong one gets none at all."""

    def __init__(self, device_type, *args, **kwargs):
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


@contextlib.contextmanager
def pretended(monkeypatch):
    """Pretend inside the block that this machine has one GPU."""
    generator = torch.Generator()
    for name, answer in {
        "device_count": 1,
        "current_device": 0,
        "set_device": None,
        "empty_cache": None,
        "synchronize": None,
        "get_device_name": "a pretended GPU",
        "get_device_capability": (9, 0),
        "reset_peak_memory_stats": None,
        "max_memory_allocated": 1,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(torch.cuda, "default_generators", (generator,))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch, "autocast", _Autocast)
    # A module's weights become others' memory in place, as on a GPU: whoever holds one sees it.
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with _Moves():
            yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
