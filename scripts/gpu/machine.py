"""Say as JSON what this machine is and which requirements it does not meet.

    python scripts/gpu/machine.py cuda

Exits with 1 where there is no such device.
"""

from __future__ import annotations

import json
import os
import platform
import sys

from needs import unmet


def main() -> None:
    """Print one line of JSON."""
    import torch

    kind = sys.argv[1]
    count = torch.cuda.device_count()
    if kind == "cuda" and not count:
        raise SystemExit("torch sees no CUDA device here; say --device cpu")
    names = [torch.cuda.get_device_name(number) for number in range(count)]
    facts = {
        "device": names[0] if kind == "cuda" else "cpu",
        "devices": names,
        "memory": torch.cuda.get_device_properties(0).total_memory if kind == "cuda" else None,
        "cuda": torch.version.cuda,
        # torch gives this function no type.
        "cudnn": torch.backends.cudnn.version() if kind == "cuda" else None,  # type: ignore[no-untyped-call]
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "commit": os.environ.get("FEDBENCH_COMMIT"),
        "unmet": [
            f"{wanted} is not installed"
            if found is None
            else f"{wanted} is wanted, {found} is there"
            for wanted, found in unmet()
        ],
    }
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
