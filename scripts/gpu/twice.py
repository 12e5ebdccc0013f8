"""Every method of a suite twice on one device: whether all numbers agree, and the peak memory.

    python scripts/gpu/twice.py benchmarks/digits.yaml --device cuda --json twice.json

The first time two workers share the device, the second time one has it. Exits with 1 if a cell
fails, or if numbers differ although no record withdraws the promise (``deterministic: false``).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedbench.bench.cells.runtime import Runtime
from fedbench.bench.executors import execute
from fedbench.bench.records.compare import compare
from fedbench.bench.records.record import Record
from fedbench.bench.suites.order import read_order
from fedbench.bench.suites.plan import Planned
from fedbench.bench.suites.selection import parse_only
from fedbench.files import data_root

Table = list[dict[str, Any]]


def compute(cells: Sequence[Planned], home: Path, device: str, workers: int) -> dict[str, Record]:
    """Return the records of cells by id, computed in a home of their own."""
    means = Runtime(home=home, data=data_root(), device=device, offline=True)
    records = execute(cells, means, suite="twice", profile=None, workers=workers)
    found = {}
    for record in records:
        label, peak = record.method_label(), record.peak_device_memory_bytes or 0
        print(f"{workers} workers: {label}: {record.status}, {peak / 1e6:.0f} MB on the device")
        if record.status != "ok":
            print(record.traceback)
        found[record.cell_id] = record
    return found


def table(cells: Sequence[Planned], one: dict[str, Record], other: dict[str, Record]) -> Table:
    """Return a row for each cell: whether both records agree, and what it took."""
    rows = []
    for entry in cells:
        first, second = one[entry.cell_id], other[entry.cell_id]
        failed = [record for record in (first, second) if record.status != "ok"]
        gaps = [] if failed else compare(first, second)
        promised = first.deterministic
        rows.append(
            {
                "method": first.method_label(),
                "status": "failed" if failed else "ok" if not gaps or not promised else "differs",
                "promised": promised,
                "reason": failed[0].reason if failed else None,
                "differences": len(gaps),
                "first_difference": [str(part) for part in gaps[0]] if gaps else None,
                "accuracy": None if failed else first.metrics["accuracy"],
                "peak_device_memory_bytes": first.peak_device_memory_bytes,
                "seconds": first.wall_seconds,
            }
        )
    return rows


def main() -> None:
    """Compute twice, compare and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", type=Path)
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--only", action="append", default=[], metavar="PLACE=VALUE,VALUE")
    parser.add_argument("--device", required=True)
    parser.add_argument("--json", type=Path, required=True, help="write the table to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "first", Path(folder) / "second"
        order = read_order(
            options.suite, first, profile=options.profile, seeds=1, overrides=(),
            wishes=parse_only(options.only),
        )  # fmt: skip
        cells = [order.cells[name] for name in order.cells if name in order.chosen]
        one = compute(cells, first, options.device, 2)
        other = compute(cells, second, options.device, 1)
        rows = table(cells, one, other)
    options.json.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['method']}: {row['status']}, {row['differences']} differences")
    if any(row["status"] != "ok" for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
