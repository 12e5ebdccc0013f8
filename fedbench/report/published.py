"""Numbers from papers beside ours: which row comes nearest, by how much it differs, and why.

The numbers are CSV files in ``leaderboards/published/`` (its README defines their columns). A row
of ours is comparable where it has the settings that a number names in ``where``; whatever else
differs is a reason to expect another number, and is listed as one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from fedbench.errors import StoreError
from fedbench.report.board import Board
from fedbench.report.csvs import to_csv
from fedbench.report.frame import Row, Value

Selection = Literal["best", "last", "unknown"]

#: The split of a number whose training set was not divided, so that no scheme differs from it.
NOT_SPLIT = "not split"
#: Presets that are settings of one thing; any other that is published is a thing of its own.
_ALIKE = (None, "reference", "fedbench")
#: Columns of the files that may be empty.
_OPTIONAL = ("preset", "std", "n", "where", "theirs", "note", "metric")
FILE_COLUMNS = (
    "method",
    "preset",
    "dataset",
    "setting",
    "accuracy",
    "std",
    "n",
    "split",
    "selection",
    "source",
    "where",
    "theirs",
    "note",
)
#: May stand after them in the files whose numbers are no accuracies of a final model.
METRIC_COLUMN = "metric"
COLUMNS = (
    "dataset",
    "method",
    "preset",
    "setting",
    "split",
    "selection",
    "published",
    "published_std",
    "published_n",
    "ours",
    "ours_std",
    "n",
    "difference",
    "row",
    "partition",
    "profile",
    "reasons",
    "source",
    "record_ids",
)


@dataclass(frozen=True)
class Published:
    """A number from a paper.

    Attributes:
        method: Our name of the method.
        preset: Our preset that comes nearest, if any.
        dataset: Our name of the data set, or the paper's where we do not have it.
        setting: What was measured, for people.
        accuracy: In [0, 1]; of another metric, what that is.
        std: What the source gives after ±, in [0, 1].
        n: Runs or seeds.
        split: Our scheme's name, or what the paper says.
        selection: Whether the best or the last test accuracy of a run is meant.
        source: Citation, with the table, figure or log.
        where: Settings that a row of ours must have to be comparable, by dotted name.
        theirs: Further settings of the paper; a row that differs in one has a reason to.
        note: What else a reader has to know.
        metric: ``accuracy``, or what the number is else (see ``report.paper.pool.METRICS``); only
            accuracies are set beside rows of a board.
    """

    method: str
    preset: str | None
    dataset: str
    setting: str
    accuracy: float
    std: float | None
    n: int | None
    split: str
    selection: Selection
    source: str
    where: dict[str, str]
    theirs: dict[str, str] = field(default_factory=dict)
    note: str = ""
    metric: str = "accuracy"


@dataclass(frozen=True)
class Comparison:
    """A published number and the row of ours that comes nearest.

    Attributes:
        published: The number.
        row: Ours; None where no comparable cell has run.
        difference: Ours minus theirs.
        reasons: Why they may differ; where there is no row, what is missing.
    """

    published: Published
    row: Row | None
    difference: float | None
    reasons: tuple[str, ...]


def published_folder() -> Path:
    """Return the folder of published numbers: in the installed package, or in the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "leaderboards" / "published"
    return installed if installed.is_dir() else package.parent / "leaderboards" / "published"


def read_published(folder: Path | None = None) -> list[Published]:
    """Read all published numbers, file by file in order of name.

    Raises:
        StoreError: The folder has no file, or a line is damaged; the message has file and line.
    """
    folder = folder or published_folder()
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise StoreError(
            f"there are no published numbers (*.csv) in {folder}; reinstall fedbench, or run it "
            "from a whole checkout"
        )
    return [number for path in files for number in read_file(path)]


