"""Two records side by side: which numbers differ, times apart."""

from __future__ import annotations

import math
from typing import Any

from fedbench.bench.records import Record

#: Parts of a record that a reproduction must match; everything else is times and places.
COMPARED = ("data", "partition", "metrics", "curves", "shared_pixels", "outputs")
_LEDGER = ("rounds", "bytes_up", "bytes_down", "payload_up", "payload_down", "traffic")

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
    """Return which results of two records differ."""
    return differences(results(one), results(other))


def surroundings(one: Record, other: Record) -> list[Difference]:
    """Return what differs in device, threads, versions and commit."""
    return differences(one.environment, other.environment)
