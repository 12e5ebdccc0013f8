"""Heat maps of partitions: stable bytes, labels, and room for many clients and classes."""

from __future__ import annotations

import itertools
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from figure_boards import board, record

from fedbench.report.figures import partition, style
from fedbench.report.figures.partition import partition_heatmap
from fedbench.report.figures.series import Cast, Page, Panel

NAMES = ["airplane", "automobile", "bird", "cat", "deer"]
COUNTS = [[192, 1, 1434, 0, 0], [0, 596, 456, 9, 4000]]


@pytest.fixture(autouse=True)
def _style():
    with style.context():
        yield


def drawn(counts, classes, title="a title"):
    page = Page("partition", "", title, [Panel({}, [])], 1)
    return partition._draw(page, [np.asarray(counts)], classes).drawing


def sketched(made):
    return list(partition.sketches(made.views, Cast(made)))


def texts(figure, panel=0):
    return [text.get_text() for text in figure.axes[panel].texts]


def test_same_bytes_every_time(tmp_path):
    paths = [tmp_path / name / "map.svg" for name in "ab"]
    for path in paths:
        partition_heatmap(COUNTS, NAMES, "digits, iid, seed 0", path)
    content = paths[0].read_bytes()
    assert content == paths[1].read_bytes()
    assert b"date" not in content
    assert ElementTree.fromstring(content)[0].text == "digits, iid, seed 0"
    assert [p.name for p in paths[0].parent.iterdir()] == ["map.svg"]


def test_axes_name_clients_classes_and_units():
    figure = drawn(COUNTS, NAMES)
    axes, bar = figure.axes
    assert [text.get_text() for text in figure.texts] == ["a title", "class", "client"]
    tall = drawn(COUNTS * 4, NAMES).texts[-1].get_text()  # two rows have no room for it
    assert tall == "client (images)"
    assert [t.get_text() for t in axes.get_xticklabels()] == NAMES
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0 (1,627)", "1 (5,061)"]
    assert bar.get_ylabel() == "images"
    assert axes.yaxis_inverted()


def test_counts_stand_in_cells_where_they_fit():
    figure = drawn(COUNTS, NAMES)
    assert sorted(texts(figure)) == sorted(["192", "1", "1434", "596", "456", "9", "4000"])
    colours = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert colours["4000"] == "white"
    assert colours["9"] == style.INK
    assert texts(drawn(np.ones((100, 10), int), [str(c) for c in range(10)])) == []


@pytest.mark.parametrize("shape", [(100, 10), (10, 100), (1000, 100), (1, 1), (7000, 2)])
def test_sizes_and_ticks_stay_bounded(tmp_path, shape):
    counts = np.arange(np.prod(shape)).reshape(shape) % 7
    names = [f"class {c}" for c in range(shape[1])]
    figure = drawn(counts, names)
    assert max(figure.get_size_inches()) <= style.TALLEST
    assert len(figure.axes[0].get_xticks()) <= 50
    places = figure.axes[0].get_yticks()
    high = figure.axes[0].get_position().height * figure.get_size_inches()[1]
    assert np.diff(places).min(initial=shape[0]) * high / shape[0] > partition._NAMED
    if shape == (1000, 100):
        partition_heatmap(counts.tolist(), names, "t", tmp_path / "map.svg")
        assert (tmp_path / "map.svg").stat().st_size < 2_000_000


@pytest.mark.parametrize("counts", [[[1, 2]], [], [1, 2, 3, 4, 5]])
def test_shapes_that_do_not_fit(tmp_path, counts):
    with pytest.raises(ValueError, match="does not fit 5 classes"):
        partition_heatmap(counts, NAMES, "t", tmp_path / "map.svg")


def test_the_lowest_seed_of_each_split_is_drawn_once():
    made = board(
        record(method, seed, beta=beta, epochs=epochs)
        for method in ("dense", "fedavg")
        for seed in (2, 1)
        for beta in (0.1, 0.5)
        for epochs in (5, 9)
    )
    (sketch,) = sketched(made)
    assert "seed 1 (" in sketch.caption
    panels = [axes.get_title(loc="left") for axes in sketch.drawing.axes]
    assert panels == ["β=0.1", "β=0.5", ""]
    counts = record("dense", 1).partition["histogram"]
    assert texts(sketch.drawing) == [str(n) for row in counts for n in row if n]


def test_a_seed_that_failed_in_one_method_is_taken_from_another():
    made = board([record("dense", 1), record("fedavg", 0)])
    assert "seed 0 (" in sketched(made)[0].caption


def test_numbers_of_clients_have_figures_of_their_own():
    made = board(record("dense", clients=clients) for clients in (3, 100))
    assert [sketch.name for sketch in sketched(made)] == [
        "partition-toy-k-3",
        "partition-toy-k-100",
    ]
    many = sketched(made)[1].drawing.axes[0]
    assert [label.get_text() for label in many.get_yticklabels()][:2] == ["0", "5"]


def test_thirty_clients_side_by_side_have_names_that_stand_apart():
    (sketch,) = sketched(board(record("dense", clients=30, beta=b) for b in (0.05, 0.1, 0.5)))
    sketch.drawing.draw_without_rendering()
    boxes = [label.get_window_extent() for label in sketch.drawing.axes[0].get_yticklabels()]
    assert len(boxes) == 15
    assert all(low.y1 < high.y0 for high, low in itertools.pairwise(boxes))


def test_records_without_a_histogram_have_no_figure():
    bare = record("dense").model_copy(update={"partition": {}})
    assert sketched(board([bare])) == []


def test_no_torch_and_no_pyplot(tmp_path):
    code = (
        "import sys; from pathlib import Path; from fedbench.report.figures.partition import "
        f"partition_heatmap as p; p([[1]], ['a'], 't', Path({str(tmp_path / 'm.svg')!r})); "
        "print([m for m in ('torch', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