def comparisons(board: Board, folder: Path | None = None) -> list[Comparison]:
    """Set the published numbers of a board's data sets beside its rows.

    Args:
        board: A suite's plan, records and rows.
        folder: Of published numbers; the project's own by default.

    Returns:
        One for each number on a data set of the plan, those with a row first, else in the order of
        the files.

    Raises:
        StoreError: See ``read_published``.
    """
    datasets = {str(entry.settings["data"]["name"]) for entry in board.plan.cells}
    numbers = read_published(folder)
    others = {(number.method, number.preset) for number in numbers} - {
        (number.method, preset) for number in numbers for preset in _ALIKE
    }
    found = [
        _compare(number, _of_its_kind(number, board.views, others))
        for number in numbers
        if number.dataset in datasets and number.metric == "accuracy"
    ]
    return sorted(found, key=lambda comparison: comparison.row is None)


def to_published_csv(found: Iterable[Comparison]) -> str:
    """Return ``published.csv``: a line for each comparison, accuracies in [0, 1]."""
    return to_csv(COLUMNS, (_line(comparison) for comparison in found))


def _line(found: Comparison) -> dict[str, Value]:
    number, ours = found.published, found.row.values if found.row else {}
    return {
        "dataset": number.dataset,
        "method": number.method,
        "preset": number.preset,
        "setting": number.setting,
        "split": number.split,
        "selection": number.selection,
        "published": number.accuracy,
        "published_std": number.std,
        "published_n": number.n,
        "ours": ours.get("accuracy_mean"),
        "ours_std": ours.get("accuracy_std"),
        "difference": found.difference,
        "row": ours.get("label"),
        **{name: ours.get(name) for name in ("n", "partition", "profile", "record_ids")},
        "reasons": "; ".join(found.reasons),
        "source": number.source,
    }


def _of_its_kind(
    number: Published, rows: Iterable[Row], others: Collection[tuple[str, str | None]]
) -> list[Row]:
    """Return the rows of a number's method, in the variant that the number is of.

    ``others`` are presets that some published number names as another thing than the method, as
    one-shot FedAvg is and DAFL in DENSE's loop: they stand beside nothing but themselves.
    """
    own = (number.method, number.preset) in others

    def fits(row: Row) -> bool:
        presets = str(row.values["preset"]).split("+")
        named = {preset for method, preset in others if method == number.method} & {*presets}
        return number.preset in named if own else not named

    return [row for row in rows if row.values["method"] == number.method and fits(row)]


def _compare(number: Published, rows: Iterable[Row]) -> Comparison:
    candidates = [
        (_reasons(number, row), row)
        for row in rows
        if row.values["dataset"] == number.dataset and not _differing(number.where, _facts(row))
    ]
    if not candidates:
        wanted = " ".join(f"{place}={value}" for place, value in number.where.items())
        name = number.method + ("" if number.preset in _ALIKE else f" ({number.preset})")
        return Comparison(
            number, None, None, (f"not run: no {name} with {wanted or 'any settings'}",)
        )
    reasons, row = min(candidates, key=lambda pair: _distance(number, *pair))
    mean = row.values["accuracy_mean"]
    difference = None if mean is None else float(mean) - number.accuracy
    return Comparison(number, row, difference, reasons)


def _distance(number: Published, reasons: tuple[str, ...], row: Row) -> tuple[object, ...]:
    """Order rows by how near their settings come to a number's."""
    return (
        not _preset_fits(number, row),
        number.split not in (NOT_SPLIT, row.values["scheme"]),
        len(reasons),
        -int(row.values["n"] or 0),
        str(row.values["record_ids"]),
    )


def _preset_fits(number: Published, row: Row) -> bool:
    return number.preset is None or number.preset in str(row.values["preset"]).split("+")


