"""How good rough estimates of time are: each published board told by the records of the others.

A ratio above 1 is an estimate that was too long. Most of the spread is the machine's: boards were
computed beside other work. Run it from the checkout; it takes about a minute:

    python benchmarks/speed/estimates.py
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from fedbench.bench.estimate import RANGE, Cost, Sample, estimate, sample
from fedbench.bench.records.record import read_records
from fedbench.bench.suites.plan import cost_of, planned
from fedbench.bench.suites.planfile import Entry
from fedbench.config import parse


def told(own: Sequence[Sample], others: Sequence[Sample], cost: Cost) -> dict[str, float]:
    """Return the estimate of each cell of a board, in seconds, by its id.

    Args:
        own: What the board's cells took.
        others: What those of other boards took.
        cost: See ``estimate``.
    """
    # Without names of trainings, as if each cell trained its clients itself: so samples count.
    cells = [Entry(item.record, None, dict(item.settings), (), item.passes) for item in own]
    found = estimate(cells, others, cost=cost).seconds
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def main() -> None:
    """Print the ratio of each board, as it is and as if no other had its methods."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("boards", nargs="?", type=Path, default=Path("leaderboards"))
    boards: dict[str, list[Sample]] = {}
    for folder in sorted(parser.parse_args().boards.glob("*/records")):
        good = [pair for pair in read_records(folder) if pair[1].status == "ok"]
        boards[folder.parent.name] = [
            sample(record, path, planned(parse(record.settings)).passes) for path, record in good
        ]
    every: dict[str, list[float]] = {"known methods": [], "new methods": []}
    for name, own in boards.items():
        others = [item for board in boards.values() if board is not own for item in board]
        methods = {item.settings["method"]["name"] for item in own}
        strange = [item for item in others if item.settings["method"]["name"] not in methods]
        ratios = []
        for kind, known in zip(every, (others, strange), strict=True):
            found = told(own, known, cost_of)
            spent = sum(item.seconds for item in own if item.record in found)
            if spent:
                every[kind].append(sum(found.values()) / spent)
                ratios.append(f"{kind} {every[kind][-1]:.2f}")
        print(f"{name}: {', '.join(ratios)}")
    for kind, found in every.items():
        within = sum(1 / RANGE <= ratio <= RANGE for ratio in found)
        print(
            f"{kind}: median {statistics.median(found):.2f}, from {min(found):.2f} to "
            f"{max(found):.2f}; {within} of {len(found)} boards within {RANGE:g}"
        )


if __name__ == "__main__":
    main()
