"""Numbers from papers: CSV files in ``leaderboards/published/``, whose README defines columns."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Literal, cast, get_args

from fedbench.errors import StoreError

Selection = Literal["best", "last", "unknown"]

#: The split of a number whose training set was not divided, so that no scheme differs from it.
NOT_SPLIT = "not split"
#: Columns of the files that may be empty.
_OPTIONAL = ("preset", "std", "n", "where", "theirs", "note", "metric")
#: Columns that a table's query may ask for.
_ASKED = ("method", "preset", "dataset", "split", "selection", "source", "setting")


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
        where: Settings of the paper by dotted name that tell it from others.
        theirs: Further ones.
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

    @cached_property
    def facts(self) -> dict[str, str | None]:
        """What a table's query may ask for, by name, as text."""
        return {
            **self.theirs,
            **self.where,
            **{name: getattr(self, name) for name in _ASKED},
            "n": None if self.n is None else str(self.n),
        }


#: Columns of the files; the last one only where numbers are no accuracies of a final model.
FILE_COLUMNS = tuple(each.name for each in fields(Published))


def published_folder() -> Path:
    """Return the folder of published numbers: in the installed package, or in the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "leaderboards" / "published"
    return installed if installed.is_dir() else package.parent / "leaderboards" / "published"


def read_numbers(folder: Path | None = None) -> dict[str, list[Published]]:
    """Read all published numbers by file, in order of name.

    Args:
        folder: Of files; the project's own by default.

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
    return {path.stem: _read_file(path) for path in files}


def _read_file(path: Path) -> list[Published]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        head = tuple(reader.fieldnames or ())
        if head not in (FILE_COLUMNS, FILE_COLUMNS[:-1]):
            raise StoreError(f"{path}: the head line has to be {','.join(FILE_COLUMNS[:-1])}")
        found = []
        for line in reader:
            try:
                found.append(_parse(_whole(line)))
            except (ValueError, TypeError, AttributeError) as error:
                raise StoreError(f"{path}, line {reader.line_num}: {error}") from error
    return found


def _whole(line: dict[str, str]) -> dict[str, str]:
    """Return a line that has a value for each column; the reader has None in place of others."""
    if None in line:
        raise ValueError("more values than columns; put one with a comma in double quotes")
    if None in line.values():
        raise ValueError("fewer values than columns; end it with as many commas as the head has")
    return line


def _parse(line: dict[str, str]) -> Published:
    empty = [name for name in FILE_COLUMNS if name not in _OPTIONAL and not line[name]]
    if empty:
        raise ValueError(f"{', '.join(empty)} must not be empty")
    accuracy, metric = float(line["accuracy"]), line.get("metric") or "accuracy"
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
