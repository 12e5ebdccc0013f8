"""What third parties bring with ``--plugin FILE_OR_MODULE``."""

from __future__ import annotations

from fedbench.config import methods_in
from fedbench.errors import SettingsError
from fedbench.federation.method import Method
from fedbench.methods import METHODS
from fedbench.registry import import_plugin


def load_plugin(target: str) -> list[str]:
    """Import a file or module and register the methods that it defines.

    Args:
        target: A path that ends in ``.py``, or a module's dotted name.

    Returns:
        The names of the methods that were registered.

    Raises:
        SettingsError: The target does not exist or defines no method.
    """
    defined = methods_in(import_plugin(target))
    found = {name: method for name, method in defined.items() if issubclass(method, Method)}
    if not found:
        raise SettingsError(
            f"{target} defines no method: it needs a class that derives from "
            "fedbench.federation.method.Method and has a `name`"
        )
    for name, method in found.items():
        METHODS.add(name, method)
    return list(found)
