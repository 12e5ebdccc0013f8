"""Names to things of one kind, whatever the kind is, and the files that third parties bring.

Each package keeps the table of its own things: ``data`` its data sets and partition schemes,
``models`` its families; that of the methods is in ``config``. Third parties add theirs by the
table's entry-point group, or with ``--plugin FILE_OR_MODULE`` (see ``fedbench.plugins``).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar, cast

from fedbench.errors import SettingsError, did_you_mean

T = TypeVar("T")

_PLUGIN = "fedbench_plugin_"


class Registry(Generic[T]):
    """Names of one kind of thing. What is not at hand is imported when it is first asked for.

    Args:
        kind: What the things are called in errors, such as ``"data set"``.
        group: The entry-point group of third parties.
        things: Built-in things by name.
        targets: Built-in names and where their things are: ``module:attribute``, or ``module``.
        pick: Finds the thing of a name in a module, for targets without an attribute.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        things: Mapping[str, T] | None = None,
        *,
        targets: Mapping[str, str] | None = None,
        pick: Callable[[ModuleType, str], T] | None = None,
    ) -> None:
        self.kind, self.group = kind, group
        self._loaded: dict[str, T] = dict(things or {})
        self._targets = dict(targets or {})
        self._pick = pick
        self._scanned = False

    def names(self) -> list[str]:
        """Return all known names, sorted."""
        self._scan()
        return sorted({*self._targets, *self._loaded})

    def get(self, name: str) -> T:
        """Return the thing of that name.

        Raises:
            SettingsError: No such name; the message has the nearest one and the list.
        """
        self._scan()
        if name not in self._loaded:
            if name not in self._targets:
                raise SettingsError(
                    f"there is no {self.kind} {name!r}"
                    f"{did_you_mean(name, self.names())}; "
                    f"known: {', '.join(self.names())}"
                )
            module, _, attribute = self._targets[name].partition(":")
            found = importlib.import_module(module)
            if attribute or self._pick is None:
                self._loaded[name] = cast(T, getattr(found, attribute or name))
            else:
                self._loaded[name] = self._pick(found, name)
        return self._loaded[name]

    def add(self, name: str, thing: T) -> None:
        """Register a thing under a new name.

        Raises:
            SettingsError: Another thing has that name already.
        """
        self._scan()
        if self._loaded.get(name) is thing:
            return
        if name in self.names():
            raise SettingsError(f"there is a {self.kind} {name!r} already; rename yours")
        self._loaded[name] = thing

    def _scan(self) -> None:
        """Add what other distributions declare, once."""
        if self._scanned:
            return
        self._scanned = True
        for point in entry_points(group=self.group):
            if point.name in self._targets or point.name in self._loaded:
                raise SettingsError(
                    f"the entry point {point.name!r} of {point.value} takes the "
                    f"name of a built-in {self.kind}; rename it"
                )
            self._targets[point.name] = point.value


def import_plugin(target: str) -> ModuleType:
    """Import a third party's code.

    Args:
        target: A path that ends in ``.py``, or a module's dotted name.

    Raises:
        SettingsError: There is no such file or module.
    """
    return _import_file(Path(target)) if target.endswith(".py") else _import_module(target)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SettingsError(f"there is no plugin file {path}")
    name = f"{_PLUGIN}{path.stem}"
    if name in sys.modules and sys.modules[name].__file__ == str(path.resolve()):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise SettingsError(f"{path} cannot be imported as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"there is no plugin module {name!r}: {error}; give a path that ends "
            "in .py or install the module"
        ) from error


def plugin_digest(thing: object) -> str | None:
    """Return the SHA-256 of the plugin file that defines a class, or None for installed code.

    An edited plugin is another method: its cells are computed again.
    """
    if not thing.__module__.startswith(_PLUGIN):
        return None
    source = sys.modules[thing.__module__].__file__
    return hashlib.sha256(Path(str(source)).read_bytes()).hexdigest()


def describe(thing: object) -> str:
    """Return the first line of a thing's docstring."""
    return (thing.__doc__ or "").strip().partition("\n")[0]
