"""`fedbench show distillation` and `show search` as a user types them, on records of tiny cells."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from typer.testing import CliRunner

from fedbench.cli.main import app
from fedbench.errors import SettingsError
from fedbench.report.pictures.distillation import (
    Course,
    before_and_after,
    courses_page,
    gains,
    search_curve,
    smoothed,
)

MATCHING = {
    "name": "trajectory_matching",
    "experts": 1,
    "start_epochs": 1,
    "expert_batch": 16,
    "inner_steps": 2,
    "iterations": 2,
    "evaluate_every": 1,
    "judges": 2,
    "judge_epochs": 1,
    "restarts": 0,
    "keep": "best",
    "student_recipe": "search",
    "validation": "pooled",
    "trials": 3,
    "search_epochs": 1,
}
SHARED = {"partition": {"validation": 0.2}, "budget": {"ipc": 1}}


@pytest.fixture
def call(home, monkeypatch):
    """Call a command and return its output, or let its error out."""
    monkeypatch.setattr("fedbench.session.console.stdout.width", 300, raising=False)

    def run(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception:
            raise result.exception
        return result.output

    return run


def course(client=0, ill="", judged=3):
    source = np.random.default_rng(client)
    pixels = source.integers(0, 255, (4, 3, 8, 8), dtype=np.uint8)
    return Course(
        client=client,
        base=pixels,
        images=255 - pixels,
        labels=np.array([0, 0, 2, 2]),
        losses=np.linspace(1.0, 0.5, 80),
        judged=10 * np.arange(judged),
        accuracies=source.random((judged, 3)),
        sent=max(judged - 1, 0),
        attempts=1 + bool(ill),
        ill=ill,
    )


def texts(sketch):
    found = [text.get_text() for text in sketch.drawing.findobj(match=_is_text)]
    return " | ".join(text for text in found if text)


def _is_text(artist):
    return hasattr(artist, "get_text")


def test_a_cell_of_trajectory_matching_has_its_pictures(call, compute, home):
    record = compute(MATCHING, **SHARED)
    call("show", "distillation", record.cell_id)
    said = call("show", "search", record.cell_id)
    folder = home / "test" / "pictures" / record.cell_id
    kinds = ("distillation", "distilled", "gains", "search")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{kind}.{end}" for kind in kinds for end in ("png", "svg")
    )
    assert said.count(" %") == 3
    assert said.count("*") == 1
    best = record.findings["search"]
    assert f"{100 * best['at']:.2f} % *" in said
    with pytest.raises(SettingsError, match="selects no crops"):
        call("show", "patches", record.cell_id)


def test_other_cells_say_what_has_these_pictures(call, compute):
    record = compute("random_real", budget={"ipc": 1})
    with pytest.raises(SettingsError, match="a cell of trajectory_matching does"):
        call("show", "distillation", record.cell_id)
    with pytest.raises(SettingsError, match="student_recipe: search does"):
        call("show", "search", record.cell_id)


def test_ill_trained_clients_are_marked():
    courses = [course(0), course(1, ill="it diverged")]
    page = courses_page("distillation", "some · facts", courses)
    assert "client 0 |" in texts(page) + " |"
    assert "client 1, 2 attempts (ill-trained)" in texts(page)
    lines = [line for axes in page.drawing.axes for line in axes.lines]
    assert {line.get_linestyle() for line in lines} == {"-", ":", "--"} or len(lines) >= 4
    assert "1*" in texts(gains("gains", "facts", courses))
    assert "0*" not in texts(gains("gains", "facts", courses))


def test_base_and_distilled_images_stand_side_by_side():
    drawn = before_and_after("distilled", ["Head"], [course(0), course(3)], ["a", "b", "c"])
    words = texts(drawn)
    assert "Base" in words
    assert "Distilled" in words
    assert words.count("client 3") == 2  # one row for each of its classes
    assert " b " not in f" {words} "


def test_without_hold_outs_only_losses_are_drawn():
    bare = dataclasses.replace(course(), judged=np.arange(0), accuracies=np.empty((0, 3)))
    assert len(courses_page("distillation", "facts", [bare]).drawing.axes) == 1
    assert len(courses_page("distillation", "facts", [course()]).drawing.axes) == 2


def test_losses_are_averaged_over_thirty_iterations_or_what_there_is():
    found = smoothed(np.arange(100.0))
    assert found[0] == 0
    assert found[9] == np.arange(10).mean()
    assert found[99] == np.arange(70, 100).mean()
    assert len(smoothed(np.empty(0))) == 0


def test_a_trial_that_failed_leaves_the_curve_where_it_was():
    values = np.array([np.nan, 0.2, np.nan, 0.5, 0.3])
    drawn = search_curve("search", "facts", ["sgd", "adam", "sgd", "sgd", "adam"], values)
    best = drawn.drawing.axes[0].lines[0]
    assert best.get_xdata().tolist() == [2, 3, 4, 5]
    assert best.get_ydata().tolist() == [20, 20, 50, 50]
