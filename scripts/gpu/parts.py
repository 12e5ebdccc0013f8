"""The parts of the lane: which commands each has, in which order, and how long they may take.

With ``toy`` the same commands run on next to nothing, so that a CPU can show that they run.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from needs import ROOT

FOLDER = Path(__file__).resolve().parent
SPEED = ROOT / "benchmarks" / "speed"
TABLE = FOLDER / "paper.csv"
#: In a step's words: whole seconds until its part is over.
SECONDS = "{seconds}"
#: A toy takes half a minute a part, and may run where others work as well.
_TOY_SECONDS = 600.0
_CLI = (sys.executable, "-m", "fedbench.cli.main")


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: In log and summary.
        words: The command; ``SECONDS`` in them is replaced.
    """

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """Some commands with a time limit.

    Attributes:
        name: As it is asked for.
        seconds: Of all steps together, on a GPU.
        steps: In order of worth.
        together: How many of them run at once.
    """

    name: str
    seconds: float
    steps: tuple[Step, ...]
    together: int = 1


@dataclass(frozen=True)
class Means:
    """Where and how large.

    Attributes:
        device: ``cpu`` or ``cuda``.
        toy: Next to nothing instead of what is to be measured.
        work: A folder for what steps hand to the summary.
    """

    device: str
    toy: bool
    work: Path


@dataclass(frozen=True)
class Line:
    """Cells of a suite that are worth their time, as the table has them.

    Attributes:
        suite: Its file, below the checkout.
        profile: Of the suite.
        only: Selections, as `fedbench sweep --only` takes them.
        seeds: How many.
        workers: Cells at once.
        data: Data sets, and files below the data root, that the cells read.
        why: What stands beside them.
    """

    suite: str
    profile: str
    only: tuple[str, ...]
    seeds: int
    workers: int
    data: tuple[str, ...]
    why: str


def read_table(path: Path) -> list[Line]:
    """Return the lines of a table of cells, in order of worth."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Line(
                row["suite"], row["profile"], tuple(row["only"].split()), int(row["seeds"]),
                int(row["workers"]), tuple(row["data"].split()), row["why"],
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def parts(means: Means) -> dict[str, Part]:
    """Return all parts by name, in order of worth."""
    smoked, sped, papered = (_TOY_SECONDS,) * 3 if means.toy else (180.0, 260.0, 540.0)
    found = (
        Part("smoke", smoked, tuple(smoke(means))),
        Part("speed", sped, tuple(speed(means))),
        Part("paper", papered, tuple(paper(means)), together=2 if means.toy else 3),
    )
    return {part.name: part for part in found}


def smoke(means: Means) -> Iterator[Step]:
    """Yield the tests of a GPU, and every method twice on it."""
    yield _tests(means, "tests", "tests/cuda", "cuda", "peak or messages")
    yield _tests(means, "baselines", "tests/golden", "baseline", "fedcgs")
    few = "method=fedavg(one_shot),collabdm"
    wish = ["beta=0.5", few] if means.toy else ["beta=0.5"]
    yield Step(
        "twice",
        (sys.executable, str(FOLDER / "twice.py"), "benchmarks/digits.yaml", "--device",
         means.device, "--json", str(means.work / "twice.json"),
         *(word for place in wish for word in ("--only", place))),
    )  # fmt: skip


def _tests(means: Means, name: str, folder: str, mark: str, few: str) -> Step:
    """Return the tests of a folder that have a mark; a few of the quick ones for a toy."""
    some = (f"{mark} and not slow", "-k", few) if means.toy else (mark,)
    return Step(
        name,
        # Verbose: where the time is over, the log has what was found until then.
        (sys.executable, "-m", "pytest", "-vv", "-m", *some, "--device", means.device,
         "-p", "no:cacheprovider", "--junitxml", str(means.work / f"{name}.xml"), folder),
    )  # fmt: skip


def speed(means: Means) -> Iterator[Step]:
    """Yield the benchmarks, in one process for the libraries and one for each of them."""
    jobs = _toy_jobs() if means.toy else _jobs()
    words = [word for job in jobs for word in ("--", *job, "--device", means.device)]
    yield Step(
        "benchmarks",
        (sys.executable, str(SPEED / "together.py"), "--out", str(means.work / "speed"),
         "--limit", "300" if means.toy else "100", *words),
    )  # fmt: skip


def _jobs() -> Iterator[list[str]]:
    """Yield benchmarks with their options, in order of worth."""
    yield ["training", "--repeats", "4"]
    yield ["matching", "--width", "128", "--repeats", "3", "--no-memory", "--compile", "inductor"]
    yield ["gpu"]
    yield ["stacked"]
    yield ["federation", "--only-round", "--repeats", "3"]
    yield from _where_there({"inversion": ("--repeats", "3"), "trajectories": ("--no-memory",)})
    formats = ["convnet-w32", "convnet-w128", "dense_cnn", "resnet8", "resnet18"]
    yield ["memory_format", "--repeats", "5", "--only", *formats]
    yield ["distillation"]


def _toy_jobs() -> Iterator[list[str]]:
    """Yield the same benchmarks on next to nothing."""
    yield ["training", "--repeats", "1", "--images", "130", "--width", "4"]
    yield [
        "matching", "--width", "4", "--ipc", "1", "--steps", "1", "--repeats", "1",
        "--no-memory", "--compile", "eager",
    ]  # fmt: skip
    yield ["gpu", "--workers", "1", "2", "--width", "4", "--epochs", "1", "--images", "100"]
    yield [
        "stacked", "--counts", "3", "--widths", "4", "--batches", "4", "--size", "16",
        "--steps", "1", "--repeats", "1",
    ]  # fmt: skip
    yield ["federation", "--only-round", "--rounds", "2", "--repeats", "2"]
    yield from _where_there(
        {
            "inversion": ("--repeats", "1", "--small"),
            "trajectories": (
                "--repeats", "1", "--steps", "2", "--width", "4", "--no-memory", "--no-experts",
            ),
        }
    )  # fmt: skip
    yield ["memory_format", "--repeats", "1", "--only", "dense_cnn of 28x28"]
    yield ["distillation", "--repeats", "1", "--steps", "2", "--width", "4"]


def _where_there(jobs: Mapping[str, Iterable[str]]) -> Iterator[list[str]]:
    """Yield the benchmarks that the checkout has."""
    yield from ([name, *words] for name, words in jobs.items() if (SPEED / f"{name}.py").exists())


def paper(means: Means) -> Iterator[Step]:
    """Yield a sweep for each line of the table; a toy of each suite on enlarged digits."""
    lines = read_table(TABLE)
    if means.toy:
        lines = [line for line in lines if line.profile == "paper" and not line.only][:2]
    for number, line in enumerate(lines, start=1):
        size = _toy_size() if means.toy else (*_size(line), "--time-limit", f"{SECONDS}s")
        yield Step(
            f"{number} {Path(line.suite).stem}",
            (*_CLI, "sweep", line.suite, "--device", means.device, "--offline", *size),
        )


def _size(line: Line) -> tuple[str, ...]:
    only = (word for place in line.only for word in ("--only", place))
    return (
        "--profile", line.profile, "--seeds", str(line.seeds), "--workers", str(line.workers),
        *only,
    )  # fmt: skip


def _toy_size() -> tuple[str, ...]:
    data = ("name=digits", "image_size=32", "train_size=200", "test_size=100")
    return (
        "--profile", "smoke", "--seeds", "1", "--workers", "1",
        *(word for text in data for word in ("--set", f"data.{text}")),
    )  # fmt: skip
