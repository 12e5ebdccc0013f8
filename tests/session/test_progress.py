"""How a sweep is shown while it runs, on a terminal and where there is none."""

import io

import pytest
from rich.console import Console

from fedbench.bench.executors import Event
from fedbench.bench.records.record import Record
from fedbench.session.eta import Eta
from fedbench.session.progress import SweepDisplay


@pytest.mark.parametrize(
    ("status", "metrics", "words"),
    [
        ("ok", {"accuracy": 0.5}, "50.00 %"),
        ("ok", {"accuracy": None}, "no accuracy"),
        ("failed", {}, "FAILED: why [red]"),
    ],
)
def test_every_record_can_be_shown(capsys, monkeypatch, status, metrics, words):
    lines = []
    monkeypatch.setattr(
        "fedbench.session.progress.stderr.print",
        lambda line, **_: lines.append(line),
        raising=False,
    )
    display = SweepDisplay({"x": "a cell"}, Eta({"x": 3.0}, {"x": "local"}, 1), 1)
    display.finished(
        Record(
            cell_id="x",
            status=status,
            suite="s",
            settings={},
            versions={},
            metrics=metrics,
            reason="why [red]",
        )
    )
    assert lines[0].startswith(f"[1/1] a cell: {words} (")


@pytest.fixture
def terminal(monkeypatch):
    """A terminal in place of standard error; returns what stands on it, without its colours."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr("fedbench.session.progress.stderr", console)
    return file


def made(name, status="ok", **values):
    return Record(
        cell_id=name, status=status, suite="s", settings={}, versions={}, reason="why", **values
    )


def test_a_terminal_shows_every_worker_what_is_left_and_when(terminal):
    labels = {"a": "local seed 0", "b": "fedavg seed 0", "c": "fedavg seed 1"}
    methods = {"a": "local", "b": "fedavg", "c": "fedavg"}
    display = SweepDisplay(labels, Eta({"a": 60.0, "b": 240.0, "c": 240.0}, methods, 2), 3)
    with display.showing():
        display.event(Event(0, "a", 0, 0, "client 1", 3, 20))
        display.event(Event(1, "b", 2, 10, "client 3", 1, 2))
        display._bars.refresh()
        seen = terminal.getvalue()
        assert "cells: 0 done, 3 left" in seen
        assert "local seed 0 · client 1" in seen
        assert seen.count("for 0 s") >= 2
        assert "fedavg seed 0 · round 2/10 · client 3" in seen
        assert "~4 min left" in seen
        terminal.truncate(0)
        display.finished(made("a", wall_seconds=60.0))
        display.finished(made("b", "failed"))
        display._bars.refresh()
        later = terminal.getvalue().rpartition("cells:")[2]
        assert later.startswith(" 1 done, 1 failed, 1 left")
        assert "2/3" in later
        assert "seed 0" not in later  # neither worker has anything in hand


def test_plain_lines_say_what_is_left_and_when(monkeypatch):
    lines = []
    monkeypatch.setattr(
        "fedbench.session.progress.stderr.print",
        lambda line, **_: lines.append(line),
        raising=False,
    )
    eta = Eta({"a": 60.0, "b": 240.0}, {"a": "local", "b": "fedavg"}, 1)
    display = SweepDisplay({"a": "one", "b": "two"}, eta, 2)
    clock = [100.0]
    monkeypatch.setattr("fedbench.session.progress.time.monotonic", lambda: clock[0])
    display._start = clock[0]
    for seconds in (0, 1, 30, 31, 61, 119, 123):  # a line after 30, 60 and 120 seconds
        clock[0] = 100.0 + seconds
        display.event(Event(0, "a", 2, 10, "client 3", 4, 20))
    display.event(Event(1, "b", 0, 0, "", 0, 0))
    display.finished(made("a", wall_seconds=90.0, waiting_seconds=30.0))
    display.finished(made("b", "failed"))
    assert lines == [
        "begins one (a)",
        "in hand one: round 2/10 · client 3, epoch 4/20; for 30 s",
        "in hand one: round 2/10 · client 3, epoch 4/20; for 61 s",
        "in hand one: round 2/10 · client 3, epoch 4/20; for 2 min",
        "begins two (b; also in hand: one)",
        "[1/2] one: no accuracy (90.0 s; 2 min so far; 1 left, about 4 min)",
        "[2/2] two: FAILED: why (0.0 s; 2 min so far, 1 failed; 0 left)",
    ]
