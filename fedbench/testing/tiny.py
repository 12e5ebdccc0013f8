"""The cell that properties run, and what all of them share."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest

from fedbench.plugins import load_plugin

#: A cell of a second or two, on data that needs no download.
TINY: Mapping[str, Any] = {
    "data": {"name": "digits", "train_size": 120, "test_size": 60},
    "partition": {"scheme": "iid", "clients": 3},
    "models": {"name": "convnet", "width": 4, "depth": 2},
    "recipe": {"epochs": 1, "batch_size": 16},
    "student": {"epochs": 2, "batch_size": 16},
    "evaluation": {"curve_size": 30},
}


class Properties:
    """What the properties of every kind have.

    Attributes:
        plugin: The file that brings the thing, from the folder of the test, or an installed
            module; None for what is built in or declared by an entry point.
    """

    plugin: ClassVar[str | None] = None

    @pytest.fixture(autouse=True)
    def _plugin(self) -> None:
        """Load the plugin: other tests of the process may have cleared the tables."""
        if self.plugin is None:
            return
        target = self.plugin
        load_plugin(str(self._beside(target)) if target.endswith(".py") else target)

    def _beside(self, name: str) -> Path:
        """Return a file that is named from the folder of the test."""
        return Path(inspect.getfile(type(self))).parent / name


def broken(rule: str, found: str, fix: str) -> NoReturn:
    """Fail a test.

    Args:
        rule: The property that does not hold.
        found: What was found, with its values.
        fix: What to do.
    """
    pytest.fail(f"{rule}: {found}; {fix}", pytrace=False)


def hold(held: bool, rule: str, found: str, fix: str) -> None:
    """Fail a test unless a property holds (see ``broken``)."""
    if not held:
        broken(rule, found, fix)
