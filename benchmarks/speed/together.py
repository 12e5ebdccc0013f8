"""Several benchmarks, each in a process of its own, for the time that libraries need once.

    python benchmarks/speed/together.py --out DIR --limit 60 -- training --device cuda -- stacked

Everything after ``--`` is a benchmark's file name and its options. Processes are forked when the
libraries are loaded and before any GPU is touched; one that fails or takes too long takes no other
with it. Tables go to ``DIR/NAME.json``, what became of each to ``DIR/together.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
#: Seconds that a benchmark has to leave when its time is over.
_GRACE = 3.0


def parts(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield the words between ``--`` and ``--``."""
    part: list[str] = []
    for word in [*words, "--"]:
        if word != "--":
            part.append(word)
        elif part:
            yield part
            part = []


def driver_loaded() -> bool:
    """Return whether this process has the driver of a GPU in hand, which no fork survives."""
    maps = Path("/proc/self/maps")
    return maps.exists() and "libcuda.so" in maps.read_text()


def run(words: list[str], file: Path) -> None:
    """Be a benchmark: in a process group of its own, with its workers."""
    os.setpgrp()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    place = FOLDER / f"{words[0]}.py"
    sys.argv = [str(place), *words[1:], "--json", str(file)]
    runpy.run_path(str(place), run_name="__main__")


def attempt(words: list[str], file: Path, limit: float) -> dict[str, str | float]:
    """Run a benchmark and return what became of it."""
    began = time.perf_counter()
    process = multiprocessing.get_context("spawn" if driver_loaded() else "fork").Process(
        target=run, args=(words, file)
    )
    process.start()
    try:
        process.join(limit)
        late = process.is_alive()
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if process.is_alive():
                os.killpg(process.pid, sign)
                process.join(_GRACE)
    status = "too long" if late else "ok" if process.exitcode == 0 else "failed"
    seconds = time.perf_counter() - began
    print(f"== {words[0]}: {status} after {seconds:.1f} s", flush=True)
    return {"name": words[0], "status": status, "seconds": seconds}


def main() -> None:
    """Run what was asked for; exit with 1 if any of it failed."""
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of each")
    options = parser.parse_args(sys.argv[1:cut])
    options.out.mkdir(parents=True, exist_ok=True)
    import fedbench.bench.cells.cell
    import fedbench.training.classifier  # noqa: F401  # what nearly all of them import

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # takes the benchmark in hand along
    found = []
    for words in parts(sys.argv[cut:]):
        found.append(attempt(words, options.out / f"{words[0]}.json", options.limit))
        (options.out / "together.json").write_text(json.dumps(found, indent=1) + "\n")
    if any(item["status"] != "ok" for item in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
