"""The artefact store that a cell is given: of its own, or of the command that builds all anew."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from fedbench.bench.cells.runtime import Runtime
from fedbench.federation.artefacts import ArtefactStore


def store_of(runtime: Runtime, numerics: Mapping[str, str | int]) -> ArtefactStore:
    """Return the store for a cell that begins; it has waited for nobody yet.

    With ``refresh`` the cells of one command share a store in each process: what one of them has
    trained anew, the others take.

    Args:
        runtime: Where and how the cell runs.
        numerics: What changes bits: device type, GPU, precision, threads, torch's version.
    """
    root = runtime.home / "artefacts"
    if not runtime.refresh:
        return ArtefactStore(root, numerics)
    store = _renewing(runtime.command, root, tuple(sorted(numerics.items())))
    store.waited = 0.0
    return store


# The process of a sweep has one command and few kinds of numerics; a notebook has many commands.
@lru_cache(maxsize=8)
def _renewing(
    command: str, root: Path, numerics: tuple[tuple[str, str | int], ...]
) -> ArtefactStore:
    return ArtefactStore(root, dict(numerics), refresh=True)
