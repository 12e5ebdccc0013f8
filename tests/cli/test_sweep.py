"""What a sweep begins, and what it does with data that cannot be loaded."""

import os

import pytest
import typer

from fedbench.cli import sweep
from fedbench.errors import DataError

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
