"""Timing helpers of the speed benchmarks: interleaved repeats, medians, ratios, a table, JSON.

Ratios of runs that stand side by side say something on a machine that others use as well; seconds
of runs that stand apart do not.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from fedbench.bench.cells.environment import resolve_device
from fedbench.training import heap
from fedbench.training.determinism import settle


@dataclass(frozen=True)
class Row:
    """One line of a benchmark's table.

    Attributes:
        name: What was compared.
        value: The number.
        unit: Its unit; ``x`` for ratios.
        target: What the project asks for, in words.
    """

    name: str
    value: float
    unit: str
    target: str = ""


def ready(name: str) -> torch.device:
    """Return a device, settled as a cell settles it: kernels repeat themselves, without TF32."""
    device = torch.device(resolve_device(name))
    settle(device)
    heap.keep()
    return device


def finish() -> None:
    """Wait until a GPU has done what this process asked of it; a CPU always has."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def interleave(
    variants: Mapping[str, Callable[[], object]],
    repeats: int,
) -> dict[str, list[float]]:
    """Time variants in turn, after one untimed turn. On a GPU a call ends with its work.

    Args:
        variants: What to call, by name.
        repeats: Timed turns; the order rotates, so that none always follows the same other.

    Returns:
        Seconds of each call, by name.
    """
    names = list(variants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, repeats):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            finish()
            began = time.perf_counter()
            variants[name]()
            finish()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: Mapping[str, list[float]], one: str, other: str) -> float:
    """Return the median over turns of how many times ``other`` takes as long as ``one``."""
    return statistics.median(b / a for a, b in zip(seconds[one], seconds[other], strict=True))


def excess_ms(seconds: Mapping[str, list[float]], one: str, other: str) -> float:
    """Return the median over turns of the milliseconds that ``one`` takes more than ``other``."""
    return 1000 * statistics.median(
        a - b for a, b in zip(seconds[one], seconds[other], strict=True)
    )


def gpu(device: torch.device | str | None) -> str:
    """Return a GPU's name, or ``cpu``; None is what this process has computed on."""
    if device is None:
        device = "cuda" if torch.cuda.is_initialized() else "cpu"
    kind = torch.device(device).type
    return torch.cuda.get_device_name(device) if kind == "cuda" else kind


def report(
    title: str, rows: list[Row], file: Path | None, device: torch.device | str | None = None
) -> None:
    """Print a table, and write it as JSON with where it was measured."""
    load = os.getloadavg()[0]
    where = f"{gpu(device)}, {torch.get_num_threads()} thread(s), load {load:.1f}"
    table = Table(title=title, caption=where)
    for column in ("what", "value", "target"):
        table.add_column(column)
    for row in rows:
        table.add_row(row.name, f"{row.value:.3g} {row.unit}", row.target)
    Console().print(table)
    save(title, rows, file, device)


def save(
    title: str, rows: list[Row], file: Path | None, device: torch.device | str | None = None
) -> None:
    """Write a table as JSON with where it was measured, if there is a file for it.

    Benchmarks that may be stopped save what they have after each of their parts.
    """
    if file is None:
        return
    machine = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.machine(),
        "device": gpu(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
    }
    content = {"title": title, "machine": machine, "rows": [asdict(row) for row in rows]}
    file.write_text(json.dumps(content, indent=2) + "\n")
