"""Which records stand in a paper's table: those of one data set are alike, or are marked."""

import functools
from pathlib import Path

import pytest
from made_records import record

from fedbench.report.board import read_board
from fedbench.report.comparisons import comparisons
from fedbench.report.paper import texts, words
from fedbench.report.paper.build import choose as choose_source
from fedbench.report.paper.build import documents_of
from fedbench.report.paper.choice import choose, describe
from fedbench.report.paper.match import Match, candidates
from fedbench.report.paper.pool import Group, boards, over_runs, read_pool, result
from fedbench.report.paper.pool import group as grouped
from fedbench.report.paper.spec import Cell, read_sources, tables_folder

BOARDS = Path(__file__).parents[2] / "leaderboards"
SOURCES = [path.stem for path in sorted(tables_folder().glob("*.yaml"))]
SPLIT = ("partition.beta", "partition.clients", "model", "model.width", "data.train_size")


@functools.cache
def groups():
    return read_pool(boards(BOARDS))


@functools.cache
def document(name):
    return documents_of(choose_source(read_sources(), name), groups())[0]


def sheet(source, table):
    return next(sheet for sheet in document(source).sheets if sheet.table.name == table)


@pytest.mark.parametrize("name", SOURCES)
def test_cells_of_a_data_set_are_alike_or_marked(name):
    for each in document(name).sheets:
        asked = {key for filled in each.cells for key in filled.cell.ours}
        if "partition.scheme" in asked:
            asked |= {"partition.beta"}
        alike = {}
        for filled in each.cells:
            if filled.group and not filled.apart:
                facts = filled.group.facts
                shared = {key: facts.get(key) for key in SPLIT if key not in asked}
                alike.setdefault(facts["dataset"], []).append(shared)
        for dataset, found in alike.items():
            assert all(one == found[0] for one in found), (each.table.name, dataset)


@pytest.mark.parametrize("name", SOURCES)
def test_records_of_another_data_set_have_its_name_beside_them(name):
    for each in document(name).sheets:
        for filled in each.cells:
            if filled.group and filled.numbers:
                asked = filled.numbers[0].dataset
                dataset = filled.group.facts["dataset"]
                assert (dataset == asked) != (dataset in words.ours(filled))


@pytest.mark.parametrize("name", SOURCES)
def test_records_stand_in_one_cell_of_a_table_unless_it_describes_them_twice(name):
    for each in document(name).sheets:
        seen = {}
        for filled in each.cells:
            if filled.group:
                count = len(filled.choice.match.deviations)
                assert seen.setdefault(filled.group.ids, count) == count


def test_an_ablation_compares_rows_of_one_board():
    table = sheet("fedlmg", "guidance")
    column = [filled for filled in table.cells if filled.cell.column == ("digits, label skew",)]
    assert {filled.group.facts["partition.beta"] for filled in column} == {"0.3"}
    assert {filled.group.facts["method.images_per_class"] for filled in column} == {"20"}
    assert not any(filled.apart for filled in column)


def test_a_row_apart_is_marked_and_says_first_how():
    table = sheet("dense", "table_1")
    filled = next(
        each
        for each in table.cells
        if each.cell.row == "FedAvg" and each.cell.column == ("MNIST", "α=.3")
    )
    assert filled.apart
    assert str(filled.deviations[0]).endswith("(others: all)")
    assert any(one.there == "paper" for one in filled.deviations)
    line = next(
        line for line in texts.to_markdown(document("dense")).splitlines() if "| FedAvg |" in line
    )
    assert "(3) ◊ <sup>" in line


def test_a_batch_of_512_is_not_shown_by_records_of_32():
    table = sheet("single_image", "budgets")
    cells = {
        (each.cell.row, each.cell.column[-1]): each for each in table.cells if each.ours is not None
    }
    for batch in ("32", "512"):
        shown = cells[f"one image (0.5 M px), batch {batch}", "after round 1"]
        assert shown.group.facts["method.batch_size"] == batch


def group(board, profile="quick", **facts):
    """Return a group whose facts alone count."""

    class Told:
        def __init__(self, seed):
            self.cell_id, self.profile = f"{board}-{sorted(facts.items())}-{seed}", profile
            self.settings, self.about = {"method": {"name": "m"}}, {}

    base = {"dataset": "digits", "partition.scheme": "iid", "method": "m", "preset": "none"}
    return Group(board, (Told(0), Told(1)), {**base, **facts})


def cell(row, **ours):
    return Cell(
        table="t",
        row=row,
        column=("c",),
        number={},
        ours={"method": "m", **ours},
        paper={},
        metric="accuracy",
        published=True,
        absent="",
    )


def chosen(cells, pool, *, alone=True):
    places = {(i, 0): each for i, each in enumerate(cells)}
    answers = {
        place: candidates(each.ours, each.paper, None, pool) for place, each in places.items()
    }
    found, _ = choose(places, answers, alone=alone)
    return {
        i: (choice.match.group.board, list(map(str, choice.apart)))
        for (i, _), choice in found.items()
    }


