"""All figures of a report: which are drawn, stable bytes, safe SVG, honest gaps and margins."""

from __future__ import annotations

import hashlib
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from figure_boards import board, drawn_lines, full, point, record, sketched

from fedbench.report.figures import classes, curves, draw, style, sweeps, tradeoff
from fedbench.report.figures.series import Cast

HERE = Path(__file__).parent
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def everything():
    return draw(full())


@pytest.fixture(autouse=True)
def _style():
    with style.context():
        yield


def names(figures):
    return [figure.name for figure in figures]


def test_a_full_board_has_every_figure_once(everything):
    assert names(everything) == [
        "bytes-toy",
        "beta-toy",
        "clients-toy",
        "budget-toy",
        "curves-bytes-toy",
        "curves-step-toy",
        "classes-toy",
        "partition-toy-k-3",
        "partition-toy-k-6",
        "seconds-toy",
    ]
    assert [figure.name for figure in everything if figure.timing] == ["seconds-toy"]
    assert all(figure.title.startswith("toy") for figure in everything)
    for figure in everything:
        if not figure.name.startswith("partition"):
            assert "n = 2 seeds" in figure.caption, figure.name
    assert "standard deviation" in everything[0].caption


def test_only_axes_that_vary_have_a_figure():
    one = draw(board([record("fedavg", curves=[point(1, 0.3, 10)])]))
    assert names(one) == ["classes-toy", "partition-toy-k-3"]
    two = draw(board([record("fedavg"), record("dense", beta=0.5)]))
    assert names(two) == [
        "beta-toy",
        "classes-toy",
        "partition-toy-k-3",
        "seconds-toy",
    ]
    same = board([record("ensemble", sent=9), record("dense", sent=9)])
    assert sketched(tradeoff, same) == []
    assert sketched(sweeps, same) == []


def test_no_records_no_figures():
    assert draw(board([])) == []


def test_data_sets_have_figures_of_their_own():
    made = [
        record(method, dataset=name, sent=len(method))
        for name in ("toy", "Other Set!")
        for method in ("dense", "fedavg")
    ]
    found = [name for name in names(draw(board(made))) if name.startswith("bytes")]
    assert found == ["bytes-other-set", "bytes-toy"]


def test_names_stay_apart_when_slugs_do_not():
    made = [
        record(method, dataset=name, sent=len(method))
        for name in ("a b", "a-b")
        for method in ("dense", "fedavg")
    ]
    found = names(draw(board(made)))
    assert len(found) == len(set(found))


def test_same_bytes_for_shuffled_records(everything):
    again = draw(full(shuffle=3))
    assert [figure.svg for figure in again] == [figure.svg for figure in everything]
    assert again == everything


def test_same_bytes_over_hash_seeds_and_user_settings(everything, tmp_path):
    (tmp_path / "matplotlibrc").write_text(
        "font.size: 20\naxes.facecolor: yellow\nxtick.direction: in\n"
    )
    code = (
        "import hashlib, sys\n"
        "from figure_boards import full\n"
        "from fedbench.report.figures import draw\n"
        "found = draw(full())\n"
        "content = [f.svg.encode() for f in found] + [found[0].to_pdf()]\n"
        "print(hashlib.sha256(b''.join(content)).hexdigest())\n"
        "print([m for m in ('torch', 'lightning', 'matplotlib.pyplot') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={
            "PYTHONHASHSEED": "7",
            "PYTHONPATH": f"{HERE}:{HERE.parents[1]}",
            "HOME": os.environ["HOME"],
            "TZ": "Asia/Tokyo",
        },
    )
    content = [figure.svg.encode() for figure in everything] + [everything[0].to_pdf()]
    digest, modules = done.stdout.split("\n")[:2]
    assert digest == hashlib.sha256(b"".join(content)).hexdigest()
    assert modules == "[]"


def test_seconds_change_the_time_figure_only():
    def made(client):
        return board(
            record(method, seed, seconds=(client * (seed + 1), 0.5), sent=len(method))
            for method in ("dense", "fedavg")
            for seed in (0, 1)
        )

    slow, fast = draw(made(30.0)), draw(made(2.0))
    changed = {a.name for a, b in zip(slow, fast, strict=True) if a.svg != b.svg}
    assert changed == {figure.name for figure in slow if figure.timing} == {"seconds-toy"}


