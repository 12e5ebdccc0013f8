"""Two values of a setting, names that the font lacks, shades, and what is written once."""

import re
import warnings

import pytest
from figure_boards import board, record

from fedbench.report import labels
from fedbench.report.figures import draw, render, style


def pair(**settings):
    return [
        record(f"m{n}", beta=beta, accuracy=0.4 + n / 20 + beta / 10, seed=seed, **settings)
        for n in range(5)
        for beta in (0.1, 0.5)
        for seed in (0, 1)
    ]


def test_two_values_are_a_line_for_each_method_best_first():
    (figure,) = [one for one in draw(board(pair())) if one.name.startswith("beta")]
    assert "β = 0.1 (open circles) and 0.5 (diamonds)" in figure.caption
    (axes,) = figure._sketch.drawing.axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["m4", "m3", "m2", "m1", "m0"]
    drawn = [line for line in axes.lines if line.get_marker() in ("o", "D")]
    assert len(drawn) == 2 * 5
    assert sorted(float(line.get_xdata()[0]) for line in drawn)[0] == pytest.approx(41)


def test_two_budgets_are_pairs_beside_methods_without_one():
    made = [record(f"m{n}", budget=b, accuracy=n / 9) for n in range(5) for b in (256, 25600)]
    (figure,) = [
        one for one in draw(board([*made, record("fedavg")])) if one.name.startswith("budget")
    ]
    named = [text.get_text() for text in figure._sketch.drawing.legends[0].get_texts()]
    assert named == ["pixels = 256", "pixels = 25,600", "no budget"]
    assert "pixels = 256 (open circles) and 25,600" in figure.caption


def test_all_panels_of_pairs_show_all_their_points():
    made = [
        record(f"m{n}", beta=beta, clients=k, accuracy=0.9 - n / 9 - (k > 3) / 3)
        for n in range(5)
        for beta in (0.1, 0.5)
        for k in (3, 9)
    ]
    (figure,) = [one for one in draw(board(made)) if one.name.startswith("beta")]
    for axes in figure._sketch.drawing.axes:
        across = [x for line in axes.lines for x in line.get_xdata()]
        assert axes.get_xlim()[0] < min(across) <= max(across) < axes.get_xlim()[1]


@pytest.mark.parametrize("betas", [(0.1, 0.5, 1.0)])
def test_three_values_are_curves(betas):
    made = [record(f"m{n}", beta=beta) for n in range(6) for beta in betas]
    (figure,) = [one for one in draw(board(made)) if one.name.startswith("beta")]
    assert "open circles" not in figure.caption


def test_classes_in_any_script_draw_without_a_warning():
    per_class = [0.5, 0.6]
    made = [
        record(f"m{n}", beta=beta, classes=("猫", "犬"), per_class=per_class)
        for n in range(2)
        for beta in (0.1, 0.5)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw(board(made))
    assert style.known("猫 cat") == "[732B] cat"


def test_variants_of_a_method_differ_in_shade_and_keep_its_hue():
    found = style.looks([("a", "a (1)", False), ("a", "a (2)", False), ("b", "b", False)])
    assert len({look.colour for look in found}) == 3
    assert found[0].colour in {colour.lower() for colour in style._HUES}


def test_short_names_stay_apart():
    long = ["single_image (image=china, prune=top)", "single_image (image=noise, prune=top)"]
    short = style.fit_all(long, 1.2)
    assert len(set(short)) == 2
    assert style.fit_all(["a" * 80, "b"], 1.0)[0] != "a" * 80


def test_what_is_drawn_several_times_is_written_once():
    (figure,) = [
        one
        for one in draw(
            board([record("m", per_class=[0.55] * 4), record("k", per_class=[0.55] * 4)])
        )
        if one.name.startswith("classes")
    ]
    groups = re.findall(r'<g [^>]*>\s*<use xlink:href="#(f\w+-\d+)"/>\s*</g>', figure.svg)
    assert len(groups) > len(set(groups))  # 55 stands in eight cells
    assert all(f'id="{name}"' in figure.svg for name in groups)
    assert render.to_svg(figure._sketch) == figure.svg


@pytest.mark.parametrize(
    ("several", "telling"),
    [
        ([{"method.mu": 1}, {"method.mu": 2}], ["method.mu"]),
        ([{"method.mu": 1}], []),
        (
            [  # a search's settings go together, and its name says most
                {"method.trials": 20, "method.recipe": "fixed", "method.dsa": "false"},
                {"method.trials": 8, "method.recipe": "search", "method.dsa": "true"},
            ],
            ["method.recipe"],
        ),
        (
            [
                {"method.element": "fp32", "method.recipe": "fixed", "method.trials": 20},
                {"method.element": "fp16", "method.recipe": "fixed", "method.trials": 20},
                {"method.element": "fp32", "method.recipe": "search", "method.trials": 8},
            ],
            ["method.element", "method.recipe"],
        ),
        ([{"method.a": 1}, {}], ["method.a"]),
    ],
)
def test_labels_have_the_fewest_settings_that_tell_rows_apart(several, telling):
    assert labels.telling(several) == telling


def test_a_name_says_of_three_settings_only_what_is_unusual():
    usual = {"method.aggregate": "all", "method.prior": "own", "method.scale": 1}
    others = [usual | {"method.prior": "none"}, usual | {"method.scale": 0}]
    others.append(usual | {"method.aggregate": "one"})
    several = [usual, *others]
    assert labels.usual(several, labels.telling(several)) == usual


def test_nothing_is_usual_of_two_settings_or_where_some_lack_it():
    two = [{"method.a": a, "method.b": b} for a, b in ((1, 1), (1, 2), (2, 1))]
    assert labels.usual(two, labels.telling(two)) == {}
    names = ("method.a", "method.b", "method.c")
    three = [*({**dict.fromkeys(names, 1), name: 2} for name in names), {"method.a": 1}]
    assert labels.usual(three, names) == {"method.a": 1}


def test_several_values_are_written_as_people_write_them():
    split = {"scheme": "iid", "clients": 3, "domains": ["invert", "tint", "blur"]}
    flat = labels.flatten({"method": {"name": "local"}, "partition": split})
    assert labels.scheme_parameters(flat) == ["domains=invert+tint+blur"]
    assert labels.written({"method.note": "[as it is"}, ["method.note"]) == ["note=[as it is"]
