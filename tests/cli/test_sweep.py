"""How a sweep names its cells, shows them, and what it does with data that cannot be loaded."""

import os

import pytest

from fedbench.bench.records import Record
from fedbench.cli import sweep
from fedbench.cli.progress import SweepDisplay
from fedbench.errors import SettingsError


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
    assert sweep.label(cell) == f"fedavg (one_shot) {words}seed 3"


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
    display = SweepDisplay(1, {"x": "a cell"})
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
    assert sweep._devices("cpu") == ["cpu"]
    with pytest.raises(SettingsError, match="no device 'cuda:9'"):
        sweep._devices("cuda:9")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert sweep._devices("auto") == sweep._devices("cuda") == ["cuda:0", "cuda:1"]
    assert sweep._devices("cuda:1") == ["cuda:1"]


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
    calls = []

    def instead(cells, runtime, **options):
        calls.append((cells, runtime, options))
        yield from ()

    monkeypatch.setattr("fedbench.bench.executors.execute", instead)

    def run(**options):
        sweep.sweep(path, device="cpu", offline=True, **options)
        return calls[-1]

    return run


def test_data_that_cannot_be_loaded_is_a_warning(asked, capsys):
    cells, _, options = asked()
    assert [entry.cell.data.name for entry in cells] == ["digits", "cifar10"]
    assert options["workers"] == len(os.sched_getaffinity(0))
    assert "data set cifar10 cannot be loaded" in capsys.readouterr().err


def test_force_computes_all_cells_from_the_start(asked, home, runtime):
    from fedbench.bench.cell import run_cell

    cells, means, _ = asked()
    assert not means.refresh
    run_cell(cells[0].cell, runtime, suite="mixed")
    assert [entry.cell_id for entry in asked()[0]] == [cells[1].cell_id]
    scratch = home / "mixed" / "scratch" / cells[0].cell_id
    scratch.mkdir(parents=True)
    again, means, _ = asked(force=True)
    assert again == cells
    assert means.refresh
    assert not scratch.exists()
