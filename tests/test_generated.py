"""What is generated from committed records is current: documents, index, notebook."""

import functools
import importlib.util
import re
from pathlib import Path

import blocks
import claims
import evidence
import pytest

from fedbench.errors import SettingsError, StoreError
from fedbench.report import build, overview
from fedbench.report.board import read_board
from fedbench.report.comparisons import comparisons
from fedbench.report.paired import difference
from fedbench.report.paper.pool import boards, read_pool

ROOT = Path(__file__).parents[1]
BOARDS = ROOT / "leaderboards"


def script():
    spec = importlib.util.spec_from_file_location("generated", ROOT / "scripts" / "generated.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def groups():
    return read_pool(boards(BOARDS))


@functools.cache
def known():
    return overview.read_boards(BOARDS)


def test_documents_are_current():
    for path, text in script().documents(known()).items():
        assert path.read_text() == text, f"{path} is not current: python scripts/generated.py"


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in BOARDS.glob("*/plan.json")))
def test_the_tables_of_a_board_are_current(folder):
    """Its page and figures, which take seconds to draw, are made of the same records."""
    board = read_board(BOARDS / folder)
    made = build.texts(board, comparisons(board), records=build.WITHIN)
    stale = [
        name
        for name, text in made.items()
        if (BOARDS / folder / name).read_bytes() != text.encode()
    ]
    assert stale == [], f"write them anew: fedbench report leaderboards/{folder}"


def test_the_index_over_all_boards_is_current():
    entries = [overview.entry(*each) for each in known().items()]
    assert (BOARDS / "index.md").read_text() == overview.to_markdown(entries)
    assert (BOARDS / "index.html").read_text() == overview.page(entries)
    assert {entry.folder for entry in entries} == {
        p.parent.name for p in BOARDS.glob("*/plan.json")
    }


