"""A small board with everything that a page has to cope with, made by hand; no training."""

from __future__ import annotations

from collections.abc import Iterable

from fedbench.bench.records.record import Record
from fedbench.bench.suites.planfile import Entry, Excluded, Plan
from fedbench.report.board import Board
from fedbench.report.comparisons import Comparison
from fedbench.report.figures import Figure
from fedbench.report.published import Published

HOSTILE = "<script>alert('x')</script> & \"quotes\"\u2028"
FORMULA = '=cmd|"/c calc"!A1'
PRESETS = {"dense": "fedbench", FORMULA: "-1+1"}
#: Accuracy of seed 0 at β=0.1, control, budgets in images per class.
METHODS = {
    "fedavg": (0.40, True, (None,)),
    "centralised": (0.90, True, (None,)),
    "dense": (0.70, False, (1, 10)),
    HOSTILE: (0.60, False, (1,)),
    FORMULA: (0.92, False, (10,)),  # better than centralised: a negative gap
}


def record(method, beta, ipc, seed, *, status="ok", second=1.0) -> Record:
    """Return a record; ``second`` stretches all that a machine's speed changes."""
    accuracy, control, _ = METHODS[method]
    budget = {"ipc": ipc, "pixels": None, "scope": "total"} if ipc else None
    metrics = {
        "accuracy": accuracy + (0.05 if beta > 0.1 else 0) + 0.01 * seed + (ipc or 0) / 1000,
        "worst_client": None if method == "fedavg" else accuracy / 2,
        "nll": 1.0,
        "ece": 0.05,
    }
    rank = list(METHODS).index(method)
    return Record(
        cell_id=f"{rank}-{beta}-{ipc}-{seed}".replace(".", ""),
        status=status,
        reason="NaN in <b>epoch</b> 3" if status == "failed" else None,
        suite="toy",
        profile="quick",
        control=control,
        settings={
            "data": {"name": "digits"},
            "partition": {
                "scheme": "dirichlet_capped",
                "beta": beta,
                "clients": 5,
                "min_size": 10,
                "max_tries": 1000,
            },
            "models": [{"name": "convnet", "width": 32, "depth": 3, "norm": None}],
            "method": {"name": method, "preset": PRESETS.get(method)},
            "budget": budget,
            "evaluation": {"curve_size": 2000},
            "seed": seed,
        },
        versions={},
        data={"classes": list("0123456789"), "size": 16, "train": 1437, "test": 360},
        metrics=metrics if status == "ok" else {},
        ledger={
            "bytes_up_per_client": 1500.0,
            "bytes_down_per_client": 0.0,
            "bytes_total": 10 ** (rank + 3),
            "rounds": 1,
            "client_seconds": 2.0 * second,
            "server_seconds": 1.0 * second,
        },
        shared_pixels=2560 if ipc else 0,
        wall_seconds=3.0 * second,
        environment={"device": "cpu", "threads": 1, "commit": "abc123", "packages": {"torch": "2"}},
    )


def records(second: float = 1.0) -> list[Record]:
    return [
        record(method, beta, ipc, seed, second=second)
        for method, (_, _, budgets) in METHODS.items()
        for beta in (0.1, 0.5)
        for ipc in budgets
        for seed in (0, 1)
    ]


def board(good: Iterable[Record]) -> Board:
    """Return a board of these records, with a failed, a skipped, a missing and a left-out cell."""
    good = tuple(good)
    failed = record("dense", 0.1, 1, 7, status="failed")
    entries = [Entry(one.cell_id, None, one.settings) for one in sorted(good, key=_by_id)]
    entries += [
        Entry(failed.cell_id, None, failed.settings),
        Entry("skipped-cell", "needs <i>BatchNorm</i>", record("dense", 0.1, 1, 8).settings),
        Entry("missing-cell", None, record("dense", 0.5, 1, 8).settings),
    ]
    plan = Plan(
        "toy",
        f"A toy {HOSTILE}",
        "quick",
        tuple(entries),
        (Excluded("too dear", {"method": HOSTILE, "seed": 0}),),
        {"recipe.epochs": 5},
    )
    return Board.of(plan, [*good, failed])


def _by_id(one: Record) -> str:
    return one.cell_id


def figures(second: float = 1.0) -> list[Figure]:
    return [_figure("bytes-toy", "12", False), _figure("seconds-toy", f"{17.25 * second}", True)]


def _figure(name: str, text: str, timing: bool) -> Figure:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="200pt" height="100pt" '
        f'viewBox="0 0 200 100"><text y="20">{text}</text></svg>\n'
    )
    return Figure(name, f"Figure {name} {HOSTILE}", f"Caption {HOSTILE}", svg, timing, None)


def comparisons(of: Board) -> list[Comparison]:
    def number(method: str) -> Published:
        return Published(
            method=method,
            preset=None,
            dataset="digits",
            setting=f"5 clients {HOSTILE}",
            accuracy=0.8,
            std=0.01,
            n=3,
            split="dirichlet_capped",
            selection="best",
            source=f"A paper {HOSTILE}",
            where={},
        )

    row = next(row for row in of.views if row.values["method"] == "dense")
    gap = float(row.values["accuracy_mean"] or 0) - 0.8
    return [
        Comparison(number("dense"), row, gap, ("accuracy of the last step (paper: best on test)",)),
        Comparison(number("feddf"), None, None, ("not run: no feddf",)),
    ]
