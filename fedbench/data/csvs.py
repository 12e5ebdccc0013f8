"""Csv files, plain or gzipped: opened, looked at, and named where they cannot be read.

Neither torch nor NumPy is imported, and pyarrow by ``table`` alone: a plan looks at headers.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from fedbench.data.apart import at
from fedbench.errors import DataError

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import csv as arrow

    from fedbench.data.sources import Sources

#: What people call the class, the surest name first; letter case and separators do not matter.
LABELS = (
    "attacktype",
    "attackcat",
    "attackcategory",
    "attack",
    "class",
    "label",
    "category",
    "target",
    "y",
)
#: What the standard library raises for a file that is cut short, of another encoding, or no csv.
_FAULTS = (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error)


def rows(sources: Sources, path: Path) -> list[list[str]]:
    """Return the fields of a file's rows; empty rows are left out.

    Raises:
        DataError: It cannot be read, or is empty.
    """
    with _opened(sources, path) as stream:
        found = [row for row in csv.reader(stream) if row]
    if not found:
        raise sources.fault(path, "is empty")
    return found


def header(sources: Sources, path: Path) -> list[str]:
    """Return the fields of a file's first row, without spaces around them.

    Raises:
        DataError: It cannot be read, or is empty.
    """
    with _opened(sources, path) as stream:
        names = [name.strip() for name in next(csv.reader(stream), [])]
    if not names:
        raise sources.fault(path, "is empty")
    return names


def table(
    sources: Sources, path: Path, names: list[str], convert: Callable[[], arrow.ConvertOptions]
) -> pyarrow.Table:
    """Return a file's columns.

    Args:
        sources: Gives errors.
        path: The file.
        names: Of its columns, in place of those in its first row.
        convert: Returns which columns are read, and as what.

    Raises:
        DataError: It cannot be read.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow

    try:
        return arrow.read_csv(
            path,
            read_options=arrow.ReadOptions(column_names=names, skip_rows=1),
            convert_options=convert(),
        )
    except (*_FAULTS, pa.ArrowException) as error:
        raise _unreadable(sources, path, error) from error


def label_of(columns: Sequence[str]) -> str | None:
    """Return the column that is the class, or None where no name says so."""
    known = {plain(name): name for name in reversed(columns)}
    return next((known[name] for name in LABELS if name in known), None)


def plain(name: str) -> str:
    """Return a column's name in small letters and digits alone."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def look(sources: Sources) -> None:
    """Refuse files that cannot be read: a layout's ``look``.

    Raises:
        DataError: With the first fault.
    """
    for file in sources.files:
        header(sources, file.path)


def look_at_flows(sources: Sources) -> None:
    """Refuse tables of flows without a header or a class: a layout's ``look``.

    Raises:
        DataError: With the first fault.
    """
    for file in sources.files:
        flows_header(sources, file.path)


def look_at_labels(sources: Sources) -> None:
    """Refuse tables without the layout's column of labels: a layout's ``look``.

    Raises:
        DataError: With the first fault.
    """
    for file in sources.files:
        labelled_header(sources, file.path)


def flows_header(sources: Sources, path: Path) -> list[str]:
    """Return the columns of a table of flows, one of which is the class by its name.

    Raises:
        DataError: There is no header or no class, or two columns have one name.
    """
    names = header(sources, path)
    if any(_is_number(name) for name in names):
        raise sources.fault(
            path,
            f"has no header: its first row is {', '.join(names[:5])}, ...; put the names of the "
            "columns into a first row (NSL-KDD's own files have none: the data set nsl_kdd)",
        )
    if label_of(names) is None:
        raise sources.fault(
            path,
            f"has no column of labels; call it `label`. Its columns are: {', '.join(names)}",
        )
    return _told_apart(sources, path, names)


def labelled_header(sources: Sources, path: Path) -> list[str]:
    """Return the columns of a table that has the layout's column of labels.

    Raises:
        DataError: It has not, or two columns have one name.
    """
    names, label = header(sources, path), sources.layout.labels if sources.layout else ""
    if label not in names:
        raise sources.fault(path, f"has no column {label!r}; its columns are: {', '.join(names)}")
    return _told_apart(sources, path, names)


def _told_apart(sources: Sources, path: Path, names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise sources.fault(
            path, f"has columns of one name: {', '.join(map(repr, twice))}; rename one of each"
        )
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@contextmanager
def _opened(sources: Sources, path: Path) -> Iterator[TextIO]:
    at(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as stream:
            yield stream
    except _FAULTS as error:
        raise _unreadable(sources, path, error) from error


def _unreadable(sources: Sources, path: Path, error: Exception) -> DataError:
    words = error.strerror if isinstance(error, OSError) and error.strerror else error
    return sources.fault(path, f"cannot be read: {words}")
