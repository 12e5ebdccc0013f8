"""`fedbench diff`: two records or two suites side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedbench.cli.options import AsJson
from fedbench.errors import SettingsError
from fedbench.session.console import print_json, stdout
from fedbench.session.lookup import find_record, find_suite, records_like

if TYPE_CHECKING:
    from fedbench.bench.records.compare import Difference
    from fedbench.bench.records.record import Record

#: Lines of one section that are printed; --json has them all.
SHOWN = 20
_THING = "a record's file, a cell id or its beginning, or a suite's name, file or folder"


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(diff)


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help=f"{_THING.capitalize()}.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another of the same kind.")],
    as_json: AsJson = False,
) -> None:
    """Compare two records or two suites: settings, numbers, times, environment.

    The exit code is 0 if settings and numbers agree and 1 if not; times and environment may differ.

    Example: fedbench diff digits leaderboards/digits
    """
    records = [_record(text) for text in (one, other)]
    if None not in records:
        found = _diff_records(*(record for record in records if record is not None))
    else:
        for text, record in zip((one, other), records, strict=True):
            if record is not None:
                raise SettingsError(
                    f"{text!r} is a record and the other is none; compare two records or two suites"
                )
        found = _diff_suites(find_suite(one), find_suite(other))
    if as_json:
        print_json({"a": one, "b": other, **found})
    else:
        _print(found, one, other)
    if not found["equal"]:
        raise typer.Exit(1)


def _diff_records(one: Record, other: Record) -> dict[str, Any]:
    from fedbench.bench.records.compare import diff_records

    found = diff_records(one, other)
    sections = {name: _places(values) for name, values in vars(found).items()}
    return {"kind": "records", "equal": found.equal, **sections}


def _diff_suites(one: Path, other: Path) -> dict[str, Any]:
    from fedbench.bench.records.compare import diff_cells
    from fedbench.report.board import read_board
    from fedbench.report.diff import row_changes, rows_only_in

    boards = read_board(one), read_board(other)
    records = [
        {record.cell_id: record for record in (*board.good, *board.failed)} for board in boards
    ]
    cells = diff_cells(*records)
    changes = row_changes(*boards)
    return {
        "kind": "suites",
        "equal": not (cells.only_one or cells.only_other or cells.differing or changes),
        "common_cells": cells.common,
        "cells_only_in_a": _named(cells.only_one, records[0]),
        "cells_only_in_b": _named(cells.only_other, records[1]),
        "rows_only_in_a": rows_only_in(*boards),
        "rows_only_in_b": rows_only_in(*boards[::-1]),
        "differing_cells": {
            f"{name} {_name(records[0][name])}": _places(numbers)
            for name, numbers in cells.differing.items()
        },
        "rows": [asdict(change) for change in changes],
    }


def _record(text: str) -> Record | None:
    """Return the record that a word means, or None where it means a suite.

    Raises:
        SettingsError: It is the beginning of several cells' ids, or means nothing.
    """
    path = Path(text)
    if path.is_dir() or path.suffix in (".yaml", ".yml"):
        return None
    if not path.is_file() and not records_like(text):
        with suppress(SettingsError):
            find_suite(text)
            return None
    return find_record(text, _THING)[1]


def _places(values: Iterable[Difference]) -> list[dict[str, object]]:
    return [{"place": place, "a": one, "b": other} for place, one, other in values]


def _named(ids: Sequence[str], records: Mapping[str, Record]) -> list[str]:
    return [f"{name} {_name(records[name])}" for name in ids]


def _name(record: Record) -> str:
    from fedbench.report.labels import cell_label

    return cell_label(record.settings)


def _print(found: Mapping[str, Any], one: str, other: str) -> None:
    if found["kind"] == "records":
        for name in ("settings", "numbers", "times", "environment"):
            heading = "times (differ from run to run)" if name == "times" else name
            _section(heading, [_arrow(entry) for entry in found[name]])
    else:
        for side, name in (("a", one), ("b", other)):
            _section(f"cells only in {name}", found[f"cells_only_in_{side}"])
        _section(
            "cells with other numbers",
            [
                f"{name}: {_arrow(_first(places))}{_more(places)}"
                for name, places in found["differing_cells"].items()
            ],
        )
        _section("rows with other means", [_row(change) for change in found["rows"]])
    words = "agree" if found["equal"] else "differ"
    stdout.print(f"Settings and numbers {words}.", highlight=False)


def _section(heading: str, lines: Sequence[str]) -> None:
    from rich.text import Text

    if not lines:
        return
    stdout.print(Text(heading, "bold"))
    for line in lines[:SHOWN]:
        stdout.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    if len(lines) > SHOWN:
        stdout.print(f"  and {len(lines) - SHOWN} more; --json has them all", highlight=False)


def _first(places: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the difference that says most: in accuracy, if there is one."""
    return next((entry for entry in places if entry["place"] == "metrics.accuracy"), places[0])


def _more(places: Sequence[object]) -> str:
    return f", and {len(places) - 1} more" if len(places) > 1 else ""


def _arrow(entry: Mapping[str, Any]) -> str:
    return f"{entry['place']}: {_pair(entry['a'], entry['b'])}"


def _row(change: Mapping[str, Any]) -> str:
    values = "; ".join(f"{name} {_pair(*pair)}" for name, pair in change["values"].items())
    return f"{change['label']}, {change['partition']}: {values}"


def _pair(one: object, other: object) -> str:
    """Write two values with as many digits as tell them apart."""
    if isinstance(one, float) and isinstance(other, float) and f"{one:.6g}" != f"{other:.6g}":
        return f"{one:.6g} → {other:.6g}"
    return f"{_value(one)} → {_value(other)}"


def _value(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
