"""Lightning at two thirds of its time: torchmetrics gathers its names when somebody asks for them.

Lightning uses two classes of torchmetrics. That package's ``__init__`` files gather some hundred
metrics more, and with them torchvision's operators, scipy's signals and statistics: 3 of the 13
seconds that importing Lightning takes. Nothing else of fedbench uses them.

What is put off is the running of three ``__init__`` files, as ``importlib.util.LazyLoader`` of the
standard library puts off whole modules; that one cannot serve, because it runs a package as soon as
a module inside is imported. Modules inside are imported as ever, and are the same objects. The
first name that is not at hand runs the file in its place, and from then on nothing is different:
``torchmetrics.Accuracy``, ``from torchmetrics import *`` and ``dir`` after that give what they
always gave. Whoever has imported torchmetrics before fedbench is not touched, and neither is any
version but the tested one.
"""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

#: The version of torchmetrics of which each module was imported on its own in the tests.
TESTED = "1.9.0"

# Packages, and the modules that define those of their names which can be had at once.
_PACKAGES: Mapping[str, Mapping[str, str]] = {
    "torchmetrics": {
        "Metric": "torchmetrics.metric",
        "MetricCollection": "torchmetrics.collections",
    },
    "torchmetrics.functional": {},
    "torchmetrics.functional.classification": {
        "multiclass_calibration_error": "torchmetrics.functional.classification.calibration_error",
    },
}


def gather_late() -> None:
    """Put off the gathering of torchmetrics' names in this process; a second call does nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Import torch and Lightning in the block a tenth faster, for programs that are about to train.

    Importing makes a million objects that stay, through which Python's collector goes again and
    again. It rests in the block. Freezing them afterwards would save one pass more, but then some
    compiled libraries report leaks when the process ends.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Finder(MetaPathFinder):
    """Finds the packages of the list where Python finds them, and gives them another loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # A target is there when a module is loaded again: then all of it is wanted.
        if name not in _PACKAGES or target is not None or not _is_tested():
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Later(spec.loader, _PACKAGES[name])
        return spec


class _Later(Loader):
    """Runs a package's file when a name is asked for that is not at hand.

    Args:
        loader: The package's own.
        elsewhere: Names that can be had without, and the modules that define them.
    """

    def __init__(self, loader: Loader, elsewhere: Mapping[str, str]) -> None:
        self._loader, self._elsewhere = loader, elsewhere
        self._lock, self._begun = threading.RLock(), False

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None  # every imported module has one
        module.__spec__.loader = module.__loader__ = self._loader
        vars(module)["__getattr__"] = self._getter(module)
        if module.__name__ == "torchmetrics":
            module.__version__ = TESTED  # type: ignore[attr-defined]
            module._logger = logging.getLogger("torchmetrics")  # type: ignore[attr-defined]
            # First of all, as in the file itself: `metric` cannot be imported before it.
            importlib.import_module("torchmetrics.utilities")

    def _getter(self, module: ModuleType) -> Callable[[str], object]:
        """Return the package's ``__getattr__`` (PEP 562)."""

        def getter(name: str) -> object:
            with self._lock:
                if name in vars(module):  # another thread has run the file meanwhile
                    return vars(module)[name]
                if self._begun:
                    raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
                if name in self._elsewhere:
                    return getattr(importlib.import_module(self._elsewhere[name]), name)
                self._begun = True
                try:
                    self._loader.exec_module(module)
                except BaseException:
                    self._begun = False
                    raise
            return getattr(module, name)

        return getter


@lru_cache(maxsize=1)
def _is_tested() -> bool:
    try:
        return version("torchmetrics") == TESTED
    except PackageNotFoundError:
        return False
