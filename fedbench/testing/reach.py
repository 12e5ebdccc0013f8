"""What code can reach from an object, and which images are among it.

Reach is what Python allows without looking objects up in the interpreter: attributes (private ones
too), items, closures, defaults, bound objects, frames of generators, weak references, and the
memory behind views. Modules, classes and the globals of functions are not followed: they hold no
cell's data.
"""

from __future__ import annotations

import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial

import numpy as np
import torch

_LEAVES = (str, int, float, complex, bool, type(None), type, types.ModuleType, torch.Generator)
#: What some built-in types hold.
_HELD = {types.MethodType: ("__self__", "__func__"), partial: ("func", "args", "keywords")}


def reachable(root: object, doors: tuple[type, ...] = ()) -> Iterator[tuple[str, object]]:
    """Yield every object in reach with the way to it, such as ``._context.pool``; each once.

    Args:
        root: Where to begin.
        doors: Classes whose bound methods are not followed: calling one is allowed, looking behind
            it is not. An object of such a class that is in reach itself is followed.
    """
    seen: dict[int, object] = {}  # keeps what it has seen, so that no id is given twice
    left = deque([("", root)])
    while left:
        way, thing = left.popleft()
        if type(thing) in weakref.ProxyTypes or isinstance(thing, _LEAVES) or id(thing) in seen:
            continue
        seen[id(thing)] = thing
        yield way, thing
        if isinstance(thing, types.MethodType) and isinstance(thing.__self__, doors):
            continue
        left.extend((way + step, part) for step, part in _parts(thing))


def _parts(thing: object) -> Iterator[tuple[str, object]]:
    """Yield what an object holds, and the step to it."""
    if isinstance(thing, Mapping):
        for key, value in list(thing.items()):
            yield f"[{key!r}]", value
            yield f".key({key!r})", key
    elif isinstance(thing, list | tuple | set | frozenset | deque):
        yield from ((f"[{number}]", item) for number, item in enumerate(thing))
    elif isinstance(thing, types.FunctionType):
        yield from _held_by_function(thing)
    elif isinstance(thing, types.GeneratorType) and thing.gi_frame is not None:
        yield ".locals", dict(thing.gi_frame.f_locals)
    elif isinstance(thing, weakref.ref):
        yield "()", thing()
    for name in _HELD.get(type(thing), ()):
        yield f".{name}", getattr(thing, name)
    yield from _attributes(thing)


def _held_by_function(thing: types.FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
        with suppress(ValueError):  # not assigned yet
            yield f"<{name}>", cell.cell_contents
    yield ".__defaults__", thing.__defaults__
    yield ".__kwdefaults__", thing.__kwdefaults__


def _attributes(thing: object) -> Iterator[tuple[str, object]]:
    """Yield the attributes in an object's dictionary and slots, and a tensor's gradient."""
    if isinstance(thing, torch.Tensor) and thing.is_leaf:
        yield ".grad", thing.grad
    for kind in type(thing).__mro__:
        names = kind.__dict__.get("__slots__", ())
        for name in [names] if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__") and hasattr(thing, name):
                yield f".{name}", getattr(thing, name)
    held = getattr(thing, "__dict__", None)
    if isinstance(held, dict):
        yield from ((f".{name}", value) for name, value in list(held.items()))


class Gallery:
    """Images that are looked for, whatever form they have taken.

    Args:
        images: (N, C, S, S) uint8.
        mean: Of the normalisation that networks see them in, one value a channel.
        std: Likewise.
    """

    def __init__(self, images: torch.Tensor, mean: Iterable[float], std: Iterable[float]) -> None:
        self._shape = images.shape[1:]
        self._mean, self._std = (torch.tensor([*each]).view(-1, 1, 1) for each in (mean, std))
        self.names = self.names_of(images)

    def names_of(self, images: torch.Tensor) -> frozenset[bytes]:
        """Return the names of (N, C, S, S) uint8 images: their pixels."""
        rows = images.cpu().contiguous().flatten(1).numpy()
        return frozenset(row.tobytes() for row in rows)

    def within(self, thing: object) -> frozenset[bytes]:
        """Return the names of the images that a tensor, an array or bytes hold.

        As pixels; as floats in [0, 1], in [0, 255] or normalised; or as bytes inside others. A
        view holds all the memory that it looks into.
        """
        if isinstance(thing, bytes | bytearray):
            return frozenset(name for name in self.names if name in thing)
        if isinstance(thing, np.ndarray) and thing.dtype.kind in "uif":
            thing = torch.from_numpy(np.ascontiguousarray(thing))
        if not isinstance(thing, torch.Tensor) or thing.layout != torch.strided:
            return frozenset()
        tensor = thing.detach().cpu()
        memory = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        return self._among(tensor.reshape(-1)) | self._among(memory)

    def _among(self, values: torch.Tensor) -> frozenset[bytes]:
        size = self._shape.numel()
        rows = values[: len(values) // size * size].view(-1, *self._shape)
        if not len(rows):
            return frozenset()
        if not rows.is_floating_point():
            return self.names & self.names_of(rows.clamp(0, 255).to(torch.uint8))
        coarse = rows.dtype in (torch.float16, torch.bfloat16)
        rows = rows.float()
        found = frozenset[bytes]()
        for pixels in (rows, rows * 255, (rows * self._std + self._mean) * 255):
            near = (pixels - pixels.round()).abs().amax(dim=(1, 2, 3)) < (0.5 if coarse else 0.01)
            fits = near & (pixels.round() >= 0).all(3).all(2).all(1)
            fits &= (pixels.round() <= 255).all(3).all(2).all(1)
            found |= self.names & self.names_of(pixels[fits].round().to(torch.uint8))
        return found

    def in_reach(self, root: object, doors: tuple[type, ...] = ()) -> dict[bytes, str]:
        """Return the images in reach of an object, each with a way to it (see ``reachable``)."""
        found: dict[bytes, str] = {}
        for way, thing in reachable(root, doors):
            for name in self.within(thing):
                found.setdefault(name, way)
        return found
