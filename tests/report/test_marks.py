"""Which contender is best, second, or as good as the best."""

import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import record, row_of

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


@pytest.mark.parametrize("unknown", [math.nan, None])
def test_a_row_without_a_known_accuracy_is_last_and_not_ranked(unknown):
    found = rows([record("a", accuracy=unknown), record("b", accuracy=0.0), record("c")])
    assert [row.values["method"] for row in found] == ["c", "b", "a"]
    assert marks(found) == [Mark(1), Mark(2), Mark()]
    assert marks(found[2:]) == [Mark()]


def test_an_unknown_accuracy_adds_no_freedom():
    one = rows([record("a", seed, value) for seed, value in enumerate([0.2, 0.4, None])])[0]
    other = row_of([0.1, 0.3, 0.8, 0.9])
    assert pooled_std(one, other) == pytest.approx(pooled_std(row_of([0.2, 0.4]), other))


def test_a_row_that_lacks_usual_seeds_is_not_ranked_and_says_so():
    made = [record(name, seed, 0.5) for name in ("a", "b") for seed in range(3)]
    made += [record("a", 3, 0.5), record("early", 1, 0.9), record("many", 5, 0.8)]
    made += [record("many", seed, 0.4) for seed in range(3)]
    found = rows(made)
    assert [row.values["method"] for row in found if row.lacks_seeds] == ["early"]
    placed = {row.values["method"]: marks(found)[place].place for place, row in enumerate(found)}
    assert placed == {"early": None, "a": 1, "b": 1, "many": 1}
    text = tables.to_markdown(found)
    assert "| early | 90.00 | 1‡ |" in text
    assert "‡ lacks seeds" in text


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


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(shares, min_size=1, max_size=4), min_size=1, max_size=5))
def test_near_means_within_a_pooled_deviation_of_the_best(accuracies):
    made = (
        record(f"m{place}", seed, value)
        for place, values in enumerate(accuracies)
        for seed, value in enumerate(values)
    )
    members = sorted(rows(made), key=lambda row: row.values["method"])
    for row in members:  # each is to be ranked, whatever seeds the others have
        row.values["lacks_seeds"] = False
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
