"""What a run of the lane leaves: a summary, a table, and the records in one archive."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from steps import Outcome

RECORDS = "records.tar.gz"
#: Of a suite's folder, what is needed to report and publish it elsewhere.
_KEPT = ("plan.json", "records/*.json", "records/*.failed", "report/published.csv")
#: Bytes of what unfinished cells have kept that travel as well, so that another GPU goes on there.
_IN_HAND = 12 << 20
Json = dict[str, Any]


def collect(out: Path, work: Path, home: Path, machine: Json, outcomes: Sequence[Outcome]) -> Json:
    """Write all files of the results anew and return the summary.

    Args:
        out: Their folder.
        work: What steps have left for the summary.
        home: Of the paper part's records.
        machine: Where it ran.
        outcomes: Of all steps so far.
    """
    summary = {
        "machine": machine,
        "steps": [asdict(outcome) for outcome in outcomes],
        "tests": {path.stem: tests(path) for path in sorted(work.glob("*.xml"))},
        "twice": _json(work / "twice.json"),
        "speed": [_json(path) for path in sorted((work / "speed").glob("*.json"))],
        "cells": list(cells(home)),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    (out / "table.md").write_text("\n".join(lines(summary)) + "\n")
    keep_records(home, out / RECORDS)
    return summary


def tests(report: Path) -> Json:
    """Return the counts of a JUnit report, and the names of what failed."""
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    names = ("tests", "failures", "errors", "skipped")
    counts = {name: sum(int(suite.get(name, 0)) for suite in suites) for name in names}
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for suite in suites
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return {**counts, "failed": failed}


def cells(home: Path) -> Iterator[Json]:
    """Yield what every record below a home says, in short."""
    for path in sorted(home.glob("*/records/*.json")):
        record = json.loads(path.read_text())
        settings = record["settings"]
        yield {
            "suite": record["suite"],
            "cell": record["cell_id"],
            "method": settings["method"]["name"],
            "preset": settings["method"].get("preset"),
            "dataset": settings["data"]["name"],
            "images": record["data"].get("train"),
            "partition": settings["partition"],
            "seed": settings["seed"],
            "status": record["status"],
            "reason": record.get("reason"),
            "accuracy": record["metrics"].get("accuracy"),
            "seconds": record["wall_seconds"],
            "peak_device_memory_bytes": record["peak_device_memory_bytes"],
            "device": record["environment"].get("device_name"),
            "commit": record["environment"].get("commit"),
        }


def keep_records(home: Path, archive: Path) -> None:
    """Pack the records of all suites below a home, and of cells in hand what they have kept.

    The smallest of these go first, as long as they fit.
    """
    part = archive.with_name(f".{archive.name}.part")
    with tarfile.open(part, "w:gz") as tar:
        for pattern in _KEPT:
            for path in sorted(home.glob(f"*/{pattern}")):
                tar.add(path, path.relative_to(home).as_posix())
        room = _IN_HAND
        for size, folder in sorted((_bytes(path), path) for path in home.glob("*/scratch/*")):
            room -= size
            if room >= 0:
                tar.add(folder, folder.relative_to(home).as_posix())
    part.rename(archive)


def _bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def restore_records(archive: Path, home: Path) -> int:
    """Unpack records of an earlier run, except where there is a file already.

    Returns:
        How many files were unpacked.
    """
    count = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and not (home / member.name).exists():
                tar.extract(member, home, filter="data")
                count += 1
    return count


def restore_published(boards: Path, suites: Iterable[str], home: Path) -> int:
    """Copy the records of published boards, except where there is a file already.

    Args:
        boards: The folder of all boards.
        suites: Whose records are wanted, if they have a board.
        home: Of the paper part's records.

    Returns:
        How many were copied.
    """
    count = 0
    for suite in suites:
        for source in sorted((boards / suite / "records").glob("*.json")):
            target = home / suite / "records" / source.name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                count += 1
    return count


def lines(summary: Json) -> Iterator[str]:
    """Yield the summary as Markdown."""
    machine = summary["machine"]
    yield f"# {machine['device']}, torch {machine['torch']}, Python {machine['python']}"
    for text in machine["unmet"]:
        yield f"- requirement: {text}"
    yield from _table(
        ("step", "status", "seconds"),
        (
            (f"{s['part']}/{s['step']}", s["status"], f"{s['seconds']:.1f}")
            for s in summary["steps"]
        ),
    )
    for name, found in summary["tests"].items():
        passed = found["tests"] - found["failures"] - found["errors"] - found["skipped"]
        skipped, failed = found["skipped"], found["failed"]
        yield f"\n{name}: {passed} passed, {skipped} skipped, {len(failed)} failed"
        yield from (f"- {each}" for each in failed)
    if (twice := summary["twice"]) is not None:
        yield from _table(
            ("twice", "status", "differences", "MB"),
            (
                (r["method"], r["status"], r["differences"], _mb(r["peak_device_memory_bytes"]))
                for r in twice
            ),
        )
    for board in summary["speed"]:
        if isinstance(board, dict):
            yield from _table(
                (board["title"], "value", "target"),
                ((r["name"], f"{r['value']:.3g} {r['unit']}", r["target"]) for r in board["rows"]),
            )
    if summary["cells"]:
        yield from _table(
            ("cell", "data", "seed", "status", "accuracy %", "seconds", "MB"),
            (_cell(cell) for cell in summary["cells"]),
        )


def _cell(cell: Json) -> tuple[object, ...]:
    preset = f" ({cell['preset']})" if cell["preset"] else ""
    shown = ("beta", "shards")
    skew = ", ".join(
        f"{name} {cell['partition'][name]}" for name in shown if name in cell["partition"]
    )
    accuracy = "" if cell["accuracy"] is None else f"{100 * cell['accuracy']:.2f}"
    return (
        f"{cell['suite']}: {cell['method']}{preset}, {skew}",
        f"{cell['dataset']}, {cell['images']} images",
        cell["seed"],
        cell["status"],
        accuracy,
        f"{cell['seconds']:.1f}",
        _mb(cell["peak_device_memory_bytes"]),
    )


def _mb(count: int | None) -> str:
    return f"{(count or 0) / 1e6:.0f}"


def _table(heads: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    yield ""
    for row in (heads, ["---"] * len(heads), *rows):
        yield "| " + " | ".join(str(value).replace("|", "/") for value in row) + " |"


def _json(path: Path) -> Any:  # noqa: ANN401  # whatever a step has written
    return json.loads(path.read_text()) if path.exists() else None
