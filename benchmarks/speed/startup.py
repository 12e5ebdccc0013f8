"""What a user waits for before anything is computed, beside ``python -c "import torch"``.

Each command is a process of its own; they take turns, and ratios are of the processor's time, which
other work on the machine lengthens least. The first step of a training ends when the first
optimiser of the process has made its first step: torch itself imports torch._dynamo before that,
which the bare loop shows.

Run ``python benchmarks/speed/startup.py``; it asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import Row, report

CELL = [
    "run",
    "--dataset",
    "digits",
    "--method",
    "fedavg",
    "--rounds",
    "1",
    "--epochs",
    "1",
    "--width",
    "8",
    "--clients",
    "2",
]
MAIN = "from fedbench.cli.main import main; import sys; sys.argv[1:] = {}; main()"
#: Runs a command up to the first step of any optimiser. It looks at imports, because importing
#: something early would change what is measured; the classifier is imported when one is trained.
FIRST_STEP = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "fedbench.training.classifier":
            from torch.optim.optimizer import register_optimizer_step_post_hook
            register_optimizer_step_post_hook(lambda *_: os._exit(0))
sys.meta_path.insert(0, Watch())
"""
BARE = (
    "import torch; net = torch.nn.Linear(2, 2); "
    "optimizer = torch.optim.SGD(net.parameters(), lr=0.1); "
    "net(torch.ones(1, 2)).sum().backward(); optimizer.step()"
)


def seconds(code: str, home: Path) -> tuple[float, float]:
    """Return the processor's and the clock's seconds of one process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "FEDBENCH_HOME": str(home), "OMP_NUM_THREADS": "1"},
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    variants = {
        "import torch": "import torch",
        "bare first step": BARE,
        "import lightning": "import lightning",
        "fedbench --help": MAIN.format(["--help"]),
        "fedbench methods": MAIN.format(["methods"]),
        "finished run": MAIN.format(CELL),
        "first step of a run": FIRST_STEP + MAIN.format([*CELL, "--force"]),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for turn in range(-1, options.repeats):
            for name, code in variants.items():
                spent = seconds(code, home)
                if turn >= 0:
                    found[name].append(spent)
    rows = []
    targets = {
        "fedbench methods": "<= 1 s",
        "finished run": "<= 1 s",
        "first step of a run": "<= 6 s",
    }
    for name, pairs in found.items():
        cpu, wall = (statistics.median(pair[number] for pair in pairs) for number in (0, 1))
        share = statistics.median(
            pair[0] / torch[0] for pair, torch in zip(pairs, found["import torch"], strict=True)
        )
        rows.append(Row(f"{name}: processor", cpu, "s", targets.get(name, "")))
        rows.append(Row(f"{name}: clock", wall, "s"))
        rows.append(Row(f"{name}: processor / import torch's", share, "x"))
    report("Starting", rows, options.json)


if __name__ == "__main__":
    main()
