"""Where and how cells run; knows nothing of torch, so that a finished cell is found at once."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedbench.federation.context import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runtime:
    """Where and how cells run; none of it is part of a cell's identity.

    Attributes:
        home: The folder for everything that is written.
        data: The root of the data sets.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: Of torch on the CPU; 0 takes all cores.
        offline: Never download.
        refresh: Train anew what the artefact store has, once in each process of a command.
        command: Tells the command that this was made for from later ones of the same process.
        capture: Put all that the process prints into the log of the cell in hand; for workers.
        show: Called whenever a cell's progress changes.
        say: Called with lines on slow things, such as decoding a data set.
    """

    home: Path
    data: Path
    device: str = "auto"
    threads: int = 0
    offline: bool = False
    refresh: bool = False
    command: str = field(default_factory=lambda: uuid.uuid4().hex, compare=False)
    capture: bool = False
    show: Callable[[Progress], None] = field(default=lambda _: None, compare=False)
    say: Callable[[str], None] = field(default=log.info, compare=False)
