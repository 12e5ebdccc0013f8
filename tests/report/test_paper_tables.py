"""The tables of papers: committed ones are current, numbers have their places, queries can hit."""

import csv
import functools
import io
import re
from pathlib import Path

import pytest
from paper_queries import check, known_from

from fedbench.config import Cell
from fedbench.data.schemes import SCHEMES
from fedbench.errors import SettingsError
from fedbench.methods import METHODS
from fedbench.report.paper import page, texts, words
from fedbench.report.paper.build import FOLDER, choose, documents_of
from fedbench.report.paper.match import deviations
from fedbench.report.paper.pool import boards, read_pool
from fedbench.report.paper.sheet import fill
from fedbench.report.paper.spec import read_source, read_sources, tables_folder
from fedbench.report.published import read_numbers

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "leaderboards"
SOURCES = [path.stem for path in sorted(tables_folder().glob("*.yaml"))]


@functools.cache
def groups():
    return read_pool(boards(BOARDS))


@functools.cache
def document(name):
    return documents_of(choose(read_sources(), name), groups())[0]


def setting_exists(method, name):
    """Look a setting up where cells define it."""
    part, _, rest = name.partition(".")
    if part == "method":
        return method in METHODS.names() and _field(METHODS.get(method).Config, rest)
    if part == "partition":
        return any(_field(SCHEMES.get(each).settings, rest) for each in SCHEMES.names())
    return _field(Cell, name)


def _field(kind, dotted):
    name, _, rest = dotted.partition(".")
    fields = getattr(kind, "model_fields", {})
    if name not in fields:
        return False
    return not rest or any(_field(each, rest) for each in _kinds(fields[name].annotation))


def _kinds(annotation):
    return [annotation, *getattr(annotation, "__args__", ())]


@pytest.mark.parametrize("name", SOURCES)
def test_committed_tables_are_current(name):
    made, folder = document(name), BOARDS / FOLDER
    assert (folder / f"{name}.md").read_text() == texts.to_markdown(made)
    assert (folder / f"{name}.csv").read_text() == texts.to_cells_csv(made)
    assert (folder / f"{name}.tex").read_text() == texts.to_latex(made)
    assert (folder / f"{name}.html").read_text() == page.page(made)


def test_the_index_is_current():
    made = [document(source.name) for source in read_sources()]
    assert (BOARDS / FOLDER / "index.html").read_text() == page.index(made)


@pytest.mark.parametrize("name", SOURCES)
def test_every_number_of_a_sources_files_stands_in_a_table(name):
    made = document(name)
    shown = {
        (number.source, number.setting, number.dataset, number.method, number.accuracy)
        for sheet in made.sheets
        for filled in sheet.cells
        for number in filled.numbers
    }
    for file in made.source.files:
        for number in read_numbers()[file]:
            key = (number.source, number.setting, number.dataset, number.method, number.accuracy)
            assert key in shown, f"{file}.csv: {key} stands in no table of {name}"


@pytest.mark.parametrize("name", SOURCES)
def test_queries_ask_for_what_records_can_have(name):
    known = known_from(groups(), setting_exists)
    assert check(choose(read_sources(), name)[0], read_numbers(), known) == []


@pytest.mark.parametrize("name", SOURCES)
def test_suites_of_a_source_are_there(name):
    for table in choose(read_sources(), name)[0].tables:
        for suite in table.suites:
            assert (ROOT / "benchmarks" / f"{suite}.yaml").is_file()


def test_three_papers_give_three_numbers_for_one_cell():
    sheet = next(sheet for sheet in document("dense").sheets if sheet.table.name == "table_1")
    cell = next(
        filled
        for filled in sheet.cells
        if filled.cell.row == "DENSE" and filled.cell.column == ("CIFAR-10", "α=.1")
    )
    assert [number.accuracy for number in cell.numbers] == [0.5026]
    assert {other.accuracy for other in cell.others} >= {0.478, 0.1993}


def test_others_numbers_stand_where_the_source_has_none():
    """CollabDM's tables are not known but for one cell; DENSE's, beside it, are."""
    sheet = next(sheet for sheet in document("collabdm").sheets if sheet.table.name == "accuracy")
    cells = {(filled.cell.row, *filled.cell.column): filled for filled in sheet.cells}
    cell = cells["DENSE", "CIFAR-10", "β=.1"]
    assert not cell.numbers
    assert words.published(cell) == "50.26 [Zhang et al. 2022, 5 clients]"
    assert words.published(cells["DENSE", "CIFAR-10", "IID"]) == words.NOTHING
    # Co-Boosting's and FedLPA's numbers are of ten clients, and this table is of five.
    assert {other.facts["partition.clients"] for other in cell.others} == {"5"}
    assert words.published(cells["naive union", "CIFAR-10", "β=.1"]) == words.NOTHING
    assert words.published(cells["DENSE", "SVHN", "β=.1"]).startswith("55.34; 55.34 [Zhang")


def test_records_of_a_traced_cell_give_its_mean():
    sheet = next(sheet for sheet in document("mtt").sheets if sheet.table.name == "table_1")
    filled = sheet.lines[0][0]
    accuracies = [record.metrics["accuracy"] for record in filled.group.records]
    assert filled.ours.n == 3
    assert filled.ours.mean == pytest.approx(sum(accuracies) / 3)
    for name in filled.group.ids:
        assert (BOARDS / filled.group.board / "records" / f"{name}.json").is_file()


