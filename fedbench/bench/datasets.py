"""The data of cells, kept in memory from one cell of a process to the next; no Lightning here."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from fedbench.bench.lookup import data_sources
from fedbench.bench.runtime import Runtime
from fedbench.data.dataset import ImageData
from fedbench.data.load import load
from fedbench.data.settings import Data


def load_data(settings: Data, runtime: Runtime) -> ImageData:
    """Return a cell's data; the last ones used in this process are kept."""
    sources = data_sources(settings, runtime.data).digest
    return _load(
        settings, sources, runtime.data, runtime.home / "cache", runtime.offline, runtime.say
    )


@lru_cache(maxsize=4)
def _load(
    settings: Data, sources: str, root: Path, cache: Path, offline: bool, say: Callable[[str], None]
) -> ImageData:
    return load(settings, root=root, cache=cache, offline=offline, progress=say)