def test_the_notebook_is_executed_and_current(monkeypatch):
    monkeypatch.delenv("FEDBENCH_HOME", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    path = ROOT / "docs" / "boards.ipynb"
    assert script().executed(path) == path.read_text()
    assert path.stat().st_size < 40_000


def test_all_twelve_contradictions_are_answered():
    text = (ROOT / "docs" / "findings.md").read_text()
    numbers = [int(number) for number in re.findall(r"^(\d+)\. \*", text, re.MULTILINE)]
    assert numbers == list(range(1, 13))


def test_named_suites_are_there():
    text = (ROOT / "docs" / "findings.md").read_text()
    suites = set(re.findall(r"benchmarks/[\w/]+\.yaml", text))
    assert suites
    assert [name for name in suites if not (ROOT / name).is_file()] == []


def test_the_pareto_front_of_the_docs_is_ten_lines_and_runs(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "python.md").read_text()
    code = re.search(r"## A Pareto front.*?```python\n(.*?)```", text, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    exec(code.replace("leaderboards/digits", str(BOARDS / "digits")), {})
    assert (tmp_path / "front.svg").stat().st_size > 1000


def comparison(**words):
    known = {"kind": "accuracy", "board": "digits", "says": "x", "one": {"method": "fedcgs"}}
    return claims.Comparison(**(known | words))


def test_long_evidence_is_folded():
    each = comparison(
        where={"partition.beta": 0.1, "partition.clients": 5}, other={"method": "local"}
    )
    short, long = (evidence.block([each] * n, groups(), "") for n in (12, 13))
    assert short.startswith("| compared |")
    assert long.startswith('<details markdown="1"><summary>13 comparisons</summary>\n\n| compared')
    assert len(short.splitlines()) == 14
    assert long.endswith("|\n\n</details>")


def grid(*betas, **words):
    """Return FedCGS against the naive union, with ten clients and with five, by β."""
    places = [{"board": "digits", "where": {"partition.beta": b}, "says": f"β={b}"} for b in betas]
    other = {"method": "local_dm", "preset": "fedbench", "budget.ipc": 10}
    lines = [
        {"where": {"partition.clients": k}, "other": other, "says": f"{k} clients"} for k in (10, 5)
    ]
    known = {"says": "FedCGS against the union", "one": {"method": "fedcgs"}, "across": places}
    return claims.Grid(**(known | {"compare": lines} | words))


def test_a_grid_is_its_comparisons_side_by_side_and_one_by_one():
    asked = grid(0.1, 0.5)
    text = evidence.block(asked, groups(), "up/")
    head, rule, *lines = text.split("\n\n")[0].splitlines()
    assert head == "| FedCGS against the union | β=0.1 | β=0.5 |"
    assert rule == "| --- | ---: | ---: |"
    assert len(lines) == len(asked.compare)
    for line, words in zip(asked.compare, lines, strict=True):
        first, *cells = [cell.strip() for cell in words.strip("|").split("|")]
        assert first == line.says
        for place, cell in zip(asked.across, cells, strict=True):
            alone = evidence.block([asked.at(line, place)], groups(), "up/").splitlines()[2]
            assert f": {cell} points (n 3)" in alone
            assert alone in text
    assert "shared seeds (n 3)" in text
    assert "<summary>4 comparisons</summary>" in text


@pytest.mark.parametrize(
    ("gaps", "text"),
    [
        ((0.02, 0.021, 0.022), "**+2.10 ± 0.10**"),
        ((0.02, -0.02, 0.01), "+0.33 ± 2.08"),
        ((0.02, 0.021), "+2.05 ± 0.07"),  # two seeds say nothing of noise
        ((-0.02,), "-2.00"),
        ((-0.00001,), "+0.00"),
    ],
)
def test_a_cell_of_a_grid_is_bold_where_it_is_beyond_the_noise(gaps, text):
    ours = dict(enumerate(gaps))
    gap = difference(ours, dict.fromkeys(ours, 0.0), list(ours))
    assert evidence._points(gap) == text
    assert evidence._points(gap, apart=True) == f"{text} ({len(gaps)})"


def test_evidence_is_the_paired_difference_over_shared_seeds():
    each = comparison(
        where={"partition.beta": 0.1, "partition.clients": 5},
        other={"method": "centralised", "dataset": "digits"},
    )
    line = evidence.block([each], groups(), "")
    by_method = {
        method: {
            record.settings["seed"]: record.metrics["accuracy"]
            for group in groups()
            if group.board == "digits"
            and group.facts["method"] == method
            and group.facts["partition.beta"] == "0.1"
            and group.facts["partition.clients"] == "5"
            for record in group.records
        }
        for method in ("fedcgs", "centralised")
    }
    gaps = [by_method["fedcgs"][s] - by_method["centralised"][s] for s in (0, 1, 2)]
    assert f"{100 * sum(gaps) / 3:+.2f} ± " in line


def test_evidence_beside_a_published_number_says_both_and_the_difference():
    each = comparison(
        kind="published", board="shards_fedavg", where={"partition.shards": 5},
        one={"method": "fedavg"}, published="10 nodes, 5 shards each, 20 rounds of 2 epochs",
    )  # fmt: skip
    (ours,) = {
        record.metrics["accuracy"]
        for group in groups()
        if group.board == "shards_fedavg" and group.facts["partition.shards"] == "5"
        for record in group.records
    }
    line = evidence.block([each], groups(), "")
    wanted = f"{100 * ours:.2f} (n 1), published 66.26 (n 3): {100 * ours - 66.26:+.2f} points"
    assert wanted in line
    unknown = each.model_copy(update={"published": "10 nodes"})
    with pytest.raises(SettingsError, match="0 published numbers"):
        evidence.block([unknown], groups(), "")


def test_evidence_of_a_sources_runs_says_each_and_their_mean():
    each = comparison(
        kind="published", board="single_image_one_shot", one={"method": "fedavg"},
        where={"partition.legacy_seed": [84, 42]}, over="partition.legacy_seed",
        published="20 clients, 40 % a round, α=1, resnet8, R=1, E=20; "
        "FedAvg after round 1, learning rate .01",
    )  # fmt: skip
    by_split = {
        group.facts["partition.legacy_seed"]: [
            100 * record.metrics["accuracy"] for record in group.records
        ]
        for group in groups()
        if group.board == each.board and group.facts["method"] == "fedavg"
        if "partition.legacy_seed" in group.facts
    }
    means = {split: sum(values) / len(values) for split, values in by_split.items()}
    mean = (means["42"] + means["84"]) / 2
    line = evidence.block([each], groups(), "")
    shown = [
        rf"{means[split]:.2f}( ± [\d.]+)? \(n {len(by_split[split])}\)" for split in ("42", "84")
    ]
    pattern = rf"{' and '.join(shown)}, {mean:.2f} in the mean, published 16.40: "
    assert re.search(pattern, line)
    assert f"published 16.40: {mean - 16.4:+.2f} points" in line
    assert "legacy_seed=84,42 |" in line
    one = each.model_copy(update={"where": {"partition.legacy_seed": 42}})
    with pytest.raises(SettingsError, match=r"1 rows answer .* two or more"):
        evidence.block([one], groups(), "")


def test_evidence_that_means_several_rows_is_refused():
    with pytest.raises(SettingsError, match="4 rows answer"):
        evidence.block([comparison(other={"method": "centralised"})], groups(), "")


def test_a_document_without_the_block_is_refused():
    with pytest.raises(StoreError, match="no block"):
        blocks.with_block("text", "digits", "new")


def test_a_folder_without_boards_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no boards"):
        overview.read_boards(tmp_path)
