"""Equal bits on a GPU: what torch has to be told before it computes there.

A CPU with a fixed number of threads repeats itself. On a GPU some operations add up in whatever
order their blocks come. Most of them have a slower form that does not, which torch takes when it is
asked to; those without one are an error, so that nobody is promised what is not kept.
`docs/devices.md` lists both kinds, as far as this code reaches them.
"""

from __future__ import annotations

import os

import torch

#: Where cuBLAS looks for the size of its buffers when it is first used, and the two sizes with
#: which it repeats itself: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_REPEATABLE = (":4096:8", ":16:8")


def settle(device: torch.device, *, strict: bool = True) -> None:
    """Make torch repeat itself on a device, for the whole process, until another one is settled.

    Called before anything else sees a GPU: cuBLAS reads its setting once. The GPU becomes the
    current one, so that nothing takes memory of another by accident.

    Args:
        device: The CPU, or a GPU with its number.
        strict: Whether an operation that cannot be repeated is an error. If not, torch warns and
            goes on, for methods that promise no equal bits (``Method.deterministic``).
    """
    if device.type != "cuda":
        # The forms that GPUs need cost time and change nothing here.
        torch.use_deterministic_algorithms(False)
        return
    if os.environ.get(WORKSPACE) not in _REPEATABLE:
        os.environ[WORKSPACE] = _REPEATABLE[0]
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    # Nothing here reads memory that it has not written; filling it first is a kernel each time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    # `32-true` means it: by default cuDNN rounds float32 convolutions to TF32.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.cuda.set_device(device)
