"""Paired differences: two rows over the seeds that both have.

Rows of a block share partition, initialisation and batches for each seed, so the difference of two
methods varies less than either of them, and a small gain can show that two standard deviations
side by side would hide.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedbench.bench.records.about import STAR
from fedbench.errors import SettingsError, did_you_mean
from fedbench.report.csvs import to_csv
from fedbench.report.frame import SETTING, Row, Value, blocks

COLUMNS = (
    *SETTING,
    "method",
    "preset",
    "settings",
    "reference",
    "paired_mean",
    "paired_std",
    "paired_n",
    "seeds",
)


@dataclass(frozen=True)
class Paired:
    """A row's difference to another over shared seeds.

    Attributes:
        mean: Of the differences in accuracy, this row's minus the other's.
        std: Sample standard deviation of the differences; None for one seed.
        seeds: The shared ones, ascending.
    """

    mean: float
    std: float | None
    seeds: tuple[int, ...]


def paired(row: Row, other: Row) -> Paired | None:
    """Return the paired difference of two rows, or None where they share no seed.

    A seed is shared where both rows have an accuracy of it, on the same data and partition.
    """
    ours, theirs = row.accuracies, other.accuracies
    splits, their_splits = _splits(row), _splits(other)
    seeds = [
        seed for seed in sorted(ours.keys() & theirs.keys()) if splits[seed] == their_splits[seed]
    ]
    if not seeds:
        return None
    return difference(ours, theirs, seeds)


def difference(
    ours: Mapping[int, float], theirs: Mapping[int, float], seeds: Sequence[int]
) -> Paired:
    """Return the paired difference of accuracies by seed, over seeds that both have."""
    gaps = [ours[seed] - theirs[seed] for seed in seeds]
    std = statistics.stdev(gaps) if len(gaps) > 1 else None
    return Paired(statistics.fmean(gaps), std, tuple(seeds))


def reference(members: Sequence[Row], name: str) -> Row | None:
    """Return the row of a block that others are compared with, or None where it has none.

    Args:
        members: The block's rows.
        name: A row's label such as ``fedavg (one_shot)``, with or without its star, or a method's
            name.

    Raises:
        SettingsError: Several rows of the block are of that method.
    """
    found: list[Row] = []
    for key in (_label, _starless, _method):  # the first that any row has
        found = found or [row for row in members if key(row) == name]
    if len(found) > 1:
        names = ", ".join(repr(row.values["label"]) for row in found)
        raise SettingsError(
            f"{name!r}, to compare the others with, means {len(found)} rows; say which: {names}"
        )
    return found[0] if found else None


def check_reference(rows: Iterable[Row], name: str) -> None:
    """Refuse a reference that no row has.

    Raises:
        SettingsError: With the labels there are.
    """
    rows = list(rows)
    names = sorted({key(row) for row in rows for key in (_label, _method)})
    if name not in {*names, *map(_starless, rows)}:
        raise SettingsError(
            f"{name!r}, to compare the others with: no row has that name"
            f"{did_you_mean(name, names)}; there are: {', '.join(names) or 'no rows yet'}"
        )


def _label(row: Row) -> str:
    return str(row.values["label"])


def _starless(row: Row) -> str:
    return _label(row).replace(STAR, "")


def _method(row: Row) -> str:
    return str(row.values["method"])


def to_paired_csv(rows: Iterable[Row], name: str) -> str:
    """Return ``paired.csv``: each block's rows against its row of that name."""
    lines: list[dict[str, Value]] = []
    for head, members in blocks(rows):
        other = reference(members, name)
        for row in members:
            found = paired(row, other) if other is not None and row is not other else None
            if other is not None and found is not None:
                lines.append(
                    {
                        **row.values,
                        "budget_pixels": head["budget_pixels"],
                        "budget_scope": head["budget_scope"],
                        "reference": other.values["label"],
                        "paired_mean": found.mean,
                        "paired_std": found.std,
                        "paired_n": len(found.seeds),
                        "seeds": " ".join(map(str, found.seeds)),
                    }
                )
    return to_csv(COLUMNS, lines)


def _splits(row: Row) -> dict[int, tuple[object, object]]:
    """Return digests of data and partition by seed."""
    return {
        record.settings["seed"]: (record.data.get("fingerprint"), record.partition.get("digest"))
        for record in row.records
    }
