"""The data of cells, kept in memory from one cell of a process to the next; no Lightning here."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from fedbench.bench.cells.lookup import data_digest
from fedbench.bench.cells.runtime import Runtime
from fedbench.data.dataset import ImageData
from fedbench.data.load import load
from fedbench.data.settings import Data
from fedbench.errors import DataError
from fedbench.federation.resources import Folders


def load_data(settings: Data, runtime: Runtime) -> ImageData:
    """Return a cell's data; the last ones used in this process are kept."""
    folders = Folders(runtime.data, runtime.home)
    sources = data_digest(settings, folders)
    return _load(settings, sources, folders, runtime.offline, runtime.say)


def client_data(settings: Data, runtime: Runtime) -> ImageData:
    """Return the data that clients learn to classify.

    Raises:
        DataError: There is one class only.
    """
    data = load_data(settings, runtime)
    if len(data.classes) < 2:
        where = settings.path or settings.name
        raise DataError(
            f"{where} holds one class, {data.classes[0]!r}, and a classifier needs two: images of "
            "each in a folder of their own, or rows of each in a table"
        )
    return data


@lru_cache(maxsize=4)
def _load(
    settings: Data, sources: str | None, folders: Folders, offline: bool, say: Callable[[str], None]
) -> ImageData:
    return load(settings, root=folders.data, cache=folders.cache, offline=offline, progress=say)
