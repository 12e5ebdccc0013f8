"""Balanced accuracy: when tables have its column, and what stands in it, in each kind of table."""

import csv
import io
import math

import pytest
from made_records import board_of, record

from fedbench.report import columns, latex, tables
from fedbench.report.diff import row_changes
from fedbench.report.frame import rows
from fedbench.report.page import lines, page
from fedbench.report.tracking.content import of_board


def made(gap, other="collabdm", **settings):
    """Make records of which dense's two accuracies are ``gap`` apart, and the others' are equal."""
    return [
        record(
            name,
            seed,
            0.7 + seed / 100,
            balanced=0.69 + seed / 50 - (gap if name == "dense" else 0),
            control=name == "random_real",
            **settings,
        )
        for name in ("dense", other, "random_real")
        for seed in range(3)
    ]


@pytest.fixture(params=[0.3, -0.03], ids=["worse", "better"])
def telling(request):
    return rows(made(request.param))


@pytest.fixture
def repeating():
    return rows(made(0.019))


def test_rows_have_its_mean_and_deviation_over_seeds():
    (row,) = rows(record("a", seed, 0.5, balanced=0.2 + 0.1 * seed) for seed in range(3))
    assert row.values["balanced_accuracy_mean"] == pytest.approx(0.3)
    assert row.values["balanced_accuracy_std"] == pytest.approx(0.1)
    (bad,) = rows(record("a", seed, 0.5, balanced=[0.2, math.nan][seed]) for seed in range(2))
    assert bad.values["balanced_accuracy_mean"] is None
    (old,) = rows([record("a")])
    assert old.values["balanced_accuracy_mean"] is old.values["balanced_accuracy_std"] is None


def test_the_csv_always_has_it(repeating):
    (row, *_) = csv.DictReader(io.StringIO(tables.to_csv(repeating)))
    place = tables.COLUMNS.index("accuracy_std") + 1
    own = ("balanced_accuracy_mean", "balanced_accuracy_std")
    assert tables.COLUMNS[place : place + 2] == own
    assert [row[name] for name in own] == ["0.7100", "0.0200"]


def test_the_column_is_there_where_some_row_of_all_has_another_mean(telling, repeating):
    assert columns.tells_balanced(telling)
    assert not columns.tells_balanced(repeating)
    assert not columns.tells_balanced(rows([record("a"), record("b", balanced=None)]))
    assert not columns.tells_balanced([])
    exact = rows([record("a", accuracy=columns.TELLING, balanced=0.0)])
    assert columns.tells_balanced(exact)


def test_seeds_that_differ_both_ways_say_nothing_new():
    both = rows(record("a", seed, 0.5, balanced=[0.45, 0.55][seed]) for seed in range(2))
    assert not columns.tells_balanced(both)


def test_one_answer_holds_for_all_blocks():
    more = rows([*made(0.3), *made(0.0, beta=0.5)])
    heads = [line for line in tables.to_markdown(more).splitlines() if line.startswith("| method")]
    assert len(heads) == 2
    assert all(head.startswith("| method | accuracy % | balanced % | n |") for head in heads)


def test_markdown_has_it_beside_accuracy(telling, repeating):
    text = tables.to_markdown(rows(made(0.3)))
    assert "| collabdm | **71.00 ± 1.00** | 71.00 ± 2.00 | 3 |" in text
    assert "| dense | **71.00 ± 1.00** | 41.00 ± 2.00 | 3 |" in text
    assert tables.BALANCED_NOTE in text
    other = tables.to_markdown(repeating)
    assert "balanced" not in other.lower()
    alone = tables.to_markdown(rows([record("a", balanced=0.1), record("b")]))
    assert "| a | **50.00** | 10.00 | 1 |" in alone
    assert "| b | **50.00** | – | 1 |" in alone
    paired = tables.to_markdown(telling, "random_real")
    assert "| method | accuracy % | Δ to random_real (n) | balanced % | n |" in paired


@pytest.mark.parametrize("against", [None, "dense"])
@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", ["b", "a_method_whose_name_is_rather_long_indeed"])
def test_the_terminal_has_it_however_narrow(width, name, against):
    from rich.console import Console

    found = rows([*made(0.3, other=name), record(name, 7, 0.1, balanced=0.1)])  # a wide deviation
    console = Console(width=width, record=True, file=io.StringIO())
    for table in tables.to_terminal(found, width, against):
        console.print(table)
    printed = console.export_text().splitlines()
    assert all(len(line) <= width for line in printed)
    assert any("balanced %" in line for line in printed)
    assert any("71.00 ± 1.00" in line and "41.00 ± 2.00" in line for line in printed)
    assert "…" not in "".join(printed)


def test_latex_has_it_and_says_what_it_is(telling, repeating):
    text = latex.to_latex(telling, "toy")
    assert r"Method & Accuracy (\%) & Bal. \% & Worst \% & " in text
    assert "Bal.: balanced accuracy, the mean recall over classes." in text
    assert r"71.00 $\pm$ 2.00 & " in text
    assert {line.count("&") for line in text.splitlines() if line.endswith(r"\\")} == {8}
    assert r"\begin{tabular}{lrrrrrrrr}" in text
    assert "Bal." not in latex.to_latex(repeating, "toy")


def test_the_page_has_it_for_rows_and_runs():
    found = page(board_of(made(0.3)), [], [], records="records/", named="toy")
    assert 'data-key="balanced_accuracy_mean" data-better="high"' in found
    assert "<td>41.00 ± 2.00</td>" in found
    assert '<th scope="col">Balanced %</th>' in found
    assert "<td>70.00</td><td>39.00</td><td>35.00</td>" in found
    assert "mean recall over classes" in found
    columns = lines.columns(rows(made(0.3)))
    assert found.count(f'<td colspan="{len(columns) + 3}">') >= 3
    without = page(board_of(made(0.0)), [], [], records="records/", named="toy")
    assert "Balanced %" not in without
    assert 'class="scroll wide"' in found
    assert 'class="scroll" id="scroll"' in without
    assert '"balanced_accuracy_mean"' in without  # the data are those of table.csv


def test_wandb_has_a_table_of_it():
    sheets = of_board(board_of(made(0.3))).sheets
    assert list(sheets)[:2] == ["table", "pivot"]
    cells = {line[0]: line[1:4] for line in sheets["pivot_balanced"].data}
    assert cells["dense"] == [41.0, 2.0, 3]
    assert cells["random_real †"] == [71.0, 2.0, 3]
    own = list(sheets["table"].columns).index("balanced_accuracy_mean")
    assert sheets["table"].data[0][own] == pytest.approx(0.71)
    assert "pivot_balanced" not in of_board(board_of(made(0.0))).sheets


def test_a_change_of_it_is_a_difference_of_boards():
    (change,) = row_changes(board_of(made(0.3)), board_of(made(0.2)))
    assert change.label == "dense"
    assert change.values["balanced_accuracy_mean"] == pytest.approx((0.41, 0.51))
    assert "accuracy_mean" not in change.values
