"""A board by one axis: what is computed, how it is written, and what is refused."""

import csv
import functools
import io
import statistics
from pathlib import Path

import pytest

import fedbench as api
from fedbench.bench.suites.selection import parse_only
from fedbench.cli.report import make_report
from fedbench.errors import SettingsError
from fedbench.report import pivot
from fedbench.report.board import read_board
from fedbench.report.page import page

BOARDS = Path(__file__).parents[2] / "leaderboards"


@functools.cache
def board(name):
    whole = read_board(BOARDS / name)
    return whole.only(parse_only(["clients=5", "ipc=10"])) if name == "digits" else whole


def test_cells_are_means_over_seeds():
    found = pivot.pivot(board("digits"), "beta")
    assert (found.axis, found.values) == ("partition.beta", (0.1, 0.5))
    line = next(line for line in found.lines if line.label == "fedcgs (fedbench)")
    for beta, cell in zip(found.values, line.cells, strict=True):
        known = [
            record.metrics["accuracy"]
            for record in board("digits").good
            if record.settings["method"]["name"] == "fedcgs"
            and record.settings["partition"]["beta"] == beta
        ]
        assert cell.n == len(known) == len(cell.records) == 3
        assert cell.mean == pytest.approx(statistics.fmean(known))
        assert cell.std == pytest.approx(statistics.stdev(known))


def test_contenders_stand_before_controls_and_the_best_first():
    lines = pivot.pivot(board("digits"), "beta").lines
    controls = [line.control for line in lines]
    assert controls == sorted(controls)
    best = [max(cell.mean for cell in line.cells) for line in lines if not line.control]
    assert best == sorted(best, reverse=True)


def test_other_settings_of_blocks_have_lines_of_their_own_in_order_of_their_size():
    found = pivot.pivot(board("network"), "beta")
    settings = list(dict.fromkeys(line.setting for line in found.lines))
    assert settings == ["", "ipc=1", "ipc=5", "ipc=10"]
    assert len({(line.label, line.setting) for line in found.lines}) == len(found.lines)


def test_methods_without_a_budget_stand_under_each():
    found = pivot.pivot(board("network"), "ipc")
    line = next(line for line in found.lines if line.label == "fedcgs (fedbench)")
    assert len({cell.records for cell in line.cells}) == 1


def test_a_methods_own_setting_may_be_the_axis():
    found = pivot.pivot(board("collabdm_ablation"), "iterations")
    assert found.values == (20, 50, 100, 200)
    assert any(line.label == "collabdm (fedbench*)" and all(line.cells) for line in found.lines)


def test_networks_may_be_the_axis():
    found = pivot.pivot(board("fedcgs"), "model")
    assert found.values == ("convnet-w128-d3-instance", "resnet8-w16")
    assert "model=" not in pivot.to_markdown(found).splitlines()[0]


def test_the_frame_has_mean_std_and_n():
    frame = pivot.pivot(board("digits"), "beta").frame()
    assert frame.loc["fedcgs (fedbench)", (0.1, "n")] == 3
    assert frame.columns.names == ["partition.beta", "statistic"]


@pytest.mark.parametrize(("axis", "words"), [("beat", "beta"), ("clients", "no two values")])
def test_an_axis_that_does_not_vary_is_refused(axis, words):
    with pytest.raises(SettingsError, match=words):
        pivot.pivot(board("digits"), axis)


def test_an_unknown_metric_is_refused():
    with pytest.raises(SettingsError, match="did you mean 'accuracy'"):
        pivot.pivot(board("digits"), "beta", "acuracy")


def test_texts_agree():
    found = pivot.pivot(board("digits"), "beta")
    line = "97.50 ± 0.28 (3)"
    assert rf"| collabdm (fedbench\*) | {line} |" in pivot.to_markdown(found)
    assert "* the suite overrides" in found.caption
    assert r"97.50 $\pm$ 0.28 (3)" in pivot.to_latex(found, "digits")
    assert f"<td>{line}</td>" in pivot.to_html(found)
    first = next(csv.DictReader(io.StringIO(pivot.to_csv(found))))
    assert (first["n"], first["partition.beta"]) == ("3", "0.1")


def test_report_writes_the_axes_that_are_asked_for(tmp_path, capsys):
    make_report(str(BOARDS / "dense"), pivots=["beta"], out=tmp_path)
    assert {path.name for path in tmp_path.glob("pivot-*")} == {
        "pivot-beta.md",
        "pivot-beta.tex",
        "pivot-beta.csv",
    }
    assert "by partition.beta" in capsys.readouterr().out
    assert '<h2 id="pivot-beta-title">By beta</h2>' in (tmp_path / "index.html").read_text()
    make_report(str(BOARDS / "dense"), out=tmp_path)
    assert not list(tmp_path.glob("pivot-*"))


def test_axes_of_one_end_are_told_apart_in_files_and_on_the_page(tmp_path):
    axes = ["method.epochs", "recipe.epochs"]
    several = [pivot.Pivot(axis, "accuracy", (), ()) for axis in axes]
    assert pivot.names(several) == axes
    assert pivot.names(several[:1]) == ["epochs"]
    assert {name.rsplit(".", 1)[0] for name in pivot.files(several, "toy")} == {
        f"pivot-{axis}" for axis in axes
    }
    text = page(read_board(BOARDS / "dense"), [], [], several, records="", named="dense")
    assert [text.count(f'id="pivot-{axis}"') for axis in axes] == [1, 1]


def test_a_part_of_a_board_is_shown_and_replaces_no_board(tmp_path, capsys):
    folder = BOARDS / "digits"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    make_report(str(folder), pivots=["beta"], only=["method=fedavg,dense", "ipc=10"])
    said = capsys.readouterr().out
    assert "by partition.beta" in said
    assert "dense" in said
    assert "feddf" not in said
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    made = make_report(str(folder), only=["method=fedavg,dense"], out=tmp_path)
    with (tmp_path / "table.csv").open() as file:
        assert {line["method"] for line in csv.DictReader(file)} == {"fedavg", "dense"}
    assert {entry.settings["method"]["name"] for entry in made.plan.cells} == {"fedavg", "dense"}


def test_a_part_of_a_board_is_not_mirrored():
    with pytest.raises(SettingsError, match="--wandb mirrors all of it"):
        make_report(str(BOARDS / "digits"), only=["beta=0.1"], live=object())


def test_a_board_in_python_has_parts_of_parts():
    whole = api.load(BOARDS / "digits")
    part = whole.only(beta=0.1).only(method=["fedavg", "dense"], recipe__lr=0.01)
    assert set(part.rows["method"]) == {"fedavg", "dense"}
    assert set(part.records["partition.beta"]) == {0.1}
    assert len(whole.rows) > len(part.rows) == 6
    with pytest.raises(SettingsError, match=r"beta=0.2: no cell .* there are: "):
        whole.only(beta=0.2)
