"""Names to things: methods, data sets, model families, partition schemes.

Built-in things are found by name without importing them all: a table maps names to
``module:attribute``, and each file of ``fedbench/methods/`` is the method of its own name. Third
parties add theirs by the entry-point groups ``fedbench.methods`` and ``fedbench.datasets``, or
with ``--plugin FILE_OR_MODULE``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from fedbench.errors import SettingsError, did_you_mean

if TYPE_CHECKING:
    from fedbench.data.schemes import Scheme
    from fedbench.data.specs import DatasetSpec
    from fedbench.federation.method import Method
    from fedbench.models.families import Family

T = TypeVar("T")

_PLUGIN = "fedbench_plugin_"


class Registry(Generic[T]):
    """Names of one kind of thing, each resolved when it is first asked for.

    Args:
        kind: What the things are called in errors, such as ``"data set"``.
        group: The entry-point group of third parties.
        targets: Built-in names and where they are: ``module:attribute``.
    """

    def __init__(self, kind: str, group: str, targets: dict[str, str] | None = None) -> None:
        self.kind, self.group = kind, group
        self._targets = dict(targets or {})
        self._loaded: dict[str, T] = {}
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
            self._loaded[name] = cast(
                T, getattr(found, attribute) if attribute else _method_of(found, name)
            )
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
            if point.name in self._targets:
                raise SettingsError(
                    f"the entry point {point.name!r} of {point.value} takes the "
                    f"name of a built-in {self.kind}; rename it"
                )
            self._targets[point.name] = point.value


def _built_in_methods() -> dict[str, str]:
    folder = Path(__file__).parent / "methods"
    return {
        module.name: f"fedbench.methods.{module.name}"
        for module in pkgutil.iter_modules([str(folder)])
    }


_SCHEMES = (
    "iid",
    "dirichlet",
    "dirichlet_capped",
    "dirichlet_per_client",
    "dirichlet_groups",
    "floor_per_class",
    "shards_window",
    "shards_fixed",
    "classes_exact",
    "classes_round_robin",
    "half_iid_half_class",
    "disjoint_classes",
)
_DATASETS = (
    "digits",
    "mnist",
    "fashion_mnist",
    "cifar10",
    "cifar100",
    "svhn",
    "nsl_kdd",
    "nidd_5g",
    "folder",
)
_MODELS = (
    "convnet",
    "dense_cnn",
    "resnet8",
    "resnet20",
    "resnet18",
    "wrn16_4",
    "mobilenet_v2",
    "shufflenet_v2",
    "vgg11",
    "vgg16",
)

METHODS: Registry[type[Method]] = Registry("method", "fedbench.methods", _built_in_methods())
DATASETS: Registry[DatasetSpec] = Registry(
    "data set", "fedbench.datasets", {n: f"fedbench.data.specs:{n.upper()}" for n in _DATASETS}
)
MODELS: Registry[Family] = Registry(
    "model", "fedbench.models", {n: f"fedbench.models.families:{n.upper()}" for n in _MODELS}
)
SCHEMES: Registry[Scheme] = Registry(
    "partition scheme",
    "fedbench.schemes",
    {n: f"fedbench.data.schemes:{n.upper()}" for n in _SCHEMES},
)


def load_plugin(target: str) -> list[str]:
    """Import a file or module and register the methods that it defines.

    Args:
        target: A path that ends in ``.py``, or a module's dotted name.

    Returns:
        The names of the methods that were registered.

    Raises:
        SettingsError: The target does not exist or defines no method.
    """
    module = _import_file(Path(target)) if target.endswith(".py") else _import_module(target)
    found = _methods_in(module)
    if not found:
        raise SettingsError(
            f"{target} defines no method: it needs a class that derives from "
            "fedbench.federation.method.Method and has a `name`"
        )
    for name, method in found.items():
        METHODS.add(name, method)
    return list(found)


def _method_of(module: ModuleType, name: str) -> type[Method]:
    """Return the method that a file of ``fedbench/methods/`` is named after."""
    found = _methods_in(module)
    if name not in found:
        raise SettingsError(
            f"{module.__file__} defines {', '.join(found) or 'no method'}; a method's file has "
            f"its name, so name the class {name!r} or rename the file"
        )
    return found[name]


def plugin_digest(thing: type) -> str | None:
    """Return the SHA-256 of the plugin file that defines a class, or None for installed code.

    An edited plugin is another method: its cells are computed again.
    """
    if not thing.__module__.startswith(_PLUGIN):
        return None
    source = sys.modules[thing.__module__].__file__
    return hashlib.sha256(Path(str(source)).read_bytes()).hexdigest()


def _methods_in(module: ModuleType) -> dict[str, type[Method]]:
    """Return the methods that a module itself defines, by name."""
    from fedbench.federation.method import Method

    return {
        thing.name: thing
        for thing in vars(module).values()
        if isinstance(thing, type)
        and issubclass(thing, Method)
        and thing.__module__ == module.__name__
        and "name" in vars(thing)
    }


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


def describe(thing: object) -> str:
    """Return the first line of a thing's docstring."""
    return (thing.__doc__ or "").strip().partition("\n")[0]
