"""Names to things of one kind, whatever the kind is, and the files that third parties bring.

Each package keeps the table of its own things: ``data`` its data sets and partition schemes,
``models`` its families; that of the methods is in ``config``. Third parties add theirs by the
table's entry-point group, or with ``--plugin FILE_OR_MODULE`` (see ``fedbench.plugins``).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar, cast

from fedbench.errors import SettingsError, did_you_mean

T = TypeVar("T")

log = logging.getLogger(__name__)

#: How the names of all entry-point groups begin.
GROUPS = "fedbench."
_PLUGIN = "fedbench_plugin_"
#: SHA-256 of every plugin file that this process has imported, by the name of its module.
_DIGESTS: dict[str, str] = {}
#: SHA-256 of the source of each class that was typed into a session.
_TYPED: dict[object, str] = {}


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
        self._brought: dict[str, str] = {}
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
            target = self._targets[name]
            if self._pick is not None and ":" not in target:
                self._loaded[name] = self._pick(importlib.import_module(target), name)
            else:
                self._loaded[name] = imported(target if ":" in target else f"{target}:{name}")
        return self._loaded[name]

    def add(self, name: str, thing: T, by: ModuleType | None = None) -> None:
        """Register a thing under a new name.

        Args:
            name: Nobody else's.
            thing: Is registered once, however often it is added.
            by: The plugin that brings it; by default the module of a class.

        Raises:
            SettingsError: Another thing has that name already.
        """
        if name in self.names():
            if self.get(name) is thing:
                return
            raise SettingsError(self._taken(name))
        self._loaded[name] = thing
        self._brought[name] = by.__name__ if by else str(getattr(thing, "__module__", ""))

    def define(self, name: str, thing: T, source: str) -> None:
        """Register a thing that was typed into a session, in the place of an earlier one.

        Args:
            name: Free, or that of another thing that was typed.
            thing: Such as a class.
            source: Its text, which identities hash as they hash a plugin's file.

        Raises:
            SettingsError: A thing that was not typed has that name.
        """
        if name in self.names() and self.get(name) not in _TYPED:
            raise SettingsError(self._taken(name))
        _TYPED[thing] = _sha256(source.encode())
        self._loaded[name] = thing

    def _taken(self, name: str) -> str:
        place = self._targets.get(name) or self._brought.get(name)
        of = f", of {place}" if place else ""
        return f"there is a {self.kind} {name!r} already{of}; rename yours"

    def brought_by_others(self, thing: object, module: ModuleType) -> bool:
        """Say whether a thing that a module shows is registered, and not by that module."""
        return any(
            known is thing and self._brought.get(name) != module.__name__
            for name, known in self._loaded.items()
        )

    def plugins(self, name: str) -> dict[str, str]:
        """Return the digest of the plugin file that brought a name, by kind and name; or nothing.

        Cells and caches hash it, so that an edited file is another thing. Installed code is known
        by the versions of its things.
        """
        digest = _DIGESTS.get(self._brought.get(name, ""))
        return {} if digest is None else {f"{self.kind} {name}": digest}

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


def imported(target: str | T) -> T:
    """Return a thing that is given as ``module:attribute``, or as it is.

    Args:
        target: A thing of one's own file is given as it is, for a plugin's module has no name that
            could be written down; one of an installed module as ``module:attribute``, so that the
            module is imported when it is needed and not before.

    Raises:
        SettingsError: There is no such module, or nothing of that name in it.
    """
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise SettingsError(
            f"{target!r} says not where something is; write it as 'module:name', or give the thing "
            "itself"
        )
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{target!r} cannot be imported: {error}; correct the name, or install the module"
        ) from error
    if not hasattr(found, attribute):
        raise SettingsError(
            f"{target!r} cannot be imported: {module} has no {attribute!r}"
            f"{did_you_mean(attribute, vars(found))}; correct the name"
        )
    return cast(T, getattr(found, attribute))


def import_plugin(target: str) -> ModuleType:
    """Import a third party's code.

    Args:
        target: A path that ends in ``.py``, or a module's dotted name.

    Raises:
        SettingsError: There is no such file or module, or it fails when it is imported.
    """
    return _import_file(Path(target)) if target.endswith(".py") else _import_module(target)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SettingsError(f"there is no plugin file {path}")
    place = path.resolve()
    # Files of one name in several folders are several modules, the same in every process.
    name = f"{_PLUGIN}{place.stem}_{_sha256(str(place).encode())[:12]}"
    source = place.read_bytes()
    if name in sys.modules:
        if _DIGESTS[name] != _sha256(source):
            log.warning("plugin %s was edited after it was imported; start anew to use it", path)
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{path} cannot be imported as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # What is hashed is what is run: compiled from the same bytes, from no stale bytecode.
        exec(compile(source, place, "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise SettingsError(_fault(path, place, error)) from error
    _DIGESTS[name] = _sha256(source)
    return module


def _fault(path: Path, place: Path, error: Exception) -> str:
    """Say what went wrong when a plugin was imported, and at which of its lines."""
    if isinstance(error, SyntaxError) and error.filename == str(place):
        return f"plugin {path}, line {error.lineno}: {error.msg}; mend the file"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(place)]
    where = f", line {lines[-1]}" if lines else ""
    return f"plugin {path}{where}: {type(error).__name__}: {error}; mend the file"


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"there is no plugin module {name!r}: {error}; give a path that ends "
            "in .py or install the module"
        ) from error


def plugin_digest(thing: object) -> str | None:
    """Return the SHA-256 of the plugin file that defines a class or function, or None for others.

    It is that of the file as it was imported. An edited plugin is another method: its cells are
    computed again. Installed code has a version instead.
    """
    return _TYPED.get(thing) or _DIGESTS.get(getattr(thing, "__module__", ""))


def is_typed(thing: object) -> bool:
    """Say whether a thing was typed into this session, so that no other process has it."""
    return thing in _TYPED


def loaded_digests() -> frozenset[str]:
    """Return the SHA-256 of every plugin file that this process has imported."""
    return frozenset(_DIGESTS.values())


def loaded_files() -> list[str]:
    """Return the full paths of the plugin files that this process has imported."""
    loaded = (sys.modules[name] for name in _DIGESTS if name in sys.modules)
    return sorted(str(module.__spec__.origin) for module in loaded if module.__spec__)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def describe(thing: object) -> str:
    """Return the first line of a thing's docstring."""
    return (thing.__doc__ or "").strip().partition("\n")[0]
