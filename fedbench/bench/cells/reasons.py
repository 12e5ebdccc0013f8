"""What a record says of an error: its name, its message, and what would help."""

from __future__ import annotations

import gc
import signal
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from fedbench.errors import FedbenchError

if TYPE_CHECKING:
    from fedbench.bench.cells.environment import Gpu

_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "ALLOC_FAILED",
    "bad_alloc",
)
_LESS = (
    "there was not enough memory: use fewer `--workers`, a smaller `recipe.batch_size`, or a "
    "smaller model; the next run tries again"
)


#: What torch says of an operation that a GPU cannot repeat.
_UNREPEATABLE = "does not have a deterministic implementation"
_WITHDRAW = (
    "compute it another way (docs/devices.md has those that we met), or say "
    "`deterministic = False` in the method's class, which its records then say as well"
)


def is_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is used up, of the machine or of a GPU."""
    if isinstance(error, FedbenchError):
        return False
    return isinstance(error, MemoryError) or any(word in str(error) for word in _NO_MEMORY)


def reason(error: BaseException, gpu: Gpu | None = None) -> str:
    """Return an error in a line or two, with what would help where that is known.

    Args:
        error: What went wrong.
        gpu: Where, if it was on a GPU.
    """
    text = printable(f"{type(error).__name__}: {error}".removesuffix(": "))
    if is_memory(error):
        return f"{text}; {_had(gpu)}{_LESS}"
    return f"{text}; {_WITHDRAW}" if _UNREPEATABLE in text else text


def _had(gpu: Gpu | None) -> str:
    if gpu is None:
        return ""
    return (
        f"this process had {gpu.peak / 2**30:.1f} of the {gpu.total / 2**30:.1f} GiB of "
        f"{gpu.name} at its peak, and other processes may have the rest; "
    )


def trace() -> str:
    """Return the traceback of the exception in hand."""
    return printable(traceback.format_exc())


def printable(text: str) -> str:
    """Return text that can be written as UTF-8, as a file name in a message need not be."""
    return text.encode("utf-8", "backslashreplace").decode()


def free_memory() -> None:
    """Give back what a failed computation held, on the GPU too. The error must be gone by now."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        with suppress(RuntimeError):  # after an error that a GPU does not recover from
            torch.cuda.empty_cache()


def gpu_is_lost() -> bool:
    """Return whether this process cannot compute on its GPU any more, whatever it tries.

    So it is after an illegal access or a failed assertion in a kernel. Other processes are not
    concerned.
    """
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def death(code: int | None) -> str:
    """Return why a worker has failed, from its exit code.

    Args:
        code: Negative for a signal, as ``multiprocessing`` has it; None where it is not known.
    """
    if code == -signal.SIGKILL:
        return (
            "a worker process died: it was killed (SIGKILL), as the system does for want of "
            "memory; run the same command again with fewer `--workers`"
        )
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        return (
            f"a worker process died: it crashed ({name}); the cell's log has the trace; run the "
            "same command again"
        )
    known = "" if code is None else f" with exit code {code}"
    return (
        f"a worker process died{known}; the cell's log may say why; run the same command again, "
        "with fewer `--workers` if memory is short"
    )