def _reasons(number: Published, row: Row) -> tuple[str, ...]:
    scheme, n = str(row.values["scheme"]), int(row.values["n"] or 0)
    profile, facts = row.values["profile"], _facts(row)
    found = []
    if not _preset_fits(number, row):
        found.append(f"preset {row.values['preset'] or 'none'} here, {number.preset} there")
    if number.split not in (NOT_SPLIT, scheme):
        found.append(f"split {scheme} here, {number.split} there")
    if number.selection == "best":
        found.append("last step here, best on test there")
    if number.selection == "unknown":
        found.append("last step here, not stated there whether best or last")
    for name in _differing(number.theirs, facts):
        found.append(f"{name} {facts.get(name, 'not set')} here, {number.theirs[name]} there")
    withheld = facts.get("partition.validation", "0")
    if number.split == NOT_SPLIT and float(withheld) > 0:
        found.append(f"share {withheld} of the training images withheld here")
    if profile is not None and "paper" not in str(profile).split("+"):
        found.append(f"profile {profile} here, not paper")
    if "data.train_size" in facts:
        found.append(f"{facts['data.train_size']} training images here, all there")
    if number.n != n:
        there = "not stated" if number.n is None else number.n
        found.append(f"n {n} here, {there} there")
    return (*found, *([number.note] if number.note else []))


def _differing(wanted: dict[str, str], facts: dict[str, str]) -> list[str]:
    return [name for name, value in wanted.items() if not _same(value, facts.get(name))]


def _same(wanted: str, value: str | None) -> bool:
    if value is None:
        return False
    try:
        return float(wanted) == float(value)
    except ValueError:
        return wanted == value


def _facts(row: Row) -> dict[str, str]:
    """Return a row's settings as text, with some that follow from them.

    ``model`` joins the architectures' names by ``+``; ``model.OPTION`` is an option that all of
    them share; ``local_epochs`` are the method's epochs, or the recipe's where it has none;
    ``budget.ipc`` is known for a budget in pixels too.
    """
    facts = {name: str(value) for name, value in row.settings.items()}
    models = json.loads(facts.get("models", "[]"))
    facts["model"] = "+".join(model["name"] for model in models)
    for option in ("width", "depth", "norm", "initialisation"):
        values = {model.get(option) for model in models}
        if len(values) == 1 and None not in values:
            facts[f"model.{option}"] = str(values.pop())
    if "budget.pixels" in facts:
        data = row.records[0].data
        image = float(data["size"]) ** 2
        facts["budget.ipc"] = str(float(facts["budget.pixels"]) / len(data["classes"]) / image)
    epochs = facts.get("method.epochs", facts.get("recipe.epochs"))
    return facts if epochs is None else {**facts, "local_epochs": epochs}


def read_file(path: Path) -> list[Published]:
    """Read one file of published numbers.

    Raises:
        StoreError: A line is damaged; the message has file and line.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        head = tuple(reader.fieldnames or ())
        if head not in (FILE_COLUMNS, (*FILE_COLUMNS, METRIC_COLUMN)):
            raise StoreError(f"{path}: the head line has to be {','.join(FILE_COLUMNS)}")
        found = []
        for line in reader:
            try:
                found.append(_parse(line))
            except (ValueError, TypeError, AttributeError) as error:
                raise StoreError(f"{path}, line {reader.line_num}: {error}") from error
    return found


def _parse(line: dict[str, str]) -> Published:
    empty = [name for name in FILE_COLUMNS if not line[name] and name not in _OPTIONAL]
    if empty:
        raise ValueError(f"{', '.join(empty)} must not be empty")
    accuracy, metric = float(line["accuracy"]), line.get(METRIC_COLUMN) or "accuracy"
    if not -1 <= accuracy <= 1 or (metric == "accuracy" and accuracy < 0):
        raise ValueError(f"accuracy {accuracy} is not in [0, 1]; divide per cent by 100")
    if line["selection"] not in get_args(Selection):
        raise ValueError(f"selection {line['selection']!r} is none of {get_args(Selection)}")
    return Published(
        method=line["method"],
        preset=line["preset"] or None,
        dataset=line["dataset"],
        setting=line["setting"],
        accuracy=accuracy,
        std=float(line["std"]) if line["std"] else None,
        n=int(line["n"]) if line["n"] else None,
        split=line["split"],
        selection=cast(Selection, line["selection"]),
        source=line["source"],
        where=_assignments(line["where"]),
        theirs=_assignments(line["theirs"]),
        note=line["note"],
        metric=metric,
    )


def _assignments(text: str) -> dict[str, str]:
    pairs = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise ValueError(f"{word!r} is not written name=value")
        pairs[name] = value
    return pairs
