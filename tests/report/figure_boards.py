"""Boards for tests of figures: records made up by rule, nothing trained."""

import hashlib
import itertools
import random

from fedbench.bench.records.record import Record
from fedbench.bench.suites.planfile import Plan
from fedbench.report.board import Board
from fedbench.report.figures.series import Cast

CONTROLS = ("centralised", "local", "fedavg", "random_real")
BYTES = {"local": 0, "centralised": 2_000_000, "fedavg": 8_000_000}
CLASSES = ("cat", "dog", "<b>", "$x_1$")


def record(
    method,
    seed=0,
    accuracy=0.5,
    *,
    beta=0.1,
    clients=3,
    budget=None,
    scope="total",
    classes=CLASSES,
    dataset="toy",
    curves=(),
    status="ok",
    per_class=None,
    sent=None,
    seconds=(8.0, 0.02),
    epochs=5,
    width=32,
    options=None,
):
    """Make one record; ``budget`` is in pixels, ``options`` are settings of the method."""
    parts = (dataset, method, beta, clients, budget, scope, epochs, width, seed, options)
    return Record(
        cell_id=hashlib.sha256(repr(parts).encode()).hexdigest()[:16],
        status=status,
        suite="toy",
        profile="quick",
        control=method in CONTROLS,
        settings={
            "data": {"name": dataset},
            "partition": {
                "scheme": "dirichlet_capped",
                "beta": beta,
                "clients": clients,
                "min_size": 10,
                "max_tries": 1000,
            },
            "models": [{"name": "convnet", "width": width, "depth": 3, "norm": None}],
            "recipe": {"epochs": epochs},
            "method": {"name": method, "preset": None, **(options or {})},
            "budget": {"ipc": None, "pixels": budget, "scope": scope} if budget else None,
            "evaluation": {"curve_size": 100},
            "seed": seed,
        },
        versions={},
        data={"classes": list(classes), "size": 8, "test": 360},
        partition={
            "histogram": [
                [(7 * client + 3 * label + seed) % 5 for label in range(len(classes))]
                for client in range(clients)
            ]
        },
        metrics={
            "accuracy": accuracy,
            "worst_client": None,
            "nll": 1.0,
            "ece": 0.05,
            "per_class": [accuracy] * len(classes) if per_class is None else per_class,
        },
        curves=list(curves),
        ledger={
            "bytes_up_per_client": 1500.0,
            "bytes_down_per_client": 0.0,
            "bytes_total": BYTES.get(method, 30_000) if sent is None else sent,
            "rounds": 1,
            "client_seconds": seconds[0],
            "server_seconds": seconds[1],
        },
    )


def point(round_, accuracy, sent, step=None, name="global"):
    """Make a point of a curve."""
    return {
        "name": name,
        "step": round_ if step is None else step,
        "round": round_,
        "bytes": sent,
        "accuracy": accuracy,
        "nll": 1.0,
    }


def board(records, failed=()):
    """Make a board of records as they come."""
    records = tuple(records)
    return Board.of(Plan("toy", "Toy", "quick", ()), [*records, *failed])


def full(shuffle=None):
    """Make a board that has something for every figure."""
    records = []
    for (beta, clients), seed in itertools.product(((0.1, 3), (0.5, 3), (0.1, 6)), range(2)):
        shift = beta / 10 + seed / 20 - clients / 100
        where = {"seed": seed, "beta": beta, "clients": clients}
        curve = [point(r, 0.1 * r + shift, 1000 * r) for r in (1, 2, 3)]
        steps = [point(1, 0.05 * s + shift, 500, step=s) for s in (1, 2, 3)]
        records += [
            record("local", accuracy=0.2 + shift, seconds=(8.0, 0.0), **where),
            record("centralised", accuracy=0.8 + shift, **where),
            record("fedavg", accuracy=0.4 + shift, curves=curve, **where),
            record("dense", accuracy=0.45 + shift, curves=steps, **where),
        ]
        for method, pixels in itertools.product(("random_real", "<script>x</script>"), (256, 1024)):
            accuracy = 0.3 + shift + pixels / 9000
            records.append(record(method, accuracy=accuracy, budget=pixels, sent=pixels, **where))
    if shuffle is not None:
        random.Random(shuffle).shuffle(records)
    return board(records)


def sketched(family, made):
    """Return what a family of figures draws of a board."""
    return list(family.sketches(made.views, Cast(made)))


def drawn_lines(axes):
    """Return the (x, y) data of an axes' lines that have a marker, without empty ones."""
    return [
        (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if line.get_marker() not in ("None", "") and isinstance(line.get_marker(), str)
    ]
