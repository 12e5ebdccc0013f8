"""What third parties bring with ``--plugin FILE_OR_MODULE``.

A plugin says nothing but what it defines: methods and resource kinds are its classes that have a
``name``, and data sets, model families, partition schemes and pictures are values of those types
at the top of the module. What it imports from elsewhere is not its own and is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from fedbench.data.pictures import PICTURES, Picture
from fedbench.data.schemes import SCHEMES, Scheme
from fedbench.data.specs import DATASETS, DatasetSpec
from fedbench.errors import SettingsError
from fedbench.federation.method import Method
from fedbench.federation.resources import RESOURCES, ResourceKind
from fedbench.methods import METHODS
from fedbench.models.families import MODELS, Family
from fedbench.registry import Registry, import_plugin


@dataclass(frozen=True)
class _Kind:
    """One kind of thing that a plugin may bring.

    Attributes:
        table: Where its things are registered; a table of anything, since kinds differ.
        type: What they are: the type of values, or the base of classes.
        classes: Whether they are classes.
    """

    table: Registry[Any]
    type: type
    classes: bool = False

    def found(self, module: ModuleType) -> Iterator[tuple[str, object]]:
        """Yield what a module brings of it, by name."""
        for thing in vars(module).values():
            if self._is_own(thing, module):
                yield thing.name, thing

    def _is_own(self, thing: object, module: ModuleType) -> bool:
        if not self.classes:
            brought = isinstance(thing, self.type)
            return brought and not self.table.brought_by_others(thing, module)
        if not isinstance(thing, type) or not issubclass(thing, self.type):
            return False
        return thing.__module__ == module.__name__ and "name" in vars(thing)


_KINDS = (
    _Kind(METHODS, Method, classes=True),
    _Kind(RESOURCES, ResourceKind, classes=True),
    _Kind(DATASETS, DatasetSpec),
    _Kind(MODELS, Family),
    _Kind(SCHEMES, Scheme),
    _Kind(PICTURES, Picture),
)


def load_plugin(target: str) -> list[str]:
    """Import a file or module and register what it defines.

    Args:
        target: A path that ends in ``.py``, or a module's dotted name.

    Returns:
        The kinds and names of what it brings, such as ``method fedsum``.

    Raises:
        SettingsError: The target does not exist, cannot be imported, defines nothing or takes a
            name that is taken.
    """
    module = import_plugin(target)
    brought = []
    for kind in _KINDS:
        for name, thing in kind.found(module):
            try:
                kind.table.add(name, thing, by=module)
            except SettingsError as error:
                raise SettingsError(f"plugin {target}: {error}") from error
            brought.append(f"{kind.table.kind} {name}")
    if not brought:
        raise SettingsError(
            f"plugin {target} defines nothing: it needs a class derived from Method or "
            "ResourceKind that has a `name`, or a DatasetSpec, Family, Scheme or Picture at the "
            "top of the module (docs/plugins.md)"
        )
    return list(dict.fromkeys(brought))
