"""How many cells share a GPU: what its memory has room for, and no more than pays.

Small networks leave a GPU idle most of the time, waiting for the process that feeds it. Several
processes fill the gaps, until memory or the machine's cores are used up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fedbench.errors import SettingsError

#: Workers of one GPU at most.  # fedbench: not measured on a GPU yet; benchmarks/speed has the
#: measurement, and --workers says otherwise
MOST = 4
#: Bytes that a process takes of a GPU before it computes: CUDA's context and its libraries.
_CONTEXT = 600 * 2**20  # fedbench: about 500 MiB with torch 2 on recent GPUs
#: What torch's allocator holds, in units of what a cell has allocated at its peak.
_HELD = 1.25  # fedbench: room for what is cached and cut into pieces
#: Bytes of a cell of which no record is like it.
_UNKNOWN = 6 * 2**30  # fedbench: ResNet-18 on batches of 256 CIFAR images with all data on the GPU
_PATIENCE = 120.0
# In a process of its own: whoever asks CUDA about memory takes some of it.
_ASK = """
import json, sys, torch
print(json.dumps([
    [torch.cuda.get_device_name(name), torch.cuda.mem_get_info(name)[0]] for name in sys.argv[1:]
]))
"""


@dataclass(frozen=True)
class Seen:
    """A GPU as it is now.

    Attributes:
        name: Its model, such as ``NVIDIA H100 80GB HBM3``.
        free: Bytes that nobody has.
    """

    name: str
    free: int


def look(devices: Sequence[str]) -> list[Seen]:
    """Return what some GPUs are, without taking memory of them in this process.

    Args:
        devices: ``cuda:N`` each.

    Raises:
        SettingsError: They cannot be used.
    """
    try:
        said = subprocess.run(
            [sys.executable, "-c", _ASK, *devices],
            check=True,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
        return [Seen(name, free) for name, free in json.loads(said.stdout)]
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        why = f"no answer within {_PATIENCE:g} seconds"
    raise SettingsError(
        f"{', '.join(devices)} cannot be used: {why}; `nvidia-smi` shows who has what of them, and "
        "--device cpu does without"
    )


def workers_each(gpus: Sequence[Seen], need: int, *, known: bool, cores: int) -> int:
    """Return how many workers each GPU is to have.

    Args:
        gpus: At least one.
        need: Bytes that the largest cell has had of a GPU at its peak, among those of which a
            record is known.
        known: Whether that is so of all cells.
        cores: Of the CPU; each worker keeps one busy.

    Returns:
        At least 1, and the same for all GPUs, since cells go to whichever worker is free.
    """
    each = _HELD * (need if known else max(need, _UNKNOWN)) + _CONTEXT
    room = min(int(gpu.free / each) for gpu in gpus)
    return max(1, min(MOST, room, cores // len(gpus)))
