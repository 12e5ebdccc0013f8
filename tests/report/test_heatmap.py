"""The partition's heat map: stable bytes, labels, and room for many clients and classes."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from fedbench.report.heatmap import _draw, partition_heatmap

NAMES = ["airplane", "automobile", "bird", "cat", "deer"]
COUNTS = [[192, 1, 1434, 0, 0], [0, 596, 456, 9, 4000]]


def texts(figure):
    axes = figure.axes[0]
    return [text.get_text() for text in axes.texts]


def test_same_bytes_every_time(tmp_path):
    paths = [tmp_path / name / "map.svg" for name in "ab"]
    for path in paths:
        partition_heatmap(COUNTS, NAMES, "digits, iid, seed 0", path)
    content = paths[0].read_bytes()
    assert content == paths[1].read_bytes()
    assert b"<dc:date>" not in content
    assert ElementTree.fromstring(content).tag.endswith("svg")
    assert [p.name for p in paths[0].parent.iterdir()] == ["map.svg"]


def test_axes_name_clients_classes_and_units():
    figure = _draw(np.array(COUNTS), NAMES, "a title")
    axes, bar = figure.axes
    assert axes.get_title() == "a title"
    assert [t.get_text() for t in axes.get_xticklabels()] == NAMES
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0 (1,627)", "1 (5,061)"]
    assert axes.get_ylabel() == "client (images)"
    assert "images" in bar.get_ylabel()
    assert axes.yaxis_inverted()


def test_counts_stand_in_cells_where_they_fit():
    figure = _draw(np.array(COUNTS), NAMES, "")
    assert sorted(texts(figure)) == sorted(["192", "1", "1434", "596", "456", "9", "4000"])
    darkest = next(t for t in figure.axes[0].texts if t.get_text() == "4000")
    assert darkest.get_color() == "white"
    assert next(t for t in figure.axes[0].texts if t.get_text() == "9").get_color() == "black"
    assert texts(_draw(np.ones((100, 10), int), [str(c) for c in range(10)], "")) == []


@pytest.mark.parametrize("shape", [(100, 10), (10, 100), (1000, 100), (1, 1), (7000, 2)])
def test_sizes_and_ticks_stay_bounded(tmp_path, shape):
    counts = np.arange(np.prod(shape)).reshape(shape) % 7
    names = [f"class {c}" for c in range(shape[1])]
    figure = _draw(counts, names, "t")
    assert max(figure.get_size_inches()) <= 13
    assert len(figure.axes[0].get_xticks()) <= 25
    assert len(figure.axes[0].get_yticks()) <= 25
    if shape == (1000, 100):
        partition_heatmap(counts.tolist(), names, "t", tmp_path / "map.svg")
        assert (tmp_path / "map.svg").stat().st_size < 2_000_000


@pytest.mark.parametrize("counts", [[[1, 2]], [], [1, 2, 3, 4, 5]])
def test_shapes_that_do_not_fit(tmp_path, counts):
    with pytest.raises(ValueError, match="does not fit 5 classes"):
        partition_heatmap(counts, NAMES, "t", tmp_path / "map.svg")


def test_no_torch_and_no_pyplot(tmp_path):
    code = (
        "import sys; from pathlib import Path; from fedbench.report.heatmap import "
        f"partition_heatmap as p; p([[1]], ['a'], 't', Path({str(tmp_path / 'm.svg')!r})); "
        "print([m for m in ('torch', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
