"""Numbers as people read them: durations, sizes, and where a cell is."""

from __future__ import annotations

import re

from fedbench.errors import SettingsError

_UNITS = {"h": 3600, "m": 60, "s": 1}
_SPAN = re.compile(
    r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?"
)


def duration(seconds: float) -> str:
    """Return seconds as ``8 s``, ``12 min`` or ``3 h 05 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(number: float) -> str:
    """Return bytes as ``35 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return (
                f"{number:.0f} {unit}" if number >= 9.95 or unit == "B" else f"{number:.1f} {unit}"
            )
        number /= 1000
    return f"{number:.1f} TB"


def count(number: int, thing: str) -> str:
    """Return ``1 cell`` or ``2 cells``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def position(round: int, rounds: int, stage: str) -> str:
    """Return where a cell is, such as ``round 2/10 · client 3``."""
    return f"round {round}/{rounds} · {stage}" if rounds > 1 and round else stage


def whereabouts(round: int, rounds: int, stage: str, done: int, total: int) -> str:
    """Return where a cell in hand is, such as ``round 2/10 · client 3, epoch 4/20``."""
    epoch = f", epoch {done}/{total}" if total else ""
    return f"{position(round, rounds, stage) or 'starting'}{epoch}"


def parse_duration(text: str) -> float:
    """Return the seconds of ``170m``, ``2h``, ``90s`` or ``1h30m``.

    Raises:
        SettingsError: It is none of these, or nothing.
    """
    found = _SPAN.fullmatch(text.strip())
    parts = {unit: value for unit, value in (found.groupdict() if found else {}).items() if value}
    seconds = sum(float(value) * _UNITS[unit] for unit, value in parts.items())
    if seconds <= 0:
        raise SettingsError(f"{text!r} is no length of time; write 170m, 2h, 90s or 1h30m")
    return seconds
