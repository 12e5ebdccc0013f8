"""How a sweep names its cells, shows them, and what it does with data that cannot be loaded."""

import io
import os

import pytest
import typer
from rich.console import Console

from fedbench.bench.cells.cards import Seen
from fedbench.bench.estimate import Estimate
from fedbench.bench.executors import Event
from fedbench.bench.records.record import Record
from fedbench.bench.suites.plan import planned
from fedbench.cli import crew as module
from fedbench.cli import sweep
from fedbench.cli.crew import crew_of, devices_of
from fedbench.cli.eta import Eta
from fedbench.cli.labels import cell_labels
from fedbench.cli.progress import SweepDisplay
from fedbench.errors import DataError, SettingsError


@pytest.mark.parametrize(
    ("partition", "words"),
    [
        ({"scheme": "iid"}, ""),
        ({"scheme": "dirichlet", "beta": 0.1}, "β=0.1 "),
        ({"scheme": "dirichlet_per_client", "sigma": 0.5}, "β=0.5 sigma=0.5 "),
        ({"scheme": "floor_per_class", "beta": 1}, "β=1 floor=10 "),
        ({"scheme": "shards_fixed"}, "shards=2 "),
    ],
)
def test_a_label_has_what_its_scheme_uses(tiny, partition, words):
    cell = tiny({"name": "fedavg", "preset": "one_shot"}, partition=partition, seed=3)
    found = cell_labels({"x": cell.model_dump(mode="json")})
    assert found == {"x": f"fedavg (one_shot) {words}seed 3"}


def test_labels_have_what_tells_cells_apart(tiny):
    cells = [
        tiny("local"),
        tiny("local", data={"name": "mnist"}),
        tiny("random_real", budget={"ipc": 1}),
        tiny("random_real", budget={"ipc": 10}),
        tiny({"name": "fedavg", "rounds": 3}, partition={"clients": 4}),
        tiny({"name": "fedavg", "rounds": 5}, models="resnet8"),
    ]
    found = cell_labels({str(n): cell.model_dump(mode="json") for n, cell in enumerate(cells)})
    assert list(found.values()) == [
        "local digits convnet-w4-d2-instance clients=3 seed 0",
        "local mnist convnet-w4-d2-instance clients=3 seed 0",
        "random_real digits convnet-w4-d2-instance ipc=1 clients=3 seed 0",
        "random_real digits convnet-w4-d2-instance ipc=10 clients=3 seed 0",
        "fedavg (rounds=3) digits convnet-w4-d2-instance clients=4 seed 0",
        "fedavg (rounds=5) digits resnet8-w16 clients=3 seed 0",
    ]


def test_a_students_settings_are_named_for_those_that_have_one(tiny):
    cells = [
        planned(tiny("local", student={"epochs": 9})).cell,
        planned(tiny("random_real", budget={"ipc": 1}, student={"epochs": 3})).cell,
        planned(tiny("random_real", budget={"ipc": 1}, student={"epochs": 9})).cell,
    ]
    found = cell_labels({str(n): cell.model_dump(mode="json") for n, cell in enumerate(cells)})
    assert list(found.values()) == [
        "local seed 0",
        "random_real (student.epochs=3) seed 0",
        "random_real (student.epochs=9) seed 0",
    ]


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
        "fedbench.cli.progress.stderr.print", lambda line, **_: lines.append(line), raising=False
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


def test_a_gpu_each_or_the_device_that_was_named(monkeypatch):
    assert devices_of("cpu") == ["cpu"]
    with pytest.raises(SettingsError, match="no device 'cuda:9'"):
        devices_of("cuda:9")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert devices_of("auto") == devices_of("cuda") == ["cuda:0", "cuda:1"]
    assert devices_of("cuda:1") == ["cuda:1"]


@pytest.mark.parametrize(
    ("asked", "estimate", "workers"),
    [
        (0, Estimate({"a": 1.0}, memory=2**30), 8),
        (0, Estimate({"a": 1.0}, memory=30 * 2**30), 4),
        (0, Estimate({"a": 1.0, "b": None}, memory=2**30), 8),
        (0, Estimate({"a": 1.0}, memory=2**30, scaled={"a": "other networks"}), 8),
        (3, Estimate({"a": 1.0}, memory=2**30), 3),
    ],
)
def test_local_workers_share_cards_by_memory_unless_their_number_is_given(
    monkeypatch, asked, estimate, workers
):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(module, "look", lambda devices: [Seen("a card", 80 * 2**30)] * len(devices))
    monkeypatch.setattr(module, "available_cores", lambda: 16)
    crew = crew_of("local", None, "cuda", asked).shared(estimate)
    assert (crew.size, crew.devices, crew.card) == (workers, ("cuda:0", "cuda:1"), "a card")


