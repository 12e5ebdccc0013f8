"""Figures against settings of methods: which are drawn, what is joined, what stands level."""

import math
import random

import pytest
from figure_boards import board, record

from fedbench.report.figures import draw, settings, style, sweeps
from fedbench.report.figures.series import Cast

TIMES = (20, 50, 100, 200)


@pytest.fixture(autouse=True)
def _style():
    with style.context():
        yield


def sketched(made):
    made = made if hasattr(made, "rows") else board(made)
    return list(settings.sketches(made.views, Cast(made)))


# `col_dm` is nobody's method: records of built-in ones are completed by their defaults.
def swept(times=TIMES, method="col_dm", **where):
    """Make a record for each number of iterations, its accuracy that number over 1000."""
    options = where.pop("options", {})
    return [
        record(method, accuracy=t / 1000, options={"iterations": t, **options}, **where)
        for t in times
    ]


def suite(**where):
    """Make a sweep with all kinds of rows to compare with."""
    return [
        *swept(**where),
        record("local_dm", accuracy=0.1, options={"iterations": 400}, **where),
        *swept((100,), options={"expand": 2}, **where),
        record("random_real", accuracy=0.3, **where),
        record("centralised", accuracy=0.9, **{**where, "budget": None}),
    ]


def drawn(axes):
    """Return (places, heights) of each line with a marker."""
    return [
        ([round(x, 6) for x in line.get_xdata()], [round(y, 6) for y in line.get_ydata()])
        for line in axes.lines
        if isinstance(line.get_marker(), str) and line.get_marker() not in ("None", "")
    ]


def legend(sketch):
    return [text.get_text() for text in sketch.drawing.legends[0].get_texts()]


def test_points_are_joined_and_references_stand_level():
    (sketch,) = sketched(suite(budget=640))
    assert sketch.name == "iterations-toy"
    assert sketch.title == "toy: accuracy against iterations"
    lines = drawn(sketch.drawing.axes[0])
    assert ([20, 50, 100, 200], [2, 5, 10, 20]) in lines
    level = sorted(heights for places, heights in lines if places == [0, 1])
    assert level == [[10, 10], [10, 10], [30, 30], [90, 90]]
    assert len(lines) == 5


def test_many_other_variants_of_the_swept_method_are_counted_and_not_drawn():
    others = ({"expand": 2}, {"lr": 5}, {"samples": 7})
    variants = [swept((100,), options=each)[0] for each in others]
    other = record("random_real", accuracy=0.3)
    (few,) = sketched([*swept(), *variants[:2], other])
    (many,) = sketched([*swept(), *variants, other])
    assert (len(legend(few)), len(legend(many))) == (4, 2)
    assert "Not drawn: 3 other variants of the method." in many.caption
    assert "Not drawn" not in few.caption


def test_only_a_label_of_what_is_not_joined_has_the_setting():
    (sketch,) = sketched(suite(budget=640))
    assert legend(sketch) == [
        "col_dm",
        "col_dm (expand=2, iterations=100)",
        "local_dm",
        "centralised",
        "random_real",
    ]


def test_the_caption_says_whose_setting_it_is_and_what_is_level():
    (sketch,) = sketched(suite(budget=640))
    assert "against iterations, a setting of col_dm;" in sketch.caption
    assert "Level lines" in sketch.caption
    assert "No error bars: n = 1 seed." in sketch.caption
    assert "Gaps" not in sketch.caption
    assert "shifted" not in sketch.caption
    (alone,) = sketched(swept())
    assert "Level lines" not in alone.caption


def test_other_figures_keep_a_series_for_each_value():
    made = board(suite(budget=640))
    labels = [look.label for look in Cast(made).series(made.views)]
    assert labels[:5] == [
        "col_dm (expand=2, iterations=100)",
        *(f"col_dm (iterations={t})" for t in TIMES),  # 20 before 100
    ]


@pytest.mark.parametrize(
    "other",
    [
        swept(TIMES[:2]),
        [*swept(TIMES[:1]), *swept(TIMES[1:3], options={"expand": 2})],
        [*swept(TIMES[:2], budget=640), *swept(TIMES[2:], budget=1280)],
        [*swept(TIMES[:2], beta=0.1), *swept(TIMES[2:], beta=0.5)],
        [*swept(TIMES[:2]), *swept(TIMES[2:], "local_dm")],
        [record("col_dm", options={"augment": name}) for name in ("a", "b", "c")],
        [record("col_dm", options={"joint": flag}) for flag in (True, False)],
        [record("col_dm", accuracy=None, options={"iterations": t}) for t in TIMES],
    ],
)
def test_a_curve_has_three_values_of_a_number_in_one_panel(other):
    assert sketched([*other, record("fedavg")]) == []


def test_three_values_are_enough():
    assert len(sketched(swept(TIMES[:3]))) == 1


def test_each_budget_and_setting_of_blocks_has_a_panel():
    made = [*suite(budget=640), *suite(budget=1280), *swept((50,), budget=640, epochs=9)]
    (sketch,) = sketched(made)
    titles = [axes.get_title(loc="left") for axes in sketch.drawing.axes]
    assert titles == ["budget 640 px total", "budget 1,280 px total"]
    for axes in sketch.drawing.axes:
        assert ([0, 1], [90, 90]) in drawn(axes)  # without a budget, in both
        assert len(drawn(axes)) == 5


