"""The frames that a board is: lines of records, lines of rows."""

import math
import subprocess
import sys

import pandas as pd
import pytest
from made_records import board_of, record

from fedbench.report import latex, pivot, tables
from fedbench.report.board import Board
from fedbench.report.frame import blocks


@pytest.fixture(scope="module")
def board():
    made = [record("a", seed, 0.5 + seed / 10, options={"mu": 0.1}) for seed in range(3)]
    made += [record("centralised", seed, 0.9, control=True) for seed in range(2)]
    made += [record("b", 0, 0.4, ipc=1), record("c", 0, status="failed")]
    return board_of(made)


def test_a_line_for_each_good_record_with_its_settings(board):
    frame = board.records
    assert sorted(frame["cell_id"]) == sorted(one.cell_id for one in board.good)
    assert list(frame["seed"]) == sorted(frame["seed"])
    line = frame[(frame["method"] == "a") & (frame["seed"] == 2)].iloc[0]
    assert (line["accuracy"], line["method.mu"], line["partition.beta"]) == (0.7, 0.1, 0.1)
    assert line["bytes_total"] == 7500


def test_a_line_for_each_method_and_setting(board):
    frame = board.rows
    assert [*frame["label"]] == ["a", "b", "centralised"]
    assert set(tables.COLUMNS) <= set(frame)
    first = frame.iloc[0]
    assert (first["n"], first["accuracy_mean"], first["accuracy_std"]) == (
        3,
        pytest.approx(0.6),
        pytest.approx(0.1),
    )
    assert first["gap_to_centralised"] == pytest.approx(0.35)  # over the two seeds that both have
    assert pd.isna(first["budget_pixels"])
    assert frame.iloc[1]["budget_pixels"] == 10 * 16**2


def test_groups_over_settings_are_one_line(board):
    means = board.records.groupby(["method", "partition.beta"])["accuracy"].mean()
    assert means["a", 0.1] == pytest.approx(0.6)


def test_rows_as_objects_hold_none_for_what_is_missing(board):
    (row,) = [row for row in board.views if row.values["method"] == "b"]
    assert row.values["accuracy_std"] is None
    assert not any(isinstance(v, float) and math.isnan(v) for v in row.values.values())
    assert type(row.values["n"]) is int
    assert type(row.values["budget_pixels"]) is int


def test_no_record_is_an_empty_frame():
    empty = board_of([])
    assert (len(empty.records), len(empty.rows), empty.views) == (0, 0, [])
    assert {"accuracy", "method", "cell_id"} <= set(empty.records)
    assert {"accuracy_mean", "label"} <= set(empty.rows)


@pytest.mark.parametrize("arguments", [["--help"], ["status"], ["methods"]])
def test_what_shows_no_board_does_without_pandas(arguments, tmp_path):
    script = (
        "import sys; sys.argv[1:] = " + repr(arguments) + "\n"
        "from fedbench.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'pandas' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={"FEDBENCH_HOME": str(tmp_path)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_a_row_is_one_whatever_suites_its_seeds_are_of():
    """As with ``--beside``, where a board has seeds that the suite lacks."""
    own, joined = record("fedavg", 0, 0.5), record("fedavg", 1, 0.7)
    board = board_of([own, joined.model_copy(update={"suite": "another"}), record("local")])
    (row,) = [row for row in board.views if row.values["method"] == "fedavg"]
    assert row.values["suite"] == "another+toy"
    assert row.values["n"] == 2
    assert row.values["accuracy_mean"] == pytest.approx(0.6)


def test_the_worst_client_of_local_is_another_quantity():
    own = record("local", control=True)
    own = own.model_copy(update={"metrics": {**own.metrics, "own_mix": 0.8}})
    rows = board_of([own, record("a")]).rows.set_index("method")
    assert pd.isna(rows.loc["local", "worst_client_mean"])
    assert rows.loc["local", "own_worst_client_mean"] == pytest.approx(0.25)
    assert rows.loc["a", "worst_client_mean"] == pytest.approx(0.25)
    assert "| – |" in tables.to_markdown(board_of([own]).views)


def test_what_a_suite_overrides_is_in_the_row_its_name_and_every_table():
    options = {"rounds": 1, "steps": 10_000}
    made = board_of([record("feddf", preset="reference", options=options)])
    (row,) = made.views
    assert row.values["label"] == "feddf (reference*)"
    assert row.values["overrides"] == "rounds=1 (100)"
    assert "feddf (reference\\*): rounds=1 (100)" in tables.to_markdown(made.views)
    assert "rounds=1 (100)" in tables.to_csv(made.views)
    assert "feddf (reference*): rounds=1 (100)." in latex.to_latex(made.views, "toy")
    assert made.rows.loc[0, "overrides"] == "rounds=1 (100)"


def test_a_markdown_row_links_its_records():
    made = board_of([record("a", 0, cell_id="0123456789abcdef")])
    assert "[01234567](../records/0123456789abcdef.json) |" in tables.to_markdown(
        made.views, None, "../records/"
    )


def of_folder(path, seed=0, **others):
    cell_id = f"{sum(map(ord, path))}-{seed}"
    return record("a", seed, data={"name": "folder", "path": path}, cell_id=cell_id, **others)


def titles(board):
    return [tables.title(head) for head, _ in blocks(board.views)]


def test_a_block_of_a_folder_has_the_folders_name_and_not_where_it_lies():
    board = board_of([of_folder("/home/anna/photos", seed) for seed in range(2)])
    assert [title.partition(" · ")[0] for title in titles(board)] == ["folder photos"]
    assert "anna" not in tables.to_markdown(board.views)
    assert "anna" not in board.rows.drop(columns="records").to_csv()


def test_folders_of_one_name_have_their_parents_too_also_from_cells_that_have_not_run():
    paths = ("/home/anna/photos", "/home/ben/photos", "/home/ben/scans", "photos.csv")
    made = [of_folder(path) for path in paths]
    shown = [title.partition(" · ")[0] for title in titles(board_of(made))]
    assert shown == [
        "folder anna/photos", "folder ben/photos", "folder photos.csv", "folder scans",
    ]  # fmt: skip
    failed = of_folder(paths[0], status="failed")
    board = board_of([failed, *made[1:]])
    assert "folder ben/photos" in {*board.rows["dataset"]}
    assert [line["dataset"] for line in board.runs if line["status"] == "failed"] == [
        "folder anna/photos"
    ]


def test_the_axis_of_data_is_the_folder_where_that_varies():
    found = pivot.pivot(board_of([of_folder("x/one"), of_folder("x/two")]), "dataset")
    assert (found.axis, found.values) == ("data.path", ("one", "two"))
    assert [line.setting for line in found.lines] == [""]


def test_settings_that_a_record_is_too_old_to_name_are_those_of_its_plan():
    made = record("feddf", options={"initialisation": "feddf"})
    plan = board_of([made]).plan
    kept = {n: v for n, v in made.settings["method"].items() if n != "initialisation"}
    older = made.model_copy(update={"settings": {**made.settings, "method": kept}})
    (row,) = Board.of(plan, [older]).views
    assert row.settings["method.initialisation"] == "feddf"
