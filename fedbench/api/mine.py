"""Methods and more of your own, from a file or typed into a session."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TypeVar, overload

from fedbench.errors import SettingsError
from fedbench.federation.method import Method
from fedbench.methods import METHODS
from fedbench.plugins import load_plugin

M = TypeVar("M", bound=type[Method])


@overload
def register(thing: M) -> M: ...
@overload
def register(thing: str | Path) -> list[str]: ...


def register(thing: M | str | Path) -> M | list[str]:
    """Make a method known, so that ``run`` takes its name. May be used as a decorator.

    A class that is typed into a notebook is hashed by its source, as a plugin's file is: edited and
    registered again, it is another method whose cells are computed again.

    Args:
        thing: A subclass of ``Method`` with a ``name``; or a Python file or module with methods,
            data sets, models, schemes, pictures or kinds of resources.

    Returns:
        The class; or the kinds and names of what a file brings.

    Raises:
        SettingsError: The name is taken, the class has none, or its source cannot be read.
    """
    if isinstance(thing, str | Path):
        return load_plugin(str(thing))
    if not (isinstance(thing, type) and issubclass(thing, Method) and "name" in vars(thing)):
        raise SettingsError(
            f"{thing!r} is no subclass of fedbench.Method with a `name` of its own; "
            "give one, or a Python file"
        )
    try:
        source = inspect.getsource(thing)
    except (OSError, TypeError) as error:
        raise SettingsError(
            f"the source of {thing.__name__} cannot be read ({error}), so an edited one could not "
            "be told from this; put it into a file and register that"
        ) from error
    METHODS.define(thing.name, thing, source)
    return thing
