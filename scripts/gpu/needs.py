"""What fedbench and its tests on a GPU need, as pyproject.toml has it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Needed by W&B's mirror alone, which no part of the lane uses.
UNUSED = ("wandb",)
#: What the tests under the marker ``cuda`` need.
TESTS = ("pytest>=8.2", "pytest-timeout>=2.3")


def requirements() -> list[str]:
    """Return requirements as pip takes them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [text for text in project["dependencies"] if name_of(text) not in UNUSED]
    return [*wanted, *TESTS]


def unmet() -> Iterator[tuple[str, str | None]]:
    """Yield the requirements that this Python does not meet, each with the version it has."""
    from packaging.requirements import Requirement

    for text in requirements():
        wanted, found = Requirement(text), installed(name_of(text))
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            yield text, found


def installed(name: str) -> str | None:
    """Return the version of a package that this Python has, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def name_of(requirement: str) -> str:
    """Return the normalised name of a package in ``name[extra]>=version ; marker``."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", found.group().lower()) if found else ""
