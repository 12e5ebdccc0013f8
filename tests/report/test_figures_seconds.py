"""Seconds of clients and server: a row for each method, whatever the clock says."""

from __future__ import annotations

import pytest
from figure_boards import board, drawn_lines, record, sketched

from fedbench.report.figures import seconds, style


@pytest.fixture(autouse=True)
def _style():
    with style.context():
        yield


def test_short_seconds_stand_in_a_lane():
    made = board([record("local", seconds=(20.0, 1e-5)), record("dense", seconds=(20.0, 3.0))])
    sketch = sketched(seconds, made)[0]
    axes = sketch.drawing.axes[0]
    assert sketch.timing
    assert axes.get_xticklabels()[0].get_text() == "<1 ms"
    assert "millisecond" in sketch.caption


def test_each_method_has_a_row_of_seconds_also_where_clients_work_alike():
    shared = {"dense": 90.0, "feddf": 3.0, "fedavg": 0.1, "local": 0.5}
    made = board(record(name, seconds=(20.0, server)) for name, server in shared.items())
    axes = sketched(seconds, made)[0].drawing.axes[0]
    named = [label.get_text() for label in axes.get_yticklabels()]
    assert named == ["feddf", "dense", "fedavg †", "local †"]
    known = {(x[0], y[0]) for x, y in drawn_lines(axes) if len(x) == 1}
    clients = [at for second, at in known if second == 20.0]
    assert len(set(clients)) == 4
    assert {second for second, at in known if second != 20.0} == set(shared.values())


def test_budgets_are_lines_of_a_row_of_seconds():
    made = [
        record("coreset", beta=beta, budget=pixels * scale, seconds=(1.0, pixels))
        for beta, scale in ((0.1, 1), (0.5, 2))
        for pixels in (3, 9)
    ]
    (sketch,) = sketched(seconds, board([*made, record("dense"), record("dense", beta=0.5)]))
    for axes in sketch.drawing.axes:
        heights = {x[0]: y[0] for x, y in drawn_lines(axes) if len(x) == 1}
        assert heights[9] - heights[3] == pytest.approx(seconds._LINE)
    assert "its budgets" in sketch.caption


def test_captions_do_not_depend_on_seconds():
    def caption(short):
        made = [record("local", seconds=(20.0, short)), record("dense", seconds=(20.0, 3.0))]
        return sketched(seconds, board(made))[0].caption

    assert caption(1e-5) == caption(2.0)
