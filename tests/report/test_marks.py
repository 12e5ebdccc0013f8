"""Which contender is best, second, or as good as the best."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import row_of

from fedbench.report import tables
from fedbench.report.frame import rows
from fedbench.report.marks import Mark, marks, pooled_std

shares = st.integers(0, 10_000).map(lambda number: number / 10_000)


def test_best_second_and_near():
    members = [
        row_of([0.70, 0.72, 0.74], method="a"),  # 0.72 ± 0.02
        row_of([0.70, 0.71, 0.72], method="b"),  # 0.71 ± 0.01
        row_of([0.60, 0.60, 0.60], method="c"),
    ]
    assert marks(members) == [Mark(1), Mark(2, near=True), Mark(None)]


def test_controls_are_not_ranked():
    members = [
        row_of([0.9, 0.9, 0.9], method="centralised", control=True),
        row_of([0.5, 0.5, 0.5], method="a"),
    ]
    assert marks(members) == [Mark(), Mark(1)]
    assert marks(members[:1]) == [Mark()]


def test_what_is_printed_alike_has_one_place():
    members = [row_of([value], method=f"m{value}") for value in (0.500001, 0.5, 0.4)]
    assert [mark.place for mark in marks(members)] == [1, 1, 2]


def test_the_pooled_deviation_weighs_by_degrees_of_freedom():
    one, two = [0.1, 0.3], [0.2, 0.4, 0.9]
    expected = math.sqrt((statistics.variance(one) + 2 * statistics.variance(two)) / 3)
    assert pooled_std(row_of(one), row_of(two)) == pytest.approx(expected)
    assert pooled_std(row_of([0.5]), row_of(two)) == pytest.approx(statistics.stdev(two))


def test_without_a_second_seed_nothing_is_near():
    assert pooled_std(row_of([0.5]), row_of([0.5])) is None
    members = [row_of([0.5], method="a"), row_of([0.499], method="b")]
    assert [mark.near for mark in marks(members)] == [False, False]


@given(st.lists(st.lists(shares, min_size=1, max_size=4), min_size=1, max_size=5))
def test_near_means_within_a_pooled_deviation_of_the_best(accuracies):
    members = [row_of(values, method=f"m{place}") for place, values in enumerate(accuracies)]
    found = marks(members)
    leaders = [row for row, mark in zip(members, found, strict=True) if mark.place == 1]
    means = [round(100 * statistics.fmean(values), 2) for values in accuracies]
    assert [mark.place == 1 for mark in found] == [mean == max(means) for mean in means]
    second = max((mean for mean in means if mean < max(means)), default=None)
    assert [mark.place == 2 for mark in found] == [mean == second for mean in means]
    for row, mark in zip(members, found, strict=True):
        gaps = [
            (best.values["accuracy_mean"] - row.values["accuracy_mean"], pooled_std(row, best))
            for best in leaders
        ]
        if mark.near:
            assert any(spread is not None and gap <= spread for gap, spread in gaps)
        elif mark.place != 1:
            assert any(spread is None or gap > spread for gap, spread in gaps)


def test_tables_show_the_marks():
    members = [
        row_of([0.70, 0.72, 0.74], method="a"),
        row_of([0.70, 0.71, 0.72], method="b"),
        row_of([0.99, 0.99, 0.99], method="centralised", control=True),
    ]
    found = rows(record for row in members for record in row.records)
    text = tables.to_markdown(found)
    assert "| a | **72.00 ± 2.00** | 3 |" in text
    assert "| b | <u>71.00 ± 1.00 ≈</u> | 3 |" in text
    assert "| centralised † | 99.00 ± 0.00 | 3 |" in text
