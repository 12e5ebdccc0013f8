"""One's own rows beside a published board."""

from pathlib import Path

import pytest
from made_records import CONVNET, board_of, record, write_suite

from fedbench.bench.records.record import read_records
from fedbench.bench.suites.plan import entry_of, planned
from fedbench.bench.suites.planfile import write_plan
from fedbench.config import parse
from fedbench.errors import SettingsError
from fedbench.report import labels
from fedbench.report.beside import apart, beside, copy_records, finished, joined
from fedbench.report.board import read_board

BOARDS = Path(__file__).parents[2] / "leaderboards"


@pytest.fixture
def published(tmp_path):
    made = [record("fedavg", seed, 0.5) for seed in range(3)]
    made += [record("late", 0, status="failed")]
    return write_suite(tmp_path / "leaderboards" / "toy", made)


def own(**settings):
    return [record("mine", seed, 0.6, **settings) for seed in range(3)]


def test_a_row_stands_in_the_boards_block(published, tmp_path):
    folder = write_suite(tmp_path / "runs" / "mine", own())
    others = finished(published)
    plan = joined(board_of(own()).plan, others)
    copy_records(published, others, folder)
    write_plan(folder / "plan.json", plan)
    board = read_board(folder)
    assert [row.values["label"] for row in board.views] == ["mine", "fedavg"]
    assert len({row.block for row in board.views}) == 1
    assert apart(board_of(own()).plan, others) == []


def test_an_option_that_is_newer_than_the_boards_records_keeps_nothing_apart():
    newer = [record("mine", model={**CONVNET, "initialisation": None})]
    assert apart(board_of(newer).plan, board_of([record("fedavg")]).plan.cells) == []


@pytest.mark.parametrize("name", sorted(path.parent.name for path in BOARDS.glob("*/plan.json")))
def test_cells_of_today_stand_in_the_blocks_of_published_records(name):
    """A setting that has come since, with a default, would keep all new rows out of the board."""
    every = [found.settings for _, found in read_records(BOARDS / name / "records")]
    for then in {settings["method"]["name"]: settings for settings in every}.values():
        today = entry_of(planned(parse(then))).settings
        both = [labels.of_block(labels.flatten(settings)) for settings in (then, today)]
        assert labels.varying(both) == []


def test_only_finished_cells_come_along_and_ones_own_records_stay(published, tmp_path):
    mine = record("fedavg", 0, 0.9)  # the same cell, computed here
    folder = write_suite(tmp_path / "runs" / "mine", [mine])
    others = finished(published)
    assert {entry.settings["method"]["name"] for entry in others} == {"fedavg"}
    copy_records(published, others, folder)
    kept = {one.cell_id: one.metrics["accuracy"] for one in read_board(folder).good}
    assert kept == {mine.cell_id: 0.9}
    assert len(list((folder / "records").iterdir())) == 3
    assert len(joined(board_of([mine]).plan, others).cells) == 3


def test_only_blocks_and_budgets_of_ones_own_come_along(tmp_path):
    one, ten = {"ipc": 1}, {"ipc": 10}
    made = [record("fedavg"), record("union", **one), record("union", **ten)]
    made += [record("union", beta=0.5, **one), record("fedavg", beta=0.5)]
    board = write_suite(tmp_path / "leaderboards" / "toy", made)

    def comes(*mine):
        found = beside(board, board_of(mine).plan)
        assert {one.cell_id for _, one in found.records} == {e.cell_id for e in found.cells}
        return [made.index(one) for one in made if one.cell_id in {e.cell_id for e in found.cells}]

    assert comes(record("mine")) == [0, 1, 2]  # without a budget it stands under each of them
    assert comes(record("mine", **ten)) == [0, 2]
    assert comes(record("mine", **ten), record("mine", beta=0.5, **one)) == [0, 2, 3, 4]


def test_what_keeps_cells_apart_is_named(published):
    others = finished(published)
    assert apart(board_of(own(beta=0.5)).plan, others) == ["partition.beta=0.5, 0.1 there"]


def test_a_board_without_results_is_refused(tmp_path):
    empty = write_suite(tmp_path / "toy", [record("late", 0, status="failed")])
    with pytest.raises(SettingsError, match="no finished cell"):
        finished(empty)