def test_svg_is_safe_inside_a_page(everything):
    ids = []
    for figure in everything:
        assert figure.svg.startswith("<svg ")
        assert not re.search(
            r"<style|<script|<metadata|<!--|<!DOCTYPE|<\?xml|\d\d:\d\d:", figure.svg
        )
        root = ElementTree.fromstring(figure.svg)
        assert root[0].tag == f"{SVG}title"
        assert root[0].text == figure.title
        assert root[1].text == figure.caption
        own = [element.get("id") for element in root.iter() if element.get("id")]
        assert root.get("aria-labelledby") in own
        used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', figure.svg))
        assert {a or b for a, b in used} <= set(own)
        words = {f"{figure.name}-title", f"{figure.name}-desc"}
        assert words <= set(own)
        # Short ids: all others of a figure begin alike, and no other figure's do.
        assert len({name.partition("-")[0] for name in set(own) - words}) == 1
        ids += own
    assert len(ids) == len(set(ids)) > 100


def test_titles_with_markup_are_escaped():
    made = board([record("fedavg", dataset="<img src=x>"), record("dense", dataset="<img src=x>")])
    for figure in draw(made):
        assert "<img" not in figure.svg
        assert ElementTree.fromstring(figure.svg)[0].text == figure.title


def test_the_card_is_white_in_the_dark(everything):
    for figure in everything:
        first = next(e for e in ElementTree.fromstring(figure.svg).iter(f"{SVG}path"))
        assert "fill:#ffffff" in first.get("style")


def test_sizes_fit_the_columns_of_a_paper(everything):
    widths = {figure.name: figure._sketch.drawing.get_size_inches()[0] for figure in everything}
    assert set(widths.values()) <= {style.COLUMN, style.PAGE}
    heights = [figure._sketch.drawing.get_size_inches()[1] for figure in everything]
    assert max(heights) < 10


def test_pdf_has_truetype_fonts_and_no_date(everything):
    content = everything[0].to_pdf()
    assert content.startswith(b"%PDF")
    assert b"CreationDate" not in content
    assert b"/Type3" not in content
    assert b"/FontFile2" in content


def test_settings_of_matplotlib_are_left_alone():
    with matplotlib.rc_context({"font.size": 17, "svg.fonttype": "none"}):
        draw(board([record("fedavg")]))
        assert matplotlib.rcParams["font.size"] == 17
        assert matplotlib.rcParams["svg.fonttype"] == "none"


def test_a_method_looks_alike_in_all_figures():
    made = full()
    cast = Cast(made)
    looks = {}
    for row in made.views:
        looks.setdefault(row.values["method"], set()).add(cast.look(row))
    assert all(len(found) == 1 for found in looks.values())
    assert len({next(iter(found)) for found in looks.values()}) == len(looks)


def test_many_settings_become_small_multiples_on_few_pages():
    made = [
        record(method, beta=beta, clients=clients, sent=len(method) * clients)
        for method in ("dense", "fedavg")
        for beta in (0.05, 0.1, 0.3, 0.5, 1.0, 10.0)
        for clients in (5, 10, 20)
    ]
    found = sketched(tradeoff, board(made))
    assert [sketch.name for sketch in found] == ["bytes-toy", "bytes-toy-2"]
    assert found[0].title.startswith("toy (1 of 2)")
    panels = [axes.get_title(loc="left") for sketch in found for axes in sketch.drawing.axes]
    assert len(panels) == 18
    assert panels[:3] == ["β=0.05 · K=5", "β=0.05 · K=10", "β=0.05 · K=20"]
    header = found[0].drawing.texts[0].get_text()
    assert "dirichlet_capped" in header
    assert "K=" not in header


def test_panels_that_differ_in_too_many_facts_have_pages_of_their_own():
    made = [
        record(m, beta=b, sent=s) for b in (0.1, 1.0) for m, s in (("dense", 9), ("fedavg", 99))
    ]
    for one in (record(m, clients=20, epochs=9, sent=s) for m, s in (("dense", 9), ("fedavg", 99))):
        one.settings["partition"] = {"scheme": "iid", "clients": 20}
        made.append(one)
    found = sketched(tradeoff, board(made))
    assert [sketch.title[:14] for sketch in found] == ["toy (1 of 2): ", "toy (2 of 2): "]
    titles = [[axes.get_title(loc="left") for axes in one.drawing.axes] for one in found]
    assert titles == [["β=0.1", "β=1"], [""]]


