"""fedbench: federated learning that shares knowledge as data, measured on equal terms.

``docs/python.md`` has the names below; each is imported when it is first used.
"""

import importlib

from fedbench.imports import gather_late

__version__ = "0.1.0"

#: Public names, and where they are.
_PLACES = {
    "run": "fedbench.api.running",
    "cell": "fedbench.api.running",
    "sweep": "fedbench.api.running",
    "CellError": "fedbench.api.running",
    "load": "fedbench.api.board",
    "Board": "fedbench.api.board",
    "Drawing": "fedbench.api.board",
    "load_set": "fedbench.api.sets",
    "SharedSet": "fedbench.api.sets",
    "register": "fedbench.api.mine",
    "Method": "fedbench.federation.method",
    "Record": "fedbench.bench.records.record",
    "FedbenchError": "fedbench.errors",
    "SettingsError": "fedbench.errors",
}

__all__ = ["__version__", *_PLACES]

gather_late()  # before any of our modules imports Lightning


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'fedbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