def test_a_value_that_only_another_panel_has_is_a_gap():
    made = [*swept(budget=640), *swept((20, 50, 200), budget=1280)]
    (sketch,) = sketched(made)
    (_, heights) = drawn(sketch.drawing.axes[1])[0]
    assert heights[:2] + heights[3:] == [2, 5, 20]
    assert math.isnan(heights[2])
    assert "Gaps" in sketch.caption


def test_a_value_of_another_series_is_no_gap():
    made = [*swept((10, 100, 1000)), *swept((20, 200), "local_dm")]
    (sketch,) = sketched(made)
    heights = [heights for _, heights in drawn(sketch.drawing.axes[0])]
    assert sorted(heights) == [[1, 10, 100], [2, 20]]
    assert "Gaps" not in sketch.caption
    assert "a setting of col_dm, local_dm;" in sketch.caption
    assert "shifted" in sketch.caption
    ticks = [label.get_text() for label in sketch.drawing.axes[0].get_xticklabels()]
    assert ticks == ["10", "20", "100", "200", "1,000"]


def test_series_that_differ_otherwise_are_curves_of_their_own():
    made = [*swept(), *swept(options={"expand": 2}), record("col_dm", accuracy=0.7)]
    (sketch,) = sketched(made)
    assert legend(sketch) == ["col_dm", "col_dm (expand=2)"]
    lines = drawn(sketch.drawing.axes[0])
    assert len(lines) == 3
    assert ([0, 1], [70, 70]) in lines  # whose number of iterations is not given


def test_error_bars_are_deviations_over_seeds():
    made = [
        record("col_dm", seed, 0.2 + seed / 10, options={"iterations": t})
        for seed in (0, 1)
        for t in TIMES
    ]
    (sketch,) = sketched(made)
    (bars,) = sketch.drawing.axes[0].collections
    low, high = (point[1] for point in bars.get_segments()[0])
    assert (high - low) / 2 == pytest.approx(10 / math.sqrt(2))
    assert "n = 2 seeds" in sketch.caption


def test_settings_within_settings_and_zero_have_figures():
    made = [
        record("feddf", options={"selection": {"size": n}, "mu": n / 10}, accuracy=0.1 + n / 10)
        for n in (0, 1, 2)
    ]
    assert sketched(made) == []  # neither varies alone
    made = [record("feddf", options={"selection": {"size": n}}) for n in (0, 1, 2)]
    (sketch,) = sketched(made)
    assert sketch.name == "selection-size-toy"
    assert sketch.drawing.axes[0].get_xscale() == "linear"


def test_a_setting_called_as_another_figure_is_takes_no_name_of_it():
    made = [record("m", sent=b, beta=v, options={"beta": b}) for b in (1, 2, 3) for v in (0.1, 1.0)]
    found = {figure.name: figure.title for figure in draw(board(made))}
    assert found["beta-toy"] == "toy: accuracy against β"
    assert found["beta-toy-2"] == "toy: accuracy against beta"


def test_a_reference_looks_as_in_the_other_figures():
    made = board(suite(budget=640))
    along = settings.Along(made, "method.iterations")
    for row in made.views:
        if row.values["method"] in ("local_dm", "random_real", "centralised"):
            assert along.look(row) == Cast(made).look(row)


def test_same_bytes_for_shuffled_records():
    made = [*suite(budget=640), *suite(budget=1280, seed=1), *suite(budget=1280)]
    expected = [figure.svg for figure in draw(board(made))]
    random.Random(5).shuffle(made)
    assert [figure.svg for figure in draw(board(made))] == expected
    assert any("against iterations" in svg for svg in expected)


def test_a_legend_of_many_settings_stays_inside_the_figure():
    long = {"element": "fp32", "fraction": 0.5, "seeds_of_networks": 7, "expand": 1}
    made = [
        record("col_dm", options={**long, "iterations": t, "expand": e}, budget=pixels)
        for t in TIMES
        for e in (1, 2)
        for pixels in (100, 300, 500)
    ]
    made += [
        record("col_dm", options={**long, "element": "fp16", "fraction": f}, budget=100)
        for f in (0.25, 1.0)
    ]
    on = board(made)
    (sketch,) = sweeps.sketches(on.views, Cast(on))
    sketch.drawing.draw_without_rendering()
    (box,) = sketch.drawing.legends
    assert len(set(legend(sketch))) == 10
    assert box.get_window_extent().x1 <= sketch.drawing.bbox.x1


@pytest.mark.parametrize("place", [("budget", 640, 1280), ("beta", 0.1, 0.5)])
def test_what_varies_between_panels_alone_is_not_joined(place):
    name, *values = place
    made = []
    for value, times in zip(values, (100, 200), strict=True):
        made += [*swept(**{name: value}), *swept((times,), "local_dm", **{name: value})]
    (sketch,) = sketched(made)
    assert legend(sketch) == [
        "col_dm",
        "local_dm (iterations=100)",
        "local_dm (iterations=200)",
    ]
    levels = [[y for x, y in drawn(axes) if x == [0, 1]] for axes in sketch.drawing.axes]
    assert levels == [[[10, 10]], [[20, 20]]]


def test_figures_come_in_the_order_of_the_settings_names():
    usual = dict.fromkeys("gcaebdf", 1)
    made = [record("feddf", options={**usual, name: n}) for name in usual for n in (2, 3)]
    found = sketched([record("feddf", options=usual), *made])
    assert [sketch.name for sketch in found] == [f"{name}-toy" for name in "abcdefg"]