def test_front_has_what_nothing_beats():
    points = [(10, 0.5), (5, 0.4), (20, 0.5), (5, 0.3), (30, 0.9), (40, 0.8), (0, 0.1)]
    assert tradeoff.front(points) == [(0, 0.1), (5, 0.4), (10, 0.5), (30, 0.9)]
    assert tradeoff.front([]) == []


def test_rows_that_lack_seeds_are_on_no_front():
    made = [record("dense", seed, sent=100) for seed in (0, 1, 2)]
    made += [record("feddf", seed, accuracy=0.6, sent=900) for seed in (0, 1, 2)]
    made += [record("union", 0, accuracy=0.9, sent=1), record("local", 0, accuracy=0.8, sent=2)]
    contenders, everybody = tradeoff._fronts(board(made).views)
    assert [accuracy for _, accuracy in contenders] == pytest.approx([50, 60])
    assert everybody == []


def test_fronts_are_drawn_for_contenders_and_with_controls():
    made = board(
        [
            record("random_real", accuracy=0.9, sent=100),
            record("dense", accuracy=0.5, sent=1000),
            record("feddf", accuracy=0.7, sent=5000),
            record("fedavg", accuracy=0.95, sent=9000),
        ]
    )
    axes = sketched(tradeoff, made)[0].drawing.axes[0]
    stairs = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    found = {tuple(line.get_xdata())[:-1]: tuple(line.get_ydata())[:-1] for line in stairs}
    assert found == {(100, 9000): (90.0, 95.0), (1000, 5000): (50.0, 70.0)}


@pytest.mark.parametrize(
    ("sent", "contenders", "everybody"),
    [((1000, 5000), True, True), ((1000, 1090), False, True), ((1000, 1000), False, True)],
)
def test_a_front_is_of_bytes_that_differ(sent, contenders, everybody):
    made = board(
        [
            record("dense", accuracy=0.5, sent=sent[0]),
            record("feddf", accuracy=0.7, sent=sent[1]),
            record("fedavg", accuracy=0.9, sent=9000),
        ]
    )
    (sketch,) = sketched(tradeoff, made)
    named = [text.get_text() for text in sketch.drawing.legends[0].get_texts()]
    stairs = [line for line in sketch.drawing.axes[0].lines if "steps" in line.get_drawstyle()]
    assert ("Pareto front" in named) == ("broad line" in sketch.caption) == contenders
    assert ("front with controls" in named) == ("dotted line" in sketch.caption) == everybody
    assert len(stairs) == contenders + everybody


def test_bytes_that_are_as_good_as_equal_have_no_figure():
    made = [record("local"), record("dense", sent=10**5), record("feddf", sent=10**5 + 900)]
    assert sketched(tradeoff, board(made)) == []
    apart = [record("dense", beta=0.1, sent=10**5), record("dense", beta=0.5, sent=10**6)]
    assert sketched(tradeoff, board(apart)) == []


def test_zero_bytes_stand_in_a_lane_before_a_break():
    made = board([record("local", accuracy=0.2), record("dense", sent=10**4), record("fedavg")])
    sketch = sketched(tradeoff, made)[0]
    axes = sketch.drawing.axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[0] == "0"
    assert "10 kB" in labels
    (zero,) = (x[0] for x, y in drawn_lines(axes) if y == [20.0])
    assert axes.get_xlim()[0] < zero == axes.get_xticks()[0] < 10**4
    assert "left of the break" in sketch.caption
    without = sketched(tradeoff, board([record("dense"), record("fedavg")]))[0]
    assert "0" not in [label.get_text() for label in without.drawing.axes[0].get_xticklabels()]
    assert "break" not in without.caption


def test_points_with_equal_bytes_do_not_hide_each_other():
    made = board(
        [record(name, sent=10**5) for name in ("dense", "feddf", "ensemble")] + [record("fedavg")]
    )
    axes = sketched(tradeoff, made)[0].drawing.axes[0]
    across = sorted(x[0] for x, _ in drawn_lines(axes))
    assert len({round(x) for x in across}) == 4
    assert across[1] == pytest.approx(10**5)
    assert across[0] < 10**5 < across[2] < 1.2 * 10**5