def test_deviations_are_those_of_the_settings():
    sheet = next(sheet for sheet in document("mtt").sheets if sheet.table.name == "table_1")
    filled = sheet.lines[0][0]
    found = {one.name: (one.ours, one.theirs) for one in filled.deviations}
    assert found["training images"] == ("5000", "all")
    assert found["clients"] == ("4", "10")
    assert found["width"] == ("32", "128")
    assert found["images per class in all"] == ("0.8", "2")
    assert found["accuracy of"] == ("the last step", "best or last: not stated")
    assert "split" not in found


def test_the_papers_network_is_nearer_than_a_board_of_the_same_sizes():
    sheet = document("dense").sheets[0]
    mnist = [line[0].group for line in sheet.lines if line[0].group is not None]
    assert {"mnist", "dense_mnist"} <= {group.board for group in groups()}
    assert {group.facts["model"] for group in mnist} == {"dense_cnn"}


def test_public_images_that_a_source_does_not_name_are_named():
    own, clothes = (
        next(g for g in groups() if (g.board, g.facts["method"]) == (board, "feddf"))
        for board in ("digits", "dense_mnist")
    )
    named = [str(one) for group in (own, clothes) for one in deviations(group, {}, None)]
    assert "public images of the clients' own data set (paper: not stated)" in named
    assert "public images of fashion_mnist (paper: not stated)" in named
    stated = deviations(clothes, {"public": "fashion_mnist"}, None)
    assert not any(one.name.startswith("public") for one in stated)
    # What a method of the source's own learns from, its table says itself.
    assert not any(one.name.startswith("public") for one in deviations(own, {}, None, ["feddf"]))


def test_a_run_at_the_papers_settings_has_no_deviation_of_settings():
    group = next(group for group in groups() if group.facts["method"] == "centralised")
    paper = {
        name: value
        for name, value in group.facts.items()
        if name in ("model.width", "recipe.epochs", "dataset", "data.train_size")
    }
    found = {one.name for one in deviations(group, paper, None)}
    assert found <= {"test images"}


@pytest.mark.parametrize("name", SOURCES)
def test_links_of_a_page_lead_to_files(name):
    text = (BOARDS / FOLDER / f"{name}.html").read_text()
    links = set(re.findall(r'href="([^"#]+)"', text))
    assert links
    for link in links:
        assert (BOARDS / FOLDER / link).resolve().is_file(), link


def test_csv_has_a_line_for_each_cell():
    made = document("collabdm")
    lines = list(csv.DictReader(io.StringIO(texts.to_cells_csv(made))))
    assert len(lines) == sum(len(sheet.cells) for sheet in made.sheets)
    empty = [line for line in lines if not line["record_ids"]]
    assert {line["why_empty"] for line in empty} == {"not run"}


GOOD = """
name: mine
order: 1
title: Mine
cite: Me
about: Nothing.
files: [mtt]
tables:
  - name: one
    title: One
    place: here
    where: {dataset: cifar10}
    rows: [{label: two, where: {partition.shards: 2}}]
    columns: [[{label: FedAvg, where: {method: fedavg}}]]
"""


def written(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_a_small_specification_is_read(tmp_path):
    source = read_source(written(tmp_path, GOOD))
    cell = fill(source, read_numbers(), groups()).sheets[0].lines[0][0]
    assert cell.numbers[0].accuracy == 0.5662
    assert cell.ours.n >= 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("title: Mine", "titel: Mine", "title"),
        ("place: here", "place: here\n    colour: red", "colour"),
        ("name: mine", "name: yours", "call it 'mine'"),
        ("rows: [{label: two, where: {partition.shards: 2}}]", "rows: []", "needs rows"),
    ],
)
def test_wrong_specifications_are_refused(tmp_path, old, new, words):
    with pytest.raises(SettingsError, match=words):
        read_source(written(tmp_path, GOOD.replace(old, new)))


def test_a_query_that_no_record_can_answer_is_named(tmp_path):
    source = read_source(written(tmp_path, GOOD.replace("shards: 2", "shard: 2")))
    faults = check(source, read_numbers(), known_from(groups(), setting_exists))
    assert any("'partition.shard', which no record of fedavg can have" in one for one in faults)
    assert any("no published number has" in one for one in faults)


def test_a_row_without_its_number_is_refused(tmp_path):
    source = read_source(written(tmp_path, GOOD.replace("shards: 2", "shards: 3")))
    with pytest.raises(SettingsError, match="no published number answers the row 'two'"):
        fill(source, read_numbers(), groups())


def test_two_numbers_of_one_place_are_refused(tmp_path):
    text = GOOD.replace("where: {method: fedavg}", "where: {method: base_images}")
    with pytest.raises(SettingsError, match="ask for more"):
        fill(read_source(written(tmp_path, text)), read_numbers(), groups())


def test_hostile_names_are_escaped(tmp_path):
    text = GOOD.replace("label: two", "label: '<script>&|_$'")
    made = fill(read_source(written(tmp_path, text)), read_numbers(), groups())
    assert "<script>" not in page.page(made)
    assert "<script>&|_$" not in texts.to_markdown(made)
    assert r"\textless{}script" in texts.to_latex(made)
