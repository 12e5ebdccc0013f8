"""The figures of a row, each described once for all tables, and how numbers are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fedbench.report.csvs import signless_zero
from fedbench.report.frame import Row, Value

LACKS_SEEDS = "‡"
#: How far balanced accuracy has to be from accuracy to be worth a column. Classes of MNIST's test
#: set are so nearly of one size that a model which knows one class alone stays below it.
TELLING = 0.02


def percent(value: Value) -> str:
    """Return a share in [0, 1] in percent with two decimals, or a dash."""
    return "–" if value is None else f"{100 * float(value):.2f}"


def accuracy(mean: Value, std: Value) -> str:
    """Return an accuracy in percent, with its standard deviation where there are several seeds."""
    return percent(mean) + (f" ± {percent(std)}" if std is not None else "")


def size(value: Value) -> str:
    """Return bytes with a decimal unit, from B to TB."""
    if value is None:
        return "–"
    number = float(value)
    for unit, digits in (("B", 0), ("kB", 1), ("MB", 1), ("GB", 1)):
        if round(number, digits) < 1000:
            return f"{number:.{digits}f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def count(value: Value) -> str:
    """Return a whole number with separators, or a dash."""
    return "–" if value is None else f"{float(value):,.0f}"


def seconds(value: Value) -> str:
    """Return seconds with one decimal, or a dash."""
    return "–" if value is None else f"{float(value):,.1f}"


def _points(value: Value) -> str:
    return "–" if value is None else signless_zero(f"{100 * float(value):.2f}")


def _nats(value: Value) -> str:
    return "–" if value is None else f"{float(value):.3f}"


@dataclass(frozen=True)
class Column:
    """One column of figures.

    Attributes:
        key: Its name in ``table.csv``, or of a time.
        heading: What stands above it on the page; empty where the page has no such column.
        meaning: One sentence.
        write: Writes a value.
        plain: What stands above it in Markdown and the terminal; empty where it is not there.
        short: The same in LaTeX, where space is dear.
        rank: From 1 on, which column goes first where the terminal is narrow; 0 always stays.
        timing: Whether it depends on the machine's speed.
        better: Which end a first click puts on top.
        spread: The column of ``table.csv`` with its standard deviation, where that is shown.
    """

    key: str
    heading: str
    meaning: str
    write: Callable[[Value], str]
    plain: str = ""
    short: str = ""
    rank: int = 0
    timing: bool = False
    better: Literal["high", "low"] = "low"
    spread: str | None = None

    def text(self, values: dict[str, Value]) -> str:
        """Return what a row with these values has in the column."""
        std = values[self.spread] if self.spread else None
        own = self.write(values[self.key])
        if self is SEEDS:
            return f"{own}{LACKS_SEEDS if values['lacks_seeds'] else ''}"
        return own if std is None else f"{own} ± {self.write(std)}"


SEEDS = Column("n", "", "Seeds.", str, "n", "n")
_WORST = "Smallest accuracy over the clients' own label mixes."
_GAP = "Accuracy of centralised training minus this one's, in percentage points."
_ECE = "Expected calibration error, 15 bins."
_UP = "Bytes that a client sends, all rounds, as serialised."
_DOWN = "Bytes that a client receives, all rounds, as serialised."
_SHARED = "Pixels of the shared set, and of public images held beforehand."
_CLIENT = "Seconds that clients worked, all clients."
_SERVER = "Seconds that the server worked."
# fmt: off
COLUMNS = (
    SEEDS,
    Column("worst_client_mean", "Worst client %", _WORST, percent, "worst client %", "Worst %", 6,
           better="high"),
    Column("gap_to_centralised", "Gap to central. pp", _GAP, _points),
    Column("nll_mean", "NLL nats", "Mean negative log-likelihood, in nats.", _nats),
    Column("ece_mean", "ECE %", _ECE, percent, "ECE %", "ECE %", 3),
    Column("bytes_up_per_client", "Up/client", _UP, size, "up/client", "Up", 8),
    Column("bytes_down_per_client", "Down/client", _DOWN, size, "down/client", "Down", 7),
    Column("bytes_total", "Total", "Bytes both ways over all clients.", size),
    Column("rounds", "Rounds", "Communication rounds.", count, "rounds", "R", 4),
    Column("shared_pixels", "Shared px", _SHARED, count, "shared px", "Shared px", 5),
    Column("client_seconds", "Client s", _CLIENT, seconds, "client s", "", 2, timing=True),
    Column("server_seconds", "Server s", _SERVER, seconds, "server s", "", 1, timing=True),
)
# fmt: on
#: The first of them, where it says something else than accuracy does (see ``columns``).
BALANCED = Column(
    "balanced_accuracy_mean",
    "Balanced %",
    "Balanced accuracy, the mean recall over classes: mean ± standard deviation over seeds.",
    percent,
    "balanced %",
    "Bal. %",
    better="high",
    spread="balanced_accuracy_std",
)
#: The same where clients see images otherwise.
DOMAINS = Column(
    "domain_mean",
    "Domains %",
    "Accuracy on the test set as each client sees it, mean over clients: mean ± standard deviation "
    "over seeds.",
    percent,
    "domains %",
    "Dom. %",
    better="high",
    spread="domain_std",
)


def tells_balanced(rows: Iterable[Row]) -> bool:
    """Return whether balanced accuracy says something else than accuracy.

    It does if the two means of some row differ by ``TELLING`` or more. One answer holds for all
    blocks that are shown together.
    """
    pairs = ((row.values["accuracy_mean"], row.values["balanced_accuracy_mean"]) for row in rows)
    return any(
        abs(float(mean) - float(balanced)) >= TELLING
        for mean, balanced in pairs
        if mean is not None and balanced is not None
    )


def tells_domains(rows: Iterable[Row]) -> bool:
    """Return whether the clients of any row saw images otherwise than the test set shows them."""
    return any(row.values["domain_mean"] is not None for row in rows)


def columns(rows: Sequence[Row]) -> tuple[Column, ...]:
    """Return the columns that follow the accuracies of a board's rows and their differences."""
    known = ((BALANCED, tells_balanced(rows)), (DOMAINS, tells_domains(rows)))
    return (*(column for column, tells in known if tells), *COLUMNS)
