"""A list of named tensors that grows on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import safetensors.torch
from torch import Tensor

from fedbench.federation.shelf import Ref, Shelf


class Trail:
    """Sets of named tensors, each written once and mapped into memory when it is read.

    It survives a kill where a series of stages keeps it (see ``Work.stages``). Obtained from
    ``Work.trail``.

    Args:
        shelf: Where the files are.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf, self._refs = shelf, list[Ref]()

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        """Return what was appended at a place, on the CPU; do not write into it."""
        return safetensors.torch.load_file(self._shelf.path(self._refs[place]))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield everything in its order."""
        return (self[place] for place in range(len(self)))

    def append(self, tensors: Mapping[str, Tensor]) -> None:
        """Write named tensors of any shape and element type.

        Args:
            tensors: Copied.
        """
        plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        self._refs.append(self._shelf.put_tensors(plain))

    def drop(self, count: int) -> None:
        """Forget the first ones.

        Args:
            count: How many, at most all.
        """
        self._shelf.discard(self._refs[:count])
        del self._refs[:count]

    @property
    def refs(self) -> tuple[Ref, ...]:
        """Its files in their order."""
        return tuple(self._refs)

    def restore(self, refs: Sequence[Ref]) -> None:
        """Become what the journal says.

        Args:
            refs: Verified files.
        """
        self._refs = list(refs)
