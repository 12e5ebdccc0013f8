"""Records, plans and boards made by hand, for tests of reports; nothing is trained."""

import json

from fedbench.bench.records.record import Record, write_record
from fedbench.bench.suites.planfile import Entry, Plan, write_plan
from fedbench.data.schemes import SCHEMES
from fedbench.report.board import Board
from fedbench.report.frame import rows

CONVNET = {"name": "convnet", "width": 32, "depth": 3, "norm": None}
RESNET = {"name": "resnet8", "width": 16, "depth": None, "norm": None}

CLEAN = {"device": "cpu", "threads": 1, "commit": "c0ffee" * 6 + "c0ff", "dirty": False}


def record(
    method,
    seed=0,
    accuracy=0.5,
    *,
    balanced=None,
    beta=0.1,
    ipc=None,
    control=False,
    status="ok",
    profile="quick",
    preset=None,
    model=CONVNET,
    partition=None,
    options=None,
    cell_id=None,
    environment=CLEAN,
    **others,
):
    """Make a record; ``options`` are the method's settings, ``others`` further parts of a cell."""
    budget = {"ipc": ipc, "pixels": None, "scope": "total"} if ipc else None
    partition = {"scheme": "dirichlet_capped", **(partition or {})}
    own = {"beta": beta, "min_size": 10, "max_tries": 1000}
    taken = SCHEMES.get(partition["scheme"]).parameters
    partition = {**{name: value for name, value in own.items() if name in taken}, **partition}
    worst = None if accuracy is None else accuracy / 2
    metrics = {"accuracy": accuracy, "worst_client": worst, "nll": 1.0, "ece": 0.05}
    if balanced is not None:
        metrics["balanced_accuracy"] = balanced
    return Record(
        cell_id=cell_id or f"{method}-{beta}-{ipc}-{seed}",
        status=status,
        suite="toy",
        profile=profile,
        control=control,
        settings={
            "data": {"name": "digits"},
            "partition": {"clients": 5, **partition},
            "models": [model],
            "method": {"name": method, "preset": preset, **(options or {})},
            "budget": budget,
            "evaluation": {"curve_size": 2000},
            "seed": seed,
            **others,
        },
        versions={},
        data={"classes": list("0123456789"), "size": 16, "test": 360},
        partition={"histogram": [[1] * 10] * 5},
        metrics=metrics,
        ledger={
            "bytes_up_per_client": 1500.0,
            "bytes_down_per_client": 0.0,
            "bytes_total": 7500,
            "rounds": 1,
            "client_seconds": 2.0,
            "server_seconds": 1.0,
        },
        shared_pixels=2560 if ipc else 0,
        environment=environment,
    )


def row_of(accuracies, **settings):
    """Make one row of as many seeds as there are accuracies."""
    method = settings.pop("method", "m")
    (row,) = rows(record(method, seed, value, **settings) for seed, value in enumerate(accuracies))
    return row


def board_of(records, *, skipped=(), missing=()):
    """Make a board of records; ``skipped`` and ``missing`` are further records' cells."""
    entries = [Entry(r.cell_id, None, r.settings) for r in (*records, *missing)]
    entries += [Entry(r.cell_id, "cannot run", r.settings) for r in skipped]
    return Board.of(Plan("toy", "Toy", "quick", tuple(entries)), records)


def write_suite(folder, records, *, skipped=(), missing=()):
    """Write a plan and records as a sweep leaves them."""
    write_plan(folder / "plan.json", board_of(records, skipped=skipped, missing=missing).plan)
    for made in records:
        write_record(folder / "records" / f"{made.cell_id}.json", made)
    return folder


def files_of(folder):
    """Return every file below a folder, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def edited(path, place, value):
    """Change one value of a JSON file."""
    content = json.loads(path.read_text())
    *parents, last = place.split(".")
    inner = content
    for name in parents:
        inner = inner[name]
    inner[last] = value
    path.write_text(json.dumps(content, indent=1) + "\n")
