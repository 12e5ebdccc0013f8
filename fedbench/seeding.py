"""Randomness by name: a root seed and a list of names give a seed, on every machine the same.

Methods share names (partition, initialisation, client 3, epoch 2), so two methods with one seed
see the same partition and the same client models. The global generators are touched only inside
``isolated``.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Name = str | int


def derive(root: int, *names: Name) -> int:
    """Derive a seed from a root seed and names.

    Args:
        root: The cell's seed.
        *names: What the randomness is for, such as ``"client", 3, "epoch", 2``. Integers and
            strings are told apart.

    Returns:
        An integer in [0, 2**63).
    """
    text = "\x1f".join(f"{type(name).__name__}:{name}" for name in (root, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(root: int, *names: Name) -> torch.Generator:
    """Return a CPU generator seeded by name (see ``derive``)."""
    import torch

    return torch.Generator().manual_seed(derive(root, *names))


def numpy_generator(root: int, *names: Name) -> np.random.Generator:
    """Return a NumPy generator seeded by name (see ``derive``)."""
    return np.random.default_rng(derive(root, *names))


@contextlib.contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch inside the block, then put them back.

    For library code that knows no generator argument, such as torch's layer initialisation and
    dropout.

    Args:
        seed: An integer in [0, 2**63), usually from ``derive``.
    """
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    # Only the current GPU: a cell computes on one, and a process that has not used any must not
    # begin to.
    awake = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpu = torch.cuda.current_device() if awake else None
    with torch.random.fork_rng(devices=[] if gpu is None else [gpu]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        # `torch.manual_seed` formats the call stack for CUDA's sake, which takes a millisecond.
        torch.default_generator.manual_seed(seed)
        if gpu is not None:
            torch.cuda.default_generators[gpu].manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
