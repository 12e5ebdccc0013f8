"""One cell from settings to record."""

import dataclasses
import multiprocessing
import shutil

import pytest
import torch
from safetensors.torch import load_file
from shared import PETS

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.datasets import load_data
from fedbench.bench.cells.harness import headline
from fedbench.bench.records.compare import compare
from fedbench.bench.records.record import find_record
from fedbench.errors import SettingsError
from fedbench.models.factory import build
from fedbench.training import heap


def test_one_class_is_nothing_to_classify(pets, runtime, tiny):
    for part in ("train", "test"):
        shutil.rmtree(pets / "pets" / part / "dog")
    cell = tiny("local", data=PETS)
    record = run_cell(cell, dataclasses.replace(runtime, data=pets), suite="test")
    assert record.status == "failed"
    assert "pets holds one class, 'cat', and a classifier needs two" in record.reason


def test_the_same_cell_twice_has_the_same_numbers(tiny, runtime):
    cell = tiny({"name": "fedavg", "rounds": 2, "epochs": 1})
    one = run_cell(cell, runtime, suite="one")
    again = run_cell(cell, dataclasses.replace(runtime, refresh=True), suite="two")
    assert compare(one, again) == []
    other = run_cell(cell.model_copy(update={"seed": 1}), runtime, suite="one")
    assert compare(one, other)


def test_a_cell_leaves_the_global_generators_alone(compute):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    compute("random_real", budget={"ipc": 1})
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_kept_model_has_the_recorded_accuracy(compute, runtime, tiny):
    from fedbench.bench.cells.datasets import load_data

    record = compute("centralised", recipe={"epochs": 5})
    cell = tiny("centralised")
    net = build(cell.models[0], channels=1, size=16, classes=10, seed=9)
    net.load_state_dict(
        load_file(runtime.home / "test" / "outputs" / f"{record.outputs['global']}.safetensors")
    )
    data = load_data(cell.data, runtime)
    mean, std = data.constants.mean[0], data.constants.std[0]
    net.eval()
    predicted = net((data.test.images / 255 - mean) / std).argmax(1)
    right = (predicted == data.test.labels).double().mean().item()
    assert right == pytest.approx(record.metrics["accuracy"])
    assert right > 0.2


def test_a_failed_cell_leaves_a_record_and_is_tried_again(tiny, runtime, monkeypatch):
    import fedbench.bench.cells.cell as module

    cell = tiny("local")

    def broken(*args):
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_partition", broken)
        record = run_cell(cell, runtime, suite="test")
    assert record.status == "failed"
    assert "MemoryError: no room" in record.reason
    assert "broken" in record.traceback
    assert find_record(runtime.home, "test", cell.cell_id)[1].status == "failed"
    assert run_cell(cell, runtime, suite="test").status == "ok"


def test_a_diverging_recipe_fails_within_the_epoch(tiny, runtime):
    cell = tiny("centralised", recipe={"lr": 1e30, "epochs": 50})
    record = run_cell(cell, runtime, suite="test")
    assert record.status == "failed"
    assert "TrainingError" in record.reason
    assert "lr" in record.reason or "learning rate" in record.reason


@pytest.mark.parametrize(("lr", "status"), [(0.1, "ok"), (1e30, "failed")])
def test_memory_is_kept_within_a_cell_and_given_back_after_it(
    tiny, runtime, monkeypatch, lr, status
):
    told = []
    monkeypatch.setattr(heap, "keep", lambda: told.append("keep"))
    monkeypatch.setattr(heap, "give_back", lambda: told.append("give back"))
    record = run_cell(tiny("centralised", recipe={"lr": lr}), runtime, suite="test")
    assert record.status == status
    assert told == ["keep", "give back"]


def test_scratch_goes_with_success(compute, runtime):
    record = compute("fedavg")
    assert not (runtime.home / "test" / "scratch" / record.cell_id).exists()


def test_bf16_runs_and_is_another_cell(compute, tiny):
    record = compute("centralised", precision="bf16-mixed")
    assert record.cell_id != tiny("centralised").cell_id
    assert record.metrics["accuracy"] > 0


def test_headline_of_a_mean_is_over_models():
    model = {
        "accuracy": 0.2,
        "balanced_accuracy": 0.2,
        "nll": 1.0,
        "ece": 0.1,
        "per_class": [0.2, None],
        "own_mix": 0.7,
    }
    rows = {"client/0": model, "client/1": {**model, "accuracy": 0.6, "own_mix": 0.5}}
    found = headline(rows, "mean")
    assert found["accuracy"] == pytest.approx(0.4)
    assert (found["worst_accuracy"], found["best_accuracy"]) == (0.2, 0.6)
    assert found["worst_client"] == 0.5
    assert found["per_class"] == [pytest.approx(0.2), None]


def test_a_failure_does_not_take_a_good_records_place(tiny, runtime, monkeypatch):
    import fedbench.bench.cells.cell as module

    cell = tiny("local")
    good = run_cell(cell, runtime, suite="test")

    def broken(*args):
        raise MemoryError("no room")

    monkeypatch.setattr(module, "_partition", broken)
    assert run_cell(cell, runtime, suite="test").status == "failed"
    path, kept = find_record(runtime.home, "test", cell.cell_id)
    assert kept == good
    assert path.with_suffix(".failed").exists()


def _same_cell(cell, runtime, results):
    results.put(run_cell(cell, runtime, suite="test").wall_seconds)


def test_of_two_processes_at_one_cell_the_second_takes_the_firsts_record(tiny, runtime):
    cell = tiny({"name": "fedavg", "rounds": 8, "epochs": 2})
    load_data(cell.data, runtime)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [
        context.Process(
            target=_same_cell,
            args=(cell, dataclasses.replace(runtime, show=print, say=print), results),
        )
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert results.get(timeout=5) == results.get(timeout=5)
    assert find_record(runtime.home, "test", cell.cell_id)[1].status == "ok"


def test_a_device_that_is_not_here_is_a_clear_error(tiny, runtime):
    with pytest.raises(SettingsError, match="there is no device 'cuda:77'"):
        run_cell(tiny("local"), dataclasses.replace(runtime, device="cuda:77"), suite="test")


def test_clients_whose_classes_are_not_tested_do_not_make_a_nan():
    model = {
        "accuracy": 0.2,
        "balanced_accuracy": 0.2,
        "nll": 1.0,
        "ece": 0.1,
        "per_class": [0.2, None],
        "own_mix": None,
    }
    rows = {"client/0": model, "client/1": {**model, "own_mix": 0.5}}
    found = headline(rows, "mean")
    assert found["worst_client"] == found["own_mix"] == 0.5


def test_a_damaged_output_is_written_anew_by_the_cell_that_is_computed_again(runtime, tiny):
    cell = tiny({"name": "fedavg", "preset": "one_shot"})
    record = run_cell(cell, runtime, suite="test")
    path = runtime.home / "test" / "outputs" / f"{record.outputs['global']}.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    again = run_cell(cell, dataclasses.replace(runtime, refresh=True), suite="test")
    assert again.outputs == record.outputs
    assert path.read_bytes() == whole