def test_other_crews_stay_as_they_are():
    for crew in (crew_of("local", None, "cpu", 0), crew_of("ray", None, "cuda", 0)):
        assert crew.shared(Estimate({"a": 1.0}, memory=2**30)) is crew
        assert crew.card is None


def test_who_computes():
    crew = crew_of("local", None, "cpu", 0)
    assert (crew.size, crew.device) == (len(os.sched_getaffinity(0)), "cpu")
    ray = crew_of("ray", "auto", "auto", 0)
    assert (ray.workers, ray.devices, ray.device) == (0, (), None)
    with pytest.raises(SettingsError, match="did you mean 'ray'"):
        crew_of("rai", None, "cpu", 0)
    with pytest.raises(SettingsError, match="give --executor ray"):
        crew_of("local", "host:1", "cpu", 0)


SUITE = """
name: mixed
profile: only
fixed:
  partition: {scheme: iid, clients: 2}
  models: {name: convnet, width: 4, depth: 2}
  recipe: {epochs: 1}
  evaluation: {curve_size: 20}
  method: local
axes:
  data: [{name: digits, train_size: 120, test_size: 50}, {name: cifar10}]
profiles:
  only: {seeds: 1}
"""


@pytest.fixture
def asked(monkeypatch, home, tmp_path):
    """Run sweeps of SUITE that compute nothing; return what they would have been."""
    monkeypatch.setenv("FEDBENCH_DATA", str(home / "none"))
    path = tmp_path / "mixed.yaml"
    path.write_text(SUITE)
    calls: list = []

    def instead(cells, runtime, **options):
        calls.append((cells, runtime, options))
        yield from ()

    monkeypatch.setattr("fedbench.bench.executors.execute", instead)

    def run(**options):
        sweep.sweep(path, device="cpu", offline=True, **options)
        return calls[-1]

    run.calls, run.path = calls, path
    return run


def test_cells_without_their_data_do_not_begin_and_are_no_failures(asked, capsys, home):
    with pytest.raises(typer.Exit) as caught:
        asked()
    assert caught.value.exit_code == 1
    (cells, _, options) = asked.calls[-1]
    assert [entry.cell.data.name for entry in cells] == ["digits"]
    assert options["workers"] == len(os.sched_getaffinity(0))
    said = capsys.readouterr().err
    assert "1 cell cannot begin" in said
    assert said.count("cifar10: no file of it is below") == 1
    assert not list((home / "mixed" / "records").glob("*"))


def test_a_sweep_without_any_data_is_one_error_before_any_cell(asked):
    with pytest.raises(DataError, match="cifar-10-batches-py") as caught:
        asked(only=["dataset=cifar10"])
    assert str(caught.value).count("cifar10: no file of it is below") == 1
    assert asked.calls == []


def test_a_dry_run_says_what_data_lack_and_ends_well(asked, capsys):
    sweep.sweep(asked.path, device="cpu", offline=True, dry_run=True)
    assert "1 cell cannot begin for want of data; cifar10: no file" in capsys.readouterr().err


def test_more_images_than_there_are_is_one_error_before_any_cell(asked):
    with pytest.raises(DataError, match="train_size is 5000, but digits has 1437"):
        asked(only=["dataset=digits"], settings=["data.train_size=5000"])
    assert asked.calls == []


def test_force_computes_all_cells_from_the_start(asked, home, runtime):
    from fedbench.bench.cells.cell import run_cell

    digits = {"only": ["dataset=digits"]}
    cells, means, _ = asked(**digits)
    assert not means.refresh
    run_cell(cells[0].cell, runtime, suite="mixed")
    assert asked(**digits)[0] == []
    scratch = home / "mixed" / "scratch" / cells[0].cell_id
    scratch.mkdir(parents=True)
    asked(**digits)
    assert not scratch.exists()  # what a kill between record and clearing has left
    scratch.mkdir(parents=True)
    again, means, _ = asked(force=True, **digits)
    assert again == cells
    assert means.refresh
    assert not scratch.exists()


@pytest.fixture
def terminal(monkeypatch):
    """A terminal in place of standard error; returns what stands on it, without its colours."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr("fedbench.cli.progress.stderr", console)
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
        "fedbench.cli.progress.stderr.print", lambda line, **_: lines.append(line), raising=False
    )
    eta = Eta({"a": 60.0, "b": 240.0}, {"a": "local", "b": "fedavg"}, 1)
    display = SweepDisplay({"a": "one", "b": "two"}, eta, 2)
    clock = [100.0]
    monkeypatch.setattr("fedbench.cli.progress.time.monotonic", lambda: clock[0])
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
