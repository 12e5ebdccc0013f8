"""Cross-architecture evaluation: other networks trained on the same shared set."""

from dataclasses import replace

import pytest
import safetensors.torch

from fedbench.bench.suites.plan import skip_reason
from fedbench.config import identity
from fedbench.models.families import MODELS
from fedbench.report import labels

OTHER = {"name": "resnet8", "width": 4}
METHODS = [
    {"name": "random_real"},
    {"name": "local_dm", "iterations": 2},
    {"name": "local_kip", "steps": 2},
    {"name": "collabdm", "iterations": 2, "local_iterations": 1},
]


def on(model):
    return {"budget": {"ipc": 1}, "student": {"model": model}}


def weights(runtime, record):
    path = runtime.home / "test" / "outputs" / f"{record.outputs['global']}.safetensors"
    return safetensors.torch.load_file(path)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_another_network_is_trained_on_the_same_set(compute, runtime, method):
    own, other = compute(method, **on(None)), compute(method, **on(OTHER))
    assert own.cell_id != other.cell_id
    assert own.outputs["synthetic"] == other.outputs["synthetic"]
    assert own.ledger["payload_up"] == other.ledger["payload_up"]
    assert not any("running_mean" in name for name in weights(runtime, own))
    assert any("running_mean" in name for name in weights(runtime, other))  # BatchNorm: a ResNet


def test_the_set_of_all_clients_is_matched_once(compute, runtime):
    collab = METHODS[-1]
    first = compute(collab, **on(None))
    again = compute(collab, **on(OTHER))
    kept = runtime.home / "artefacts" / "matched-set"
    assert len(list(kept.glob("*.safetensors"))) == 1
    assert first.ledger["shared_seconds"] == 0
    assert again.ledger["shared_seconds"] > 0
    compute({**collab, "lr": 1.0}, **on(None))
    compute({**collab, "initial": "noise"}, **on(None))
    assert len(list(kept.glob("*.safetensors"))) == 3


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_an_architecture_that_does_not_take_the_images_is_skipped_with_a_reason(tiny, method):
    reason = skip_reason(tiny(method, **on("vgg11")))
    assert reason is not None
    assert "vgg11" in reason
    assert "16x16" in reason


def test_clients_with_several_architectures_need_one_for_the_set(tiny, compute):
    mixed = {"models": [{"name": "convnet", "width": 4, "depth": 2}, OTHER]}
    reason = skip_reason(tiny("random_real", **mixed, budget={"ipc": 1}))
    assert reason is not None
    assert "student.model" in reason
    compute("random_real", **mixed, **on(OTHER))
    embedding = skip_reason(tiny(METHODS[-1], **mixed, **on(OTHER)))
    assert embedding is not None
    assert "`embedding`" in embedding


def test_only_methods_with_a_shared_set_are_other_cells_for_it(tiny):
    assert tiny("fedavg").cell_id == tiny("fedavg", student={"model": OTHER}).cell_id


def test_a_new_version_of_the_architecture_is_another_cell(tiny, monkeypatch):
    cell = tiny("random_real", **on(OTHER))
    known = cell.cell_id
    monkeypatch.setitem(MODELS._loaded, "resnet8", replace(MODELS.get("resnet8"), version=99))
    assert cell.cell_id != known
    assert identity(cell)["versions"]["student_model"] == 99


def test_a_row_names_it_in_one_word(tiny):
    flat = labels.flatten(tiny("random_real", **on(OTHER)).model_dump(mode="json"))
    assert flat["student.model"] == "resnet8-w4"
    assert labels.written(flat, ["student.model"]) == ["student.model=resnet8-w4"]
    assert not any(name.startswith("student.model.") for name in flat)
