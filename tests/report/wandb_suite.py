"""A small suite made by hand, for the tests of its mirror in W&B."""

from fedbench.bench.records.record import Record
from fedbench.bench.suites.planfile import Entry, Plan
from fedbench.report.board import Board
from fedbench.report.comparisons import Comparison
from fedbench.report.figures import Figure
from fedbench.report.published import Published

CURVE = [
    {"name": name, "step": step, "round": step, "bytes": 100 * step, "accuracy": step / 10}
    for step in (1, 2)
    for name in ("global", "mirror/resnet8")
]


def record(method, seed=0, accuracy=0.5, *, failed=False, ipc=None, preset=None, **fields):
    model = {"name": "convnet", "width": 32, "depth": 3, "norm": None}
    partition = {"scheme": "dirichlet_capped", "clients": 5, "beta": 0.1, "min_size": 10}
    budget = {"ipc": ipc, "pixels": None, "scope": "total"} if ipc else None
    scores = {"accuracy": accuracy, "nll": 1.0, "per_class": [accuracy, 1.0]}
    return Record(
        **{
            "cell_id": f"{method}-{ipc}-{seed}",
            "status": "failed" if failed else "ok",
            "reason": "the loss is not finite" if failed else None,
            "traceback": "Traceback: 1 / 0" if failed else None,
            "suite": "toy",
            "profile": "quick",
            "control": method == "local",
            "settings": {
                "data": {"name": "digits", "path": None},
                "partition": partition,
                "models": [model],
                "method": {"name": method, "preset": preset},
                "budget": budget,
                "seed": seed,
            },
            "versions": {"method": 1, "models": [1]},
            "data": {"fingerprint": "f00d", "train": 7, "classes": ["cat", "dog"], "size": 16},
            "partition": {"digest": "d1ce", "histogram": [[1, 2]]},
            "metrics": {} if failed else {**scores, "models": {"global": scores}},
            "curves": [] if failed else CURVE,
            "ledger": {
                **dict.fromkeys(("bytes_up", "bytes_down", "bytes_total"), 1500),
                **dict.fromkeys(("bytes_up_per_client", "bytes_down_per_client"), 300.0),
                **dict.fromkeys(("client_seconds", "server_seconds"), 0.25),
                "rounds": 1,
                "traffic": {"up/round": {"wire": 1500}},
            },
            "shared_pixels": 512 if ipc else 0,
            "outputs": {"global": "beef"},
            "environment": {"device": "cpu", "packages": {"torch": "2"}},
            **fields,
        }
    )


RECORDS = (
    record("fedavg", 0, 0.5),
    record("fedavg", 1, 0.7),
    record("random_real", 0, 0.4, ipc=1),
    record("random_real", 0, 0.6, ipc=10, preset="some"),
    record("local", 0, 0.3),
    record("dense", 0, failed=True),
)


def board(records=RECORDS, profile="quick"):
    cells = tuple(Entry(each.cell_id, None, each.settings) for each in records)
    cells += (Entry("skipped", "needs BatchNorm", records[0].settings),)
    return Board.of(Plan("toy", "A toy suite", profile, cells), records)


def figure():
    return Figure("bytes-digits", "Bytes", "Of a toy", "<svg><text>β</text></svg>", False, None)


def comparisons(found):
    row = found.views[0]
    number = {
        "preset": None,
        "dataset": "digits",
        "setting": "K=5",
        "accuracy": 0.55,
        "std": None,
        "n": 3,
        "split": "iid",
        "selection": "best",
        "source": "A paper, Table 1",
        "where": {},
    }
    return [
        Comparison(Published(method="fedavg", **number), row, 0.05, ("another split", "n 2, 3")),
        Comparison(Published(method="dense", **number), None, None, ("not run",)),
    ]
