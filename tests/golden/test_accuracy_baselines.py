"""Accuracy baselines: what every method reaches in a few seconds of digits (baseline_cells.py).

`tests/baselines.csv` has a row for each method and preset. A method that is new, or that changes
results on purpose, has its rows written anew, and the commit says what moved and why:

    python tests/golden/test_accuracy_baselines.py --only feddf

names methods; without `--only` all rows are written. `pytest -m baseline` holds them. Where the
machine rounds as the one that wrote a row (golden_probe.py) every digit counts; elsewhere, and on a
GPU (`--device cuda`), an accuracy may differ by the row's `tolerance`: half as much again as
bfloat16 moves it, which rounds far more coarsely than any machine's float32, and no less than three
points.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
import torch
from baseline_cells import cell_of, rows
from golden_probe import probe

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.runtime import Runtime

TABLE = Path(__file__).parents[1] / "baselines.csv"
WRITE = "python tests/golden/test_accuracy_baselines.py"
COLUMNS = ("method", "preset", "cell_id", "accuracy", "nll", "tolerance", "probe")
LEAST = 0.03

pytestmark = pytest.mark.baseline


def stored():
    with TABLE.open() as file:
        return {(row["method"], row["preset"] or None): row for row in csv.DictReader(file)}


def compute(cell, cache, device="cpu"):
    """Return a cell's good record, computed in a home of its own."""
    with TemporaryDirectory() as folder:
        home = Path(folder) / "runs"
        home.mkdir()
        (home / "cache").symlink_to(cache)
        runtime = Runtime(home=home, data=home / "none", device=device, threads=1, offline=True)
        record = run_cell(cell, runtime, suite="baselines")
    assert record.status == "ok", record.traceback or record.reason
    return record


def cases():
    """Yield every row; those of presets other than the defaults are thorough."""
    for method, preset in rows():
        marks = [] if preset in (None, "fedbench") else [pytest.mark.thorough]
        yield pytest.param(method, preset, marks=marks)


@pytest.mark.parametrize(("method", "preset"), list(cases()))
def test_a_method_reaches_what_it_reached(method, preset, cache, request):
    row = stored().get((method, preset))
    assert row is not None, f"{method} ({preset}) has no baseline: run `{WRITE} --only {method}`"
    device, cell = request.config.getoption("device") or "cpu", cell_of(method, preset)
    assert cell.cell_id == row["cell_id"], (
        f"settings or versions have changed: run `{WRITE} --only {method}`"
    )
    metrics = compute(cell, cache, device).metrics
    check(row, metrics, exact=device == "cpu" and row["probe"] == digest())


def check(row, metrics, *, exact):
    """Compare a record's metrics with a row."""
    accuracy = metrics["accuracy"]
    if exact:
        assert (repr(accuracy), repr(metrics["nll"])) == (row["accuracy"], row["nll"])
    assert abs(accuracy - float(row["accuracy"])) <= float(row["tolerance"])


def test_every_row_is_of_a_method_and_says_something():
    table = stored()
    assert table.keys() == set(rows())
    assert all(LEAST <= float(row["tolerance"]) <= 0.15 for row in table.values())
    # Twice chance: a method that learns nothing can break without anybody noticing.
    assert all(float(row["accuracy"]) > 0.2 for row in table.values())


def test_a_change_is_found():
    row = {"accuracy": "0.5", "nll": "1.0", "tolerance": "0.03"}
    check(row, {"accuracy": 0.5, "nll": 1.0}, exact=True)
    check(row, {"accuracy": 0.52, "nll": 2.0}, exact=False)
    for metrics, exact in (
        ({"accuracy": 0.5, "nll": 1.0000001}, True),
        ({"accuracy": 0.54, "nll": 1.0}, False),
        ({"accuracy": math.nan, "nll": 1.0}, False),
    ):
        with pytest.raises(AssertionError):
            check(row, metrics, exact=exact)


def digest():
    return probe()["digest"][:16]


def write(only):
    """Write the rows of the chosen methods anew, and drop those that are gone."""
    torch.set_num_threads(1)  # as all tests: the probe depends on it
    known = {method for method, _ in rows()}
    if unknown := set(only) - known:
        sys.exit(f"there is no method {min(unknown)!r}; there are: {', '.join(sorted(known))}")
    table = stored() if TABLE.exists() else {}
    try:
        with TemporaryDirectory() as cache:
            for method, preset in rows():
                old = table.get((method, preset))
                if only and method not in only and old is not None:
                    continue
                row = table[method, preset] = _measured(method, preset, Path(cache))
                print("as it was:" if row == old else "written:", *row.values(), flush=True)
    finally:  # what is known so far, if one fails
        with TABLE.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(table[key] for key in rows() if key in table)


def _measured(method, preset, cache):
    cell = cell_of(method, preset)
    metrics = compute(cell, cache).metrics
    coarse = compute(cell_of(method, preset, precision="bf16-mixed"), cache).metrics
    moved = 1.5 * abs(metrics["accuracy"] - coarse["accuracy"])
    return {
        "method": method,
        "preset": preset or "",
        "cell_id": cell.cell_id,
        "accuracy": repr(metrics["accuracy"]),
        "nll": repr(metrics["nll"]),
        "tolerance": f"{max(LEAST, math.ceil(100 * moved) / 100):.2f}",
        "probe": digest(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the accuracy baselines anew.")
    parser.add_argument(
        "--only", action="append", default=[], metavar="METHOD", help="repeatable; none is all"
    )
    write(parser.parse_args().only)