def test_budgets_of_a_method_are_joined_in_their_order():
    made = [
        record("coreset", accuracy=pixels / 1000, budget=pixels, sent=pixels * 40)
        for pixels in (500, 100, 900)
    ]
    axes = sketched(tradeoff, board(made))[0].drawing.axes[0]
    assert drawn_lines(axes)[0] == ([4000, 20000, 36000], pytest.approx([10, 50, 90]))


def test_a_missing_point_is_a_gap():
    made = [record("dense", beta=beta, accuracy=beta) for beta in (0.1, 0.9)]
    made += [record("fedavg", beta=beta) for beta in (0.1, 0.5, 0.9)]
    failed = [record("dense", beta=0.5, status="failed")]
    sketch = sketched(sweeps, board(made, failed))[0]
    heights = [y for _, y in drawn_lines(sketch.drawing.axes[0])]
    dense = next(y for y in heights if math.isnan(y[1]))
    assert [dense[0], dense[2]] == pytest.approx([10, 90])
    assert "Gaps" in sketch.caption
    assert "Gaps" not in sketched(sweeps, board(made[2:]))[0].caption


def test_unknown_accuracies_are_left_out():
    made = [record("dense", accuracy=None, beta=beta) for beta in (0.1, 0.5)]
    made += [record("fedavg", beta=beta) for beta in (0.1, 0.5)]
    sketch = sketched(sweeps, board(made))[0]
    assert len(drawn_lines(sketch.drawing.axes[0])) == 1
    assert draw(board(made))


def test_error_bars_are_deviations_and_one_seed_has_none():
    made = [record("dense", seed, 0.4 + 0.2 * seed, beta=b) for seed in (0, 1) for b in (0.1, 1.0)]
    sketch = sketched(sweeps, board(made))[0]
    (bars,) = sketch.drawing.axes[0].collections
    low, high = (point[1] for point in bars.get_segments()[0])
    assert (high - low) / 2 == pytest.approx(100 * 0.2 / math.sqrt(2))
    alone = sketched(sweeps, board(made[:2]))[0]
    assert "No error bars: n = 1 seed." in alone.caption
    mixed = sketched(sweeps, board(made[:3]))[0]
    assert "n = 1 to 2 seeds" in mixed.caption


def test_budget_figure_has_level_lines_for_methods_without_one():
    made = [record("coreset", budget=pixels, accuracy=pixels / 1000) for pixels in (100, 500)]
    made += [record("fedavg", accuracy=0.3)]
    sketch = next(s for s in sketched(sweeps, board(made)) if s.name.startswith("budget"))
    lines = drawn_lines(sketch.drawing.axes[0])
    assert ([0, 1], pytest.approx([30, 30])) in lines
    assert "Level lines" in sketch.caption


def test_scopes_of_budgets_are_not_mixed():
    made = [
        record("coreset", budget=pixels, scope=scope)
        for pixels in (100, 500)
        for scope in ("total", "per_client")
    ]
    sketch = next(s for s in sketched(sweeps, board(made)) if s.name.startswith("budget"))
    titles = [axes.get_title(loc="left") for axes in sketch.drawing.axes]
    assert titles == ["budget per_client", "budget total"]


def test_curves_against_bytes_take_the_last_observation_of_a_round():
    points = [point(1, 0.1, 10, step=1), point(1, 0.2, 10, step=2), point(2, 0.6, 20, step=3)]
    other = [point(1, 0.4, 10, step=2), point(2, 0.8, 24, step=3)]
    made = [record("dense", curves=points), record("dense", 1, curves=other)]
    found = curves.curve(made, "bytes")
    assert [(p.at, p.mean) for p in found] == [(10, pytest.approx(30)), (22, pytest.approx(70))]
    assert found[0].std == pytest.approx(100 * 0.2 / math.sqrt(2))


@pytest.mark.parametrize(
    ("size", "share"), [(359, "a fixed share of the test set"), (360, "all of the test set")]
)
def test_curves_say_whether_they_are_of_all_test_images(size, share):
    made = record("dense", curves=[point(1, 0.1, 5, 1), point(1, 0.3, 10, 2)])
    made.settings["evaluation"]["curve_size"] = size
    assert made.data["test"] == 360
    found = {figure.name: figure for figure in draw(board([made]))}
    assert share in found["curves-step-toy"].caption


