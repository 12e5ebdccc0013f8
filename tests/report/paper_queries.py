"""What is wrong with a specification of tables: queries that nothing could ever answer."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from fedbench.errors import did_you_mean
from fedbench.report.paper.pool import Group
from fedbench.report.paper.spec import Cell, Query, Source
from fedbench.report.published import FILE_COLUMNS, Published

#: Whether a setting of that name exists for a method, by the method's name and the setting's.
Known = Callable[[str, str], bool]

#: What a query on published numbers may name besides settings. `says`: phrases of its `setting`.
_OF_NUMBERS = (
    *(name for name in FILE_COLUMNS[:-1] if name not in ("where", "theirs")),
    "says",
    "file",
)
#: What a query on records may name besides settings.
_OF_RECORDS = ("method", "dataset", "preset", "board")


#: Facts that every group has, and their names in a query.
DERIVED = (
    *("model", "model.width", "model.depth", "model.norm"),
    *("local_epochs", "budget.ipc", "public"),
)
#: Parts of a cell that are the same for every method.
_COMMON = ("data.", "partition.", "recipe.", "student.", "budget.", "evaluation.")
_COMMON_NAMES = ("participation", "precision", "models", *DERIVED)


def check(
    source: Source,
    numbers: Mapping[str, list[Published]],
    known: Known,
) -> list[str]:
    """Return what is wrong with a specification: queries that nothing could ever answer.

    Args:
        source: As read.
        numbers: Published numbers by file.
        known: Whether a method has a setting.
    """
    of_numbers = {
        name for lines in numbers.values() for n in lines for name in (*n.where, *n.theirs)
    }
    faults = [
        f"files: there is no {name}.csv{did_you_mean(name, numbers)}"
        for name in source.files
        if name not in numbers
    ]
    for table in source.tables:
        for _, _, cell in table.cells():
            if cell.published:
                faults += _unknown(cell, "number", cell.number, {*_OF_NUMBERS, *of_numbers})
            if not cell.absent:
                faults += _of_no_record(cell, known)
    return [f"{source.name}: {fault}" for fault in dict.fromkeys(faults)]


def _unknown(cell: Cell, part: str, query: Query, names: set[str]) -> Iterator[str]:
    for name in query:
        if name not in names:
            yield f"{cell.place}: {part} asks for {name!r}, which no published number has" + (
                did_you_mean(name, names)
            )


def _of_no_record(cell: Cell, known: Known) -> Iterator[str]:
    method = cell.ours.get("method")
    methods = [str(name) for name in (method if isinstance(method, list) else [method])]
    if method is None:
        yield f"{cell.place}: `ours` names no method"
        return
    for part, query in (("ours", cell.ours), ("paper", cell.paper)):
        for name in query:
            if name not in _OF_RECORDS and not any(known(each, name) for each in methods):
                yield (
                    f"{cell.place}: {part} asks for {name!r}, which no record of "
                    f"{' or '.join(methods)} can have"
                )


def known_from(groups: Iterable[Group], other: Known) -> Known:
    """Return whether a method has a setting: one of its records does, or else another source says.

    Args:
        groups: Of all boards.
        other: Asked for what no record has, since that is dearer.
    """
    seen: dict[str, set[str]] = {}
    for each in groups:
        seen.setdefault(each.facts["method"], set()).update(each.facts)
    common = set().union(*seen.values()) if seen else set()

    def known(method: str, name: str) -> bool:
        if name in _COMMON_NAMES or (name in common and name.startswith(_COMMON)):
            return True
        return name in seen.get(method, ()) or other(method, name)

    return known
