"""Two boards: rows whose means differ, matched by settings."""

import math

from made_records import board_of, record

from fedbench.report.diff import row_changes, rows_only_in


def board(accuracy=0.5, **settings):
    return board_of([record("fedavg", seed, accuracy, **settings) for seed in range(2)])


def test_equal_rows_do_not_differ_whatever_their_cells_are_called():
    assert row_changes(board(), board(cell_id="other")) == []


def test_means_that_differ_are_named_with_both_values():
    (change,) = row_changes(board(0.5), board(0.75))
    assert change.label == "fedavg"
    assert change.partition == "digits dirichlet_capped beta=0.1 min_size=10, K=5"
    assert change.values == {"accuracy_mean": (0.5, 0.75), "worst_client_mean": (0.25, 0.375)}


def test_rows_of_other_settings_are_not_compared():
    one, other = board(), board(0.9, recipe={"epochs": 5})
    assert row_changes(one, other) == []
    assert rows_only_in(one, other) == ["fedavg, digits dirichlet_capped beta=0.1 min_size=10, K=5"]
    assert rows_only_in(one, one) == []


def test_two_nans_do_not_differ():
    assert row_changes(board(math.nan), board(math.nan)) == []
    assert "accuracy_mean" in row_changes(board(math.nan), board(0.5))[0].values


def test_seconds_do_not_count():
    slow = board()
    for row in slow.views:
        row.values["client_seconds"] = 1e6
    assert row_changes(board(), slow) == []
