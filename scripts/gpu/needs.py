"""What fedbench and its tests on a card need, as pyproject.toml has it."""

from __future__ import annotations

import re
import tomllib
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


def name_of(requirement: str) -> str:
    """Return the normalised name of a package in ``name[extra]>=version ; marker``."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", found.group().lower()) if found else ""