def test_curves_against_steps_need_several_in_a_round():
    points = [point(1, 0.1, 10, step=1), point(1, 0.2, 10, step=9), point(2, 0.6, 20, step=30)]
    found = curves.curve([record("dense", curves=points)], "step")
    assert [(p.at, p.mean) for p in found] == [(1, pytest.approx(10)), (9, pytest.approx(20))]
    assert curves.curve([record("fedavg", curves=points[1:])], "step") == []


def test_curves_follow_the_global_model_or_else_the_mean():
    points = [point(1, 0.2, 10, name="a"), point(1, 0.4, 10, name="b")]
    assert curves.curve([record("x", curves=points)], "bytes")[0].mean == pytest.approx(30)
    points.append(point(1, 0.9, 10))
    assert curves.curve([record("x", curves=points)], "bytes")[0].mean == pytest.approx(90)
    points.append(point(1, None, 10))
    assert curves.curve([record("x", curves=points)], "bytes")[0].mean == pytest.approx(90)


def test_per_class_means_over_seeds_that_know_the_class():
    made = board(
        [
            record("dense", 0, per_class=[0.2, None, 0.5, None]),
            record("dense", 1, per_class=[0.4, 0.6, 0.5, None]),
        ]
    )
    found = classes.recall(made.views[0], Cast(made))
    assert found[:3] == pytest.approx([30, 60, 50])
    assert math.isnan(found[3])


def test_class_map_sorts_contenders_before_controls_and_hatches_gaps():
    made = board(
        [
            record("worse", accuracy=0.2, per_class=[0.2, None, 0.2, 0.2]),
            record("better", accuracy=0.5),
            record("centralised", accuracy=0.9),
        ]
    )
    axes = sketched(classes, made)[0].drawing.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["better", "worse", "centralised †"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "<b>", "$x_1$"]
    written = [text.get_text() for text in axes.texts]
    assert written == ["50"] * 4 + ["20"] * 3 + ["90"] * 4
    assert axes.patch.get_hatch()


def test_a_hundred_classes_have_no_numbers():
    made = board(
        [record(m, classes=[f"class {c}" for c in range(100)]) for m in ("dense", "fedavg")]
    )
    axes = sketched(classes, made)[0].drawing.axes[0]
    assert len(axes.texts) == 0
    assert len(axes.get_xticks()) <= 50


def test_many_classes_stand_from_best_to_worst():
    rising = [c / 30 for c in range(30)]
    names = [f"class {c}" for c in range(30)]
    (sketch,) = sketched(classes, board([record("dense", classes=names, per_class=rising)]))
    shown = [label.get_text() for label in sketch.drawing.axes[0].get_xticklabels()]
    assert shown[0] == "class 29"
    assert "best to worst" in sketch.caption
    (sketch,) = sketched(classes, board([record("dense", classes=names[:4], per_class=rising[:4])]))
    assert "best to worst" not in sketch.caption


def test_records_without_classes_have_no_class_map():
    assert sketched(classes, board([record("dense", per_class=[])])) == []


def test_steps_are_whole_numbers():
    points = [point(1, 0.1 * s, 10, step=s) for s in range(1, 21)]
    for last in (3, 8, 20):
        (sketch,) = sketched(curves, board([record("dense", curves=points[:last])]))
        axes = sketch.drawing.axes[0]
        sketch.drawing.draw_without_rendering()
        assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_curves_without_a_budget_have_one_panel_for_all_budgets():
    rounds = [point(r, 0.1 * r, 1000 * r) for r in (1, 2, 3)]
    made = [record("fedavg", curves=rounds)]
    made += [record("coreset", budget=b, curves=rounds[:1]) for b in (100, 500)]
    (sketch,) = sketched(curves, board(made))
    assert len(sketch.drawing.axes) == 1
    made[1:] = [record("coreset", budget=b, curves=rounds[:2]) for b in (100, 500)]
    (sketch,) = sketched(curves, board(made))
    assert len(sketch.drawing.axes) == 2


def test_a_series_goes_through_schemes_that_draw_and_that_do_not():
    made = [record(method) for method in ("dense", "fedavg")]
    for one in (record(method, beta=0.5) for method in ("dense", "fedavg")):
        one.settings["partition"] = {"scheme": "iid", "clients": 3, "max_tries": 1000}
        made.append(one)
    on = board(made)
    assert [look.label for look in Cast(on).series(on.views)] == ["dense", "fedavg"]
