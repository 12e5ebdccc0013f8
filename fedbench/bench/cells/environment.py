"""Where a cell ran: device, threads, versions, commit, memory."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fedbench
from fedbench.errors import SettingsError

if TYPE_CHECKING:
    import torch

_PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "numpy",
    "scikit-learn",
    "safetensors",
    "pydantic",
)


def resolve_device(name: str) -> str:
    """Return ``cpu`` or ``cuda:N``, never a GPU without its number.

    Called once, by the process that computes, before anything sees the device: Lightning refuses a
    GPU without a number, and torch's tensors never name one without.

    Args:
        name: ``cpu``, ``cuda:N``, ``cuda`` for torch's current GPU, or ``auto`` for that one where
            there is a GPU and the CPU where there is none.

    Raises:
        SettingsError: The device is not there.
    """
    import torch

    count = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and not count):
        return "cpu"
    if name in ("auto", "cuda") and count:
        return f"cuda:{torch.cuda.current_device()}"
    kind, _, number = name.partition(":")
    if kind == "cuda" and number.isdecimal() and int(number) < count:
        return f"cuda:{int(number)}"
    raise SettingsError(
        f"there is no device {name!r} here: torch sees {count} CUDA devices; say cpu, auto, or "
        "cuda:N with N below that"
    )


def available_cores() -> int:
    """Return the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=1)  # milliseconds for each package, and cells may be short
def package_versions() -> dict[str, str]:
    """Return the versions of the packages that numbers may depend on."""
    found = {"fedbench": fedbench.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


@lru_cache(maxsize=1)
def commit() -> dict[str, Any]:
    """Return the commit of the checkout that fedbench is imported from, and whether it is dirty.

    Outside a checkout they are those of FEDBENCH_COMMIT, which whoever has copied the files there
    sets after comparing them with that commit (see scripts/gpu); None without it.
    """
    folder = Path(fedbench.__file__).parent.parent
    try:
        own = Path(fedbench.__file__).relative_to(folder)
        _git(folder, "ls-files", "--error-unmatch", str(own))  # else the repository is another's
        head = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--", "fedbench")
    except (OSError, subprocess.SubprocessError):  # one of them: git takes too long
        stated = os.environ.get("FEDBENCH_COMMIT") or None
        return {"commit": stated, "dirty": False if stated else None}
    return {"commit": head, "dirty": bool(changed)}


def environment(device: str, threads: int) -> dict[str, Any]:
    """Return what a record says of where it was computed.

    Args:
        device: As resolved.
        threads: Of torch, on the CPU.
    """
    import torch

    on_gpu = device.startswith("cuda")
    return {
        "device": device.partition(":")[0],
        "device_name": torch.cuda.get_device_name(device) if on_gpu else _processor(),
        "threads": threads,
        "cpus": os.cpu_count(),
        "system": platform.platform(terse=True),
        "packages": package_versions(),
        **commit(),
    }


@dataclass(frozen=True)
class Gpu:
    """One GPU, for messages.

    Attributes:
        name: Its model, such as ``NVIDIA H100 80GB HBM3``.
        total: Its memory in bytes.
        peak: What this process has had of it at once since the cell began, in bytes.
    """

    name: str
    total: int
    peak: int


def gpu_of(device: str) -> Gpu | None:
    """Return the GPU that a cell ran on, or None where even that cannot be told any more.

    Args:
        device: ``cuda:N``; this process has used it.
    """
    import torch

    try:
        about = torch.cuda.get_device_properties(device)
        peak = torch.cuda.max_memory_reserved(device)
    except RuntimeError:  # after an error that a GPU does not recover from
        return None
    return Gpu(about.name, about.total_memory, peak)


def numerics(device: torch.device, precision: str, threads: int) -> dict[str, str | int]:
    """Return what changes the bits of numbers beside settings and data: part of artefacts' keys.

    Args:
        device: With its number, of which nothing depends.
        precision: The cell's.
        threads: Of torch, on the CPU.
    """
    import torch

    found: dict[str, str | int] = {
        "device": device.type,
        "precision": precision,
        "threads": threads,
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        # Kernels and their order of sums are chosen by the GPU's model.
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


class PeakMemory:
    """The largest resident memory of this process since the object was made, in bytes.

    Linux can put the mark back; elsewhere it is the peak since the process began.
    """

    def __init__(self) -> None:
        with suppress(OSError), Path("/proc/self/clear_refs").open("w", encoding="ascii") as file:
            file.write("5")

    def read(self) -> int:
        """Return the peak in bytes."""
        with suppress(OSError):
            for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()


@lru_cache(maxsize=1)
def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