ASKED = [{"method.x": value} for value in (1, 2, 3)]


def test_the_block_that_answers_most_cells_is_taken():
    pool = [
        group("narrow", **{"method.x": "1", "model.width": "8"}),
        *[group("wide", **{"method.x": x, "model.width": "32"}) for x in "123"],
    ]
    found = chosen([cell(str(i), **asked) for i, asked in enumerate(ASKED)], pool)
    assert found == {0: ("wide", []), 1: ("wide", []), 2: ("wide", [])}


def test_what_the_block_lacks_comes_from_elsewhere_and_says_how_it_differs():
    pool = [
        *[group("wide", **{"method.x": x, "model.width": "32"}) for x in "12"],
        group("narrow", **{"method.x": "3", "model.width": "8"}),
    ]
    cells = [cell(str(i), **asked) for i, asked in enumerate(ASKED)]
    assert chosen(cells, pool)[2] == ("narrow", ["width 8 (others: 32)"])
    assert 2 not in chosen(cells, pool, alone=False)


def test_a_run_at_the_papers_size_is_not_hidden_by_its_column():
    pool = [
        *[group("quick", **{"method.x": x, "model.width": "32"}) for x in "1234"],
        group("paper", "paper", **{"method.x": "1", "model.width": "8"}),
    ]
    found = chosen([cell(x, **{"method.x": x}) for x in "1234"], pool)
    assert found[0] == ("paper", ["width 8 (others: 32)"])
    assert [found[i] for i in (1, 2, 3)] == [("quick", [])] * 3


def test_other_settings_of_a_method_are_told():
    pool = [
        *[group("one", **{"method.x": x, "method.y": "5"}) for x in "12"],
        group("one", **{"method.x": "3", "method.y": "9"}),
    ]
    found = chosen([cell(str(i), **asked) for i, asked in enumerate(ASKED)], pool)
    assert found[2] == ("one", ["y 9 (others: 5)"])


def test_records_are_left_where_they_deviate_least():
    near = Match(group("one", **{"method.x": "1"}), ())
    far = Match(
        near.group,
        candidates(cell("b").ours, cell("b").paper, None, [near.group])[0].deviations * 2,
    )
    places = {(0, 0): cell("a"), (1, 0): cell("b")}
    found, _ = choose(places, {(0, 0): [near], (1, 0): [far]}, alone=True)
    assert list(found) == [(0, 0)]


def test_a_sources_runs_count_as_seeds():
    def split(legacy_seed, *accuracies, **settings):
        return [
            record(
                "fedavg",
                seed,
                accuracy,
                cell_id=f"{legacy_seed}-{seed}-{settings}",
                partition={"scheme": "dirichlet_per_client", "legacy_seed": legacy_seed},
                **settings,
            )
            for seed, accuracy in enumerate(accuracies)
        ]

    apart = [*split(42, 0.2), *split(84, 0.4, 0.6), *split(None, 0.9), *split(84, 0.1, beta=0.5)]
    own, other = grouped("own", apart), grouped("other", split(42, 0.3))
    found = over_runs([*own, *other], "partition.legacy_seed")
    shown = {
        (each.board, each.facts.get("partition.legacy_seed"), each.facts["partition.beta"]): [
            one.metrics["accuracy"] for one in each.records
        ]
        for each in found
    }
    assert shown == {
        ("own", "42, 84", "0.1"): [0.2, 0.4, 0.6],
        ("own", None, "0.1"): [0.9],
        ("own", "84", "0.5"): [0.1],
        ("other", "42", "0.1"): [0.3],
    }
    (joined,) = [each for each in found if len(each.records) == 3]
    assert result(joined, "accuracy").n == 3
    assert "legacy_seed=42, 84" in describe(joined)
    assert over_runs(own, "partition.shards") == own


def test_the_splits_of_the_logs_are_its_runs_in_the_tables_and_on_the_board():
    cells = [each for each in sheet("single_image", "budgets").cells if each.ours is not None]
    assert all(each.group.facts["partition.legacy_seed"] == "42, 84" for each in cells)
    for each in cells:
        splits = [one.settings["partition"]["legacy_seed"] for one in each.group.records]
        assert {*splits} == {42, 84}
        assert each.ours.n == len(splits)
    by_batch = {each.group.facts.get("method.batch_size"): each for each in cells}
    on_board = comparisons(read_board(BOARDS / "single_image_one_shot"))
    rows = [
        each.row
        for each in on_board
        if each.row and each.published.setting.endswith("distillation batch 512; after round 1")
    ]
    assert [row.values["n"] for row in rows] == [by_batch["512"].ours.n]
    assert rows[0].values["accuracy_mean"] == pytest.approx(by_batch["512"].ours.mean)
    assert rows[0].values["partition"].count("legacy_seed=42, 84") == 1
    assert len(rows[0].values["record_ids"].split()) == rows[0].values["n"]
