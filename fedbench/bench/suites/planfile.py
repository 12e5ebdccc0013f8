"""The plan of a suite as a file: what a report or a status needs to know, without torch.

``plan`` makes it from a suite; everything that only reads goes through this module.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedbench.bench.records.former import of_today
from fedbench.errors import StoreError
from fedbench.files import write_atomic


@dataclass(frozen=True)
class Entry:
    """One cell of a plan.

    Attributes:
        cell_id: Its identity.
        skip: Why it cannot run, or None.
        settings: The whole cell, as a record has it.
        trainings: The client trainings that its first round takes from the artefact store or
            leaves there; two cells that have one in common share it.
        passes: Images that it trains on, repetitions counted; None where that is not known.
        rounds: Communication rounds.
    """

    cell_id: str
    skip: str | None
    settings: dict[str, Any]
    trainings: tuple[str, ...] = ()
    passes: float | None = None
    rounds: int = 1


@dataclass(frozen=True)
class Excluded:
    """A combination that the suite leaves out; it need not be a valid cell.

    Attributes:
        reason: Why.
        values: What each axis has in it, by the axis's name, and the seed.
    """

    reason: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a suite's last sweep, or its published leaderboard, consists of.

    Attributes:
        suite: The suite's name.
        title: One line for the head of pages.
        profile: The profile that was planned.
        cells: In the order of computing.
        excluded: What was left out on purpose.
        overrides: Settings that ``--set`` has laid over every cell.
        plugins: The plugin files that the command line or the suite named, by their full paths.
    """

    suite: str
    title: str
    profile: str
    cells: tuple[Entry, ...]
    excluded: tuple[Excluded, ...] = ()
    overrides: dict[str, Any] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()


def plan_path(home: Path, suite: str) -> Path:
    """Return where a suite's plan is kept."""
    return home / suite / "plan.json"


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan as JSON, with a digest of it."""
    values = json.loads(json.dumps(asdict(plan)))
    if not plan.plugins:  # as plans were written before there were any
        del values["plugins"]
    write_atomic(path, json.dumps({**values, "digest": _digest(values)}, indent=1) + "\n")


def is_whole(path: Path) -> bool:
    """Return whether a plan is there as it was written: nothing is deleted on another's word."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return bool(values.pop("digest") == _digest(values))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        StoreError: There is none, or it is damaged or foreign.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        stated = values.pop("digest", None)  # plans published before there was one have none
        if stated not in (None, _digest(values)):
            raise ValueError("its content does not match its digest")
        cells = tuple(
            Entry(
                **{
                    **entry,
                    "settings": of_today(entry["settings"]),
                    "trainings": tuple(entry.get("trainings", ())),
                }
            )
            for entry in values["cells"]
        )
        excluded = tuple(Excluded(**entry) for entry in values.get("excluded", ()))
        plugins = tuple(values.get("plugins", ()))
        return Plan(**{**values, "cells": cells, "excluded": excluded, "plugins": plugins})
    except FileNotFoundError as error:
        raise StoreError(
            f"there is no plan {path}; run `fedbench sweep` first, or set FEDBENCH_HOME to the "
            "folder that holds the results"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(
            f"{path} is no plan ({error}); the next `fedbench sweep` of the suite writes it anew"
        ) from error
