"""Looks, labels, scales and legends of figures: stable, distinct, readable."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys

import numpy as np
import pytest
from figure_boards import board, record
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedbench.methods import METHODS
from fedbench.report.figures import layout, style, sweeps
from fedbench.report.figures.layout import Grid, handles
from fedbench.report.figures.scales import LogScale, amount, dodge, settings_axis
from fedbench.report.figures.series import Cast, Page, Panel, panels

#: What eyes without red, or without green, cones see of linear RGB (Machado, Oliveira, Fernandes
#: 2009, severity 1), and linear RGB to Oklab (Ottosson 2020).
SIGHTS = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]
    ),
    "deuteranopia": np.array(
        [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]
    ),
}
TO_CONES = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]])
TO_LAB = np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]])
WORDS = st.text("abcdefgh_", min_size=1, max_size=8)


@pytest.fixture(autouse=True)
def _style():
    with style.context():
        yield


def looks(names, control=False):
    return dict(zip(names, style.looks([(n, n, control) for n in names]), strict=True))


@given(st.lists(WORDS, min_size=1, max_size=8, unique=True))
def test_eight_methods_have_eight_colours_and_markers(names):
    found = looks(names).values()
    assert len({look.colour for look in found}) == len(names)
    assert len({look.marker for look in found}) == len(names)


@given(st.lists(WORDS, min_size=9, max_size=14, unique=True))
def test_fourteen_methods_can_be_told_apart_in_grey(names):
    found = looks(names).values()
    assert len({look.marker for look in found}) == len(names)
    uses = [look.colour for look in found]
    assert max(map(uses.count, uses)) <= 2


@given(st.lists(WORDS, min_size=2, max_size=8, unique=True), st.randoms())
def test_looks_do_not_depend_on_order(names, source):
    shuffled = list(names)
    source.shuffle(shuffled)
    assert looks(names) == looks(shuffled)


def test_a_new_method_recolours_few():
    source = random.Random(0)
    kept = total = 0
    for _ in range(300):
        names = ["".join(source.choices("abcdefgh", k=6)) for _ in range(6)]
        before, after = looks(names[:-1]), looks(names)
        kept += sum(before[name].colour == after[name].colour for name in names[:-1])
        total += len(names) - 1
    assert kept / total > 0.85


def test_controls_are_grey_and_hollow_and_take_no_colour_away():
    found = style.looks([("a", "a", False), ("local", "local", True), ("b", "b", True)])
    assert found[0] == style.looks([("a", "a", False)])[0]
    assert [look.face for look in found[1:]] == ["white", "white"]
    assert {look.colour for look in found[1:]} == {style.GREY}
    assert found[1].marker != found[2].marker


def test_variants_of_a_method_have_shades_of_its_colour():
    made = board([record("fedprox", options={"mu": mu}) for mu in (0.1, 1.0)] + [record("dense")])
    found = [Cast(made).look(row) for row in made.views]
    assert [look.label for look in found] == ["dense", "fedprox (mu=0.1)", "fedprox (mu=1)"]
    assert found[1].colour == style.METHODS["fedprox"][0].lower()
    assert (found[1].marker, found[0].marker) == ("P", "o")
    assert found[2].colour == style._shaded(found[1].colour, 1)
    assert len({look.colour for look in found}) == 3
    assert len({look.marker for look in found}) == 3


def test_budgets_and_splits_are_one_series():
    made = board(
        record("coreset", budget=pixels, beta=beta) for pixels in (100, 500) for beta in (0.1, 0.5)
    )
    assert {Cast(made).look(row).label for row in made.views} == {"coreset"}
    made = board(record("x", budget=b, options={"mu": mu}) for b, mu in ((100, 1), (500, 2)))
    assert {Cast(made).look(row).label for row in made.views} == {"x (mu=1)", "x (mu=2)"}


def test_panels_name_what_varies_and_rows_without_a_budget_stand_in_all():
    made = board(
        [record("coreset", budget=b, epochs=e) for b in (9000, 100) for e in (5, 9)]
        + [record("dense", epochs=e) for e in (5, 9)]
    )
    found = panels(made.views)
    assert [panel.facts["budget"] for panel in found] == [
        "budget 100 px total",
        "budget 9,000 px total",
    ] * 2
    assert [panel.facts["recipe.epochs"] for panel in found] == ["recipe.epochs=5"] * 2 + [
        "recipe.epochs=9"
    ] * 2
    assert {len(panel.rows) for panel in found} == {2}


def test_long_names_are_cut_in_the_middle_unless_that_confuses_them():
    name = "a_long_name_of_a_plugin_v2"
    short = style.fit(name, 0.8)
    assert style.width(short) <= 0.8
    assert short.startswith("a_l")
    assert short.endswith("_v2")
    assert "…" in short
    assert style.fit("short", 0.8) == "short"
    others = [f"a_long_name_{middle}_of_a_plugin_v2" for middle in ("one", "two")]
    assert style.fit_all(others, 0.8) == others
    assert style.fit_all([name, "b"], 0.8) == [short, "b"]


def test_lines_break_at_separators():
    text = "digits · dirichlet_capped · β=0.1 · K=5"
    lines = style.wrap(text, 1.4)
    assert " · ".join(lines) == text
    assert len(lines) > 1
    assert all(style.width(line) <= 1.4 for line in lines)


@given(
    st.lists(st.floats(1e-6, 1e12) | st.just(0.0), min_size=1, max_size=8),
    st.sampled_from([0.0, 1e-3]),
)
def test_log_axes_hold_all_values_and_have_ticks(values, floor):
    scale = LogScale.of(values, "B", floor)
    places = scale.place(values)
    assert all(scale.start < place < scale.high for place in places)
    assert scale.lane == any(value <= floor for value in values)
    ticks = scale.ticks(4)
    assert len(ticks) >= 1
    assert all(scale.low <= tick <= scale.high for tick in ticks)


def test_few_ticks_over_many_decades():
    scale = LogScale.of([1, 1e9], "B")
    assert scale.ticks(3) == [1.0, 1e4, 1e8]
    assert LogScale.of([2000, 3000], "B").ticks(4) == [1e3, 2e3, 5e3]


def test_points_spread_around_their_place_only_where_they_coincide():
    scale = LogScale.of([10, 1e6], "B")
    assert scale.spread([10, 1e4, 1e6], 2.0) == [10, 1e4, 1e6]
    spread = scale.spread([1e4] * 9 + [1e6], 2.0)
    assert spread[:9] == sorted(set(spread[:9]))
    assert spread[4] == pytest.approx(1e4)
    assert spread[8] / spread[0] < 10 ** (0.25 / 2 * 6)
    assert spread[9] == 1e6


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1, "B", "1 B"),
        (1e4, "B", "10 kB"),
        (2e6, "B", "2 MB"),
        (1e15, "B", "1,000 TB"),
        (1e-3, "s", "1 ms"),
        (5e-5, "s", "50 µs"),
        (0.5, "s", "500 ms"),
        (2000, "s", "2,000 s"),
    ],
)
def test_amounts_are_read_by_people(value, unit, text):
    assert amount(value, unit) == text


def test_labels_of_a_settings_axis_leave_out_what_does_not_fit():
    axes = Figure().add_subplot()
    settings_axis(axes, [0.1, 0.11, 1.0, 10.0], 2.0)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "", "1", "10"]
    assert axes.get_xscale() == "log"
    settings_axis(Figure().add_subplot(), [0.0, 1.0], 2.0)


def test_series_are_shifted_around_their_value():
    shifts = dodge(3, [0.1, 1.0, 10.0])
    assert shifts[0] < 1 < shifts[2]
    assert shifts[1] == pytest.approx(1)
    assert shifts[2] / shifts[0] < 1.6
    assert dodge(1, [0.1, 1.0]) == [1.0]


@pytest.mark.parametrize("count", [3, 14])
def test_nothing_in_a_legend_or_header_overlaps_or_leaves_the_figure(count):
    names = [f"method_{place}_{'x' * (3 * place)}" for place in range(count)]
    page = Page("p", "toy", "toy · " + " · ".join(["fact"] * 20), [Panel({}, [], "β=1")] * 4, 2)
    grid = Grid(page, handles(looks(names).values()))
    grid.name_axes("across", "down")
    card = grid.drawing.bbox
    (legend,) = grid.drawing.legends
    parts = [
        *(axes.get_window_extent() for axes in grid.axes),
        legend.get_window_extent(),
        *(text.get_window_extent() for text in grid.drawing.texts),
    ]
    for part in parts:
        assert card.x0 - 1 <= part.x0
        assert part.x1 <= card.x1 + 1
        assert card.y0 - 1 <= part.y0
        assert part.y1 <= card.y1 + 1
    for one, other in itertools.combinations(parts, 2):
        assert not one.padded(-1).overlaps(other.padded(-1))


def test_a_name_with_an_underscore_or_dollars_stands_in_the_legend():
    made = board(record(m, beta=b) for m in ("_under", "$x_1$") for b in (0.1, 1.0))
    (sketch,) = sweeps.sketches(made.views, Cast(made))
    shown = [text.get_text().strip() for text in sketch.drawing.legends[0].get_texts()]
    assert shown == ["$x_1$", "_under"]


def test_matplotlib_is_imported_late():
    code = (
        "import sys; import fedbench.report.figures, fedbench.cli.main; "
        "print([m for m in ('matplotlib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_legend_that_would_cut_names_asks_for_more_width():
    def fits(names):
        return layout._legend_fits([Line2D([], [], label=name) for name in names], layout.COLUMN)

    assert fits([f"method {number}" for number in range(12)])
    assert not fits([f"collabdm (fedbench, expand={number})" for number in range(9)])


def test_every_built_in_method_has_a_look_of_its_own():
    methods = {name: METHODS.get(name) for name in METHODS.names()}
    assert set(style.METHODS) == {name for name, each in methods.items() if not each.control}
    controls = {name for name, each in methods.items() if each.control}
    assert controls == {name.split(" (")[0] for name in style.CONTROLS}
    for place in (0, 1):
        assert len({look[place] for look in style.METHODS.values()}) == len(style.METHODS)
    assert len(set(style.CONTROLS.values())) == len(style.CONTROLS)
    assert set(style.CONTROLS.values()) <= set(style.HOLLOW)


@given(st.sets(st.sampled_from(sorted(style.METHODS)), min_size=1), st.lists(WORDS, max_size=3))
def test_a_method_has_one_colour_and_marker_on_all_boards(methods, others):
    shown = [(name, f"{name} (fedbench*)", False) for name in sorted(methods)]
    shown += [(name, f"{name} (fedbench*, steps={n})", False) for name in methods for n in (5, 20)]
    shown += [(f"_{name}", f"_{name}", False) for name in dict.fromkeys(others)]
    shown += [("fedavg", "fedavg*", True), ("fedavg", "fedavg (one_shot)", True)]
    found = dict(zip((label for _, label, _ in shown), style.looks(shown), strict=True))
    for name in methods:
        look = found[f"{name} (fedbench*)"]
        assert (look.colour.upper(), look.marker) == style.METHODS[name]
        assert found[f"{name} (fedbench*, steps=5)"].colour != look.colour
    assert (found["fedavg*"].marker, found["fedavg (one_shot)"].marker) == ("v", "P")
    (alone,) = style.looks([("fedavg", "fedavg (one_shot)", True)])
    assert alone.marker == "P"


def test_methods_stay_apart_under_red_green_blindness():
    def seen(colour, sight):
        parts = np.array(to_rgb(colour))
        light = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return 100 * TO_LAB @ np.cbrt(TO_CONES @ np.clip(SIGHTS[sight] @ light, 0, 1))

    def nearest(colours):
        return min(
            np.linalg.norm(seen(one, sight) - seen(other, sight))
            for one, other in itertools.combinations(colours, 2)
            for sight in SIGHTS
        )

    ours = [colour for colour, _ in style.METHODS.values()]
    assert nearest(ours) >= nearest(style.COLOURS)
