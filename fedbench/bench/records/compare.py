"""Two records, or the records of two suites, side by side: what differs, times apart."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedbench.bench.records.record import Record

#: Parts of a record that a reproduction must match; everything else is times and places.
COMPARED = (
    "data",
    "partition",
    "metrics",
    "curves",
    "shared_pixels",
    "label_bytes",
    "resources",
    "privileges",
    "control",
    "deterministic",
    "outputs",
)
_TIMES = ("wall_seconds", "evaluation_seconds", "waiting_seconds")
_MEMORY = ("peak_memory_bytes", "peak_device_memory_bytes")
_LEDGER = (
    "rounds",
    "bytes_up",
    "bytes_down",
    "payload_up",
    "payload_down",
    "bytes_busiest_client",
    "traffic",
)

#: What may differ where equal bits are not promised: an accuracy, or a share of images, by so much;
#: any other measurement by this share of it.
ACCURACY, SHARE = 0.02, 0.1  # fedbench: a judgement; no method withdraws the promise yet
#: Places of numbers that are measured on a trained model.
_MEASURED = re.compile(r"(metrics|curves)\b")
_LIKELIHOOD = re.compile(r"\bnll$")

Difference = tuple[str, object, object]


def differences(one: object, other: object, place: str = "") -> list[Difference]:
    """Return the places at which two trees of JSON values differ, with both values.

    Two NaNs are equal; numbers are compared exactly.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        return [
            found
            for key in keys
            for found in differences(
                one.get(key), other.get(key), f"{place}.{key}" if place else str(key)
            )
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            found
            for number, (left, right) in enumerate(zip(one, other, strict=True))
            for found in differences(left, right, f"{place}[{number}]")
        ]
    both_nan = (
        isinstance(one, float)
        and isinstance(other, float)
        and math.isnan(one)
        and math.isnan(other)
    )
    return [] if one == other or both_nan else [(place, one, other)]


def results(record: Record) -> dict[str, Any]:
    """Return the part of a record that equal settings must reproduce."""
    values = record.model_dump(mode="json")
    return {
        **{name: values[name] for name in COMPARED},
        "ledger": {name: values["ledger"].get(name) for name in _LEDGER},
    }


def compare(one: Record, other: Record) -> list[Difference]:
    """Return which results of two records differ, every digit.

    Where one of them promises no equal bits (``Record.deterministic``), measurements may differ by
    ``ACCURACY`` and ``SHARE``, and the outputs, which are named by their bits, are not compared.
    """
    found = differences(results(one), results(other))
    return found if one.deterministic and other.deterministic else list(filter(_beyond, found))


def _beyond(difference: Difference) -> bool:
    """Return whether two values differ by more than rounding in training explains."""
    place, before, after = difference
    if place.startswith("outputs."):
        return before is None or after is None
    if not _MEASURED.match(place) or not all(isinstance(x, float) for x in (before, after)):
        return True
    assert isinstance(before, float)
    assert isinstance(after, float)
    bound = SHARE * abs(before) if _LIKELIHOOD.search(place) else ACCURACY
    return not abs(before - after) <= bound


def surroundings(one: Record, other: Record) -> list[Difference]:
    """Return what differs in device, threads, versions and commit."""
    return differences(one.environment, other.environment)


@dataclass(frozen=True)
class RecordDiff:
    """What differs between two records: places, with the value in each.

    Attributes:
        settings: Settings, and versions of the parts.
        numbers: Results that equal settings reproduce: metrics, curves, bytes, outputs, status,
            what was given to the method, and whether it is a control.
        times: Seconds and memory, which differ from run to run.
        environment: Device, threads, versions of packages, commit.
    """

    settings: list[Difference]
    numbers: list[Difference]
    times: list[Difference]
    environment: list[Difference]

    @property
    def equal(self) -> bool:
        """Whether settings and numbers agree."""
        return not (self.settings or self.numbers)


def diff_records(one: Record, other: Record) -> RecordDiff:
    """Compare two records, of the same cell or of different ones."""
    return RecordDiff(
        settings=[
            *differences(one.settings, other.settings),
            *differences(one.versions, other.versions, "versions"),
        ],
        numbers=[
            *differences(one.status, other.status, "status"),
            *compare(one, other),
        ],
        times=differences(_times(one), _times(other)),
        environment=surroundings(one, other),
    )


def _times(record: Record) -> dict[str, Any]:
    values = record.model_dump(mode="json", include={*_TIMES, *_MEMORY})
    spent = {name: value for name, value in record.ledger.items() if name.endswith("_seconds")}
    return {**values, "ledger": spent}


@dataclass(frozen=True)
class CellsDiff:
    """What differs between the cells of two suites, by cell id.

    Attributes:
        only_one: Cells that only the first has a record of.
        only_other: Cells that only the second has a record of.
        differing: Cells of both whose numbers differ, and where.
        common: How many cells both have.
    """

    only_one: list[str]
    only_other: list[str]
    differing: dict[str, list[Difference]]
    common: int


def diff_cells(one: Mapping[str, Record], other: Mapping[str, Record]) -> CellsDiff:
    """Compare the records of two suites, given by cell id."""
    common = sorted(one.keys() & other.keys())
    found = {name: diff_records(one[name], other[name]).numbers for name in common}
    return CellsDiff(
        only_one=sorted(one.keys() - other.keys()),
        only_other=sorted(other.keys() - one.keys()),
        differing={name: numbers for name, numbers in found.items() if numbers},
        common=len(common),
    )
