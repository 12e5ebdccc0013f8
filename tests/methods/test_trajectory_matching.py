"""Trajectory matching at clients and the union at the server: what is sent, kept, refused."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.records.record import read_record, record_path
from fedbench.errors import SettingsError, TrainingError
from fedbench.federation import journal as journals
from fedbench.federation.synthetic import SyntheticSet
from fedbench.methods import METHODS
from fedbench.methods import trajectory_matching as module
from fedbench.methods.trajectory_matching import TrajectoryConfig, _told
from fedbench.models.inference import Inference
from fedbench.synthesis.matching.attempts import ILL, Attempt
from fedbench.synthesis.matching.trajectories import Gradient

#: Budgets by client, hold-outs, and two classes at each of three clients.
SHARED = {
    "partition": {
        "scheme": "classes_exact",
        "clients": 3,
        "classes_per_client": 2,
        "validation": 0.2,
    },
    "budget": {"pixels": 4 * 256, "scope": "per_client"},
}


def matching(**over):
    settings = {
        "experts": 2,
        "start_epochs": 2,
        "expert_batch": 16,
        "inner_steps": 3,
        "inner_batch": 2,
        "iterations": 4,
        "evaluate_every": 2,
        "judges": 2,
        "judge_epochs": 2,
        "lr_images": 10.0,
        "restarts": 0,
        "keep": "best",
    }
    return {"name": "trajectory_matching", **settings, **over}


SEARCH = {"student_recipe": "search", "validation": "pooled", "trials": 3, "search_epochs": 1}


def searching(**over):
    return {"name": "base_images", **SEARCH, **over}


def output(runtime, record, name):
    return load_file(runtime.home / "test" / "outputs" / f"{record.outputs[name]}.safetensors")


def test_mt_4_pixels_change_labels_do_not_and_every_class_has_its_share(compute, runtime):
    record = compute(matching(keep="last"), **SHARED)
    for client, held in enumerate(record.partition["histogram"]):
        kept = output(runtime, record, f"client/{client}")
        assert kept["images"].shape == kept["base"].shape == (4, 1, 16, 16)
        assert not torch.equal(kept["images"], kept["base"])
        own = [label for label, count in enumerate(held) if count]
        assert kept["labels"].tolist() == [label for label in own for _ in range(2)]
    shared = output(runtime, record, "synthetic")
    assert shared["origin"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert record.shared_pixels == 12 * 256


def test_mt_6_base_images_are_what_the_sets_start_from(compute, runtime):
    distilled, base = compute(matching(), **SHARED), compute("base_images", **SHARED)
    folder = runtime.home / "test" / "outputs"
    sent = SyntheticSet.load(folder / f"{base.outputs['synthetic']}.safetensors")
    starts = [output(runtime, distilled, f"client/{client}") for client in range(3)]
    assert torch.equal(sent.labels, torch.cat([each["labels"] for each in starts]))
    start = torch.cat([each["base"] for each in starts])
    assert sent.images.dtype == torch.uint8
    assert torch.equal(sent.images, sent.normalisation.to_pixels(start))


def test_mt_7_the_search_sees_no_test_image(compute, monkeypatch):
    """Models are asked about test images after training, and all trials were before."""
    sizes = []
    whole = Inference.logits

    def listen(self, model, images):
        sizes.append(len(images))
        return whole(self, model, images)

    monkeypatch.setattr(Inference, "logits", listen)
    record = compute(searching(), **SHARED, data={"test_size": 61})
    hold_outs = record.partition["hold_outs"]
    assert sizes == hold_outs * 3 + [61]
    assert record.privileges == ["the clients' hold-outs, pooled at the server"]
    assert record.ledger["traffic"]["up/validation"]["messages"] == 3


def test_mt_8_snapshots_differ_in_value_and_in_storage(compute, monkeypatch):
    found = []
    whole = module.TrajectoryMatching._experts

    def listen(self, client):
        found.append(whole(self, client))
        return found[-1]

    monkeypatch.setattr(module.TrajectoryMatching, "_experts", listen)
    compute(matching(), **SHARED)
    for experts in found:
        for trajectory in experts.trajectories:
            assert len(trajectory) == 3  # T⁺ + M
            for before, after in itertools.pairwise(trajectory):
                assert not torch.equal(before["head.weight"], after["head.weight"])
                for name in experts.names:
                    assert before[name].data_ptr() != after[name].data_ptr()
        one, other = (trajectory[0] for trajectory in experts.trajectories)
        assert not torch.equal(one[experts.names[0]], other[experts.names[0]])


def test_what_is_sent_is_pixels_and_labels_alone(compute):
    sizes = {
        element: compute(matching(element=element), **SHARED).ledger["payload_up"]
        for element in ("fp32", "fp16", "uint8")
    }
    pixels, labels = 12 * 256, 12 * 8
    assert sizes == {
        "fp32": 4 * pixels + labels,
        "fp16": 2 * pixels + labels,
        "uint8": pixels + labels,
    }


def test_clients_distil_once_whatever_the_server_does(compute, runtime):
    compute(matching(), **SHARED)
    compute(matching(element="fp16"), **SHARED)
    compute(matching(**SEARCH), **SHARED)
    folder = runtime.home / "artefacts"
    assert len(list((folder / "trajectory-set").glob("*.safetensors"))) == 3
    assert len(list((folder / "classifier").glob("*.safetensors"))) == 6


def test_the_record_says_how_experts_and_clients_did(compute, runtime):
    record = compute(matching(), **SHARED)
    on_disk = read_record(record_path(runtime.home, "test", record.cell_id))
    assert on_disk.findings == record.findings
    assert [each["client"] for each in record.findings["clients"]] == [0, 1, 2]
    for each in record.findings["clients"]:
        assert each["experts"] == 2
        assert each["expert_bytes"] > 0
        assert 0 <= each["expert_accuracy"] <= 1
    json.dumps(record.findings)


def test_both_gradients_lead_to_the_same_images(compute, runtime):
    found = [
        output(runtime, compute(matching(gradient=way, keep="last"), **SHARED), "synthetic")
        for way in ("recomputed", "unrolled")
    ]
    torch.testing.assert_close(found[0]["images"], found[1]["images"], rtol=1e-3, atol=1e-3)


def test_a_judge_whose_training_diverges_counts_nothing(compute, runtime, monkeypatch):
    def train(worker, net, shared, recipe, *, name, **options):
        if name == "judge 1":
            raise TrainingError("the training loss became nan")
        return train_on_set(worker, net, shared, recipe, name=name, **options)

    train_on_set = module.train_on_set
    monkeypatch.setattr(module, "train_on_set", train)
    kept = output(runtime, compute(matching(), **SHARED), "client/0")
    alone = output(runtime, compute(matching(judges=1), **SHARED), "client/0")["accuracies"]
    torch.testing.assert_close(kept["accuracies"], torch.cat([alone, torch.zeros(3, 1)], 1))


def test_without_hold_outs_the_last_set_is_sent(compute, runtime):
    free = {**SHARED, "partition": {**SHARED["partition"], "validation": 0.0}}
    record = compute(matching(keep="last"), **free)
    kept = output(runtime, record, "client/0")
    assert len(kept["judged"]) == 0
    assert len(kept["losses"]) == 4
    assert "accuracy" not in record.findings["clients"][0]


def test_an_ill_trained_client_starts_again_with_a_smaller_rate(compute, runtime):
    record = compute(matching(lr_images=1e6, restarts=2), **SHARED)
    again = 0
    for client in range(3):
        kept = output(runtime, record, f"client/{client}")
        count = len(kept["ill"])
        assert kept["ill"][:-1].all()
        assert count == 3 or not kept["ill"][-1]
        torch.testing.assert_close(kept["rates"], torch.tensor([1e6, 1e5, 1e4])[:count])
        again += count - 1
    assert again > 0
    ill = [each["client"] for each in record.findings["clients"] if each["ill"]]
    assert record.findings["ill_trained"] == ill


def test_attempts_are_bounded_and_counted(compute):
    record = compute(matching(inner_lr=1e6, restarts=1), **SHARED)
    assert [each["attempts"] for each in record.findings["clients"]] == [2, 2, 2]
    assert record.findings["ill_trained"] == [0, 1, 2]
    assert {each["ill"] for each in record.findings["clients"]} == {ILL[1]}


def attempt(**over):
    config = TrajectoryConfig(name="trajectory_matching", **over)
    return Attempt(torch.zeros(2, 1, 4, 4), config.inner_lr, config.rates(0)), config


def moved(loss, lr=0.0):
    return Gradient(torch.tensor(loss), torch.ones(2, 1, 4, 4), torch.tensor(lr))


@pytest.mark.parametrize("space", ["log", "linear"])
def test_the_learnt_rate_stays_above_zero(space):
    found, config = attempt(inner_lr_space=space, inner_lr_lr=10.0)
    for _ in range(5):
        found.move(moved(0.9, lr=1e6))
        assert float(found.lr) == pytest.approx(config.inner_lr_floor)
    assert not found.diverged


def test_a_client_is_ill_where_nothing_came_of_it():
    codes = []
    for losses, means in (
        ([0.9, 0.9, 0.5, 0.5], [0.3, 0.4]),
        ([0.9, float("nan")], [0.3, 0.4]),
        ([0.5, 0.5, 0.9, 0.9], [0.3, 0.4]),
        ([0.9, 0.9, 0.5, 0.5], [0.4, 0.4]),
        ([0.9, 2e3], [0.3]),
    ):
        found, _ = attempt()
        for loss in losses:
            if not found.diverged:
                found.move(moved(loss))
        for step, mean in enumerate(means):
            found.judge(step, [mean])
        codes.append(found.ill)
    assert codes == [0, 1, 2, 3, 1]


def test_findings_are_those_of_the_set_that_was_sent():
    kept = {
        "ill": torch.tensor([0]),
        "chosen": torch.tensor(0),
        "losses": torch.tensor([1.0, 0.5]),
        "expert_count": torch.tensor(2),
        "expert_bytes": torch.tensor(8),
        "experts": torch.tensor([0.6]),
        "judged": torch.tensor([0, 5, 10]),
        "accuracies": torch.tensor([[0.3], [0.5], [0.2]]),
        "lrs": torch.tensor([1.0, 2.0, 3.0]),
    }
    best, last = (_told(3, kept, keep) for keep in ("best", "last"))
    assert (best["iteration"], best["inner_lr"], best["accuracy"]) == (5, 2.0, 0.5)
    assert (last["iteration"], last["inner_lr"]) == (10, 3.0)
    assert last["accuracy"] < last["base_accuracy"]


def test_where_nothing_could_be_judged_the_last_images_are_the_best():
    found, _ = attempt(lr_images=1.0, momentum=0.0)
    found.judge(0, [])
    found.move(moved(0.5))
    assert float(found.tensors("best")["images"].mean()) == -1.0


def test_attempts_are_compared_by_what_they_would_send():
    found, _ = attempt()
    for step, mean in enumerate([0.1, 0.5, 0.3]):
        found.judge(step, [mean])
    assert (found.worth("best"), found.worth("last")) == (0.5, 0.3)


@pytest.mark.parametrize("element", ["fp32", "fp16", "uint8"])
def test_a_client_whose_quota_is_nothing_sends_nothing_of_the_same_kind(compute, runtime, element):
    few = {
        "partition": {"scheme": "iid", "clients": 3, "validation": 0.0},
        "budget": {"pixels": 2 * 256},  # two images for three clients
    }
    record = compute(matching(element=element, keep="last", experts=1), **few)
    images = output(runtime, record, "synthetic")["images"]
    assert len(images) == 2
    assert images.dtype == (torch.uint8 if element == "uint8" else torch.float32)


def test_augmentation_by_dsa_takes_the_place_of_any_other():
    config = TrajectoryConfig(name="trajectory_matching", augment="none")
    assert config.ops == ()
    assert config.expert_recipe.augment == config.judge_recipe(0.1).augment == "none"


def test_the_best_images_are_kept():
    found, _ = attempt(lr_images=1.0, momentum=0.0)
    for step, mean in enumerate([0.1, 0.5, 0.3]):
        found.judge(step, [mean, mean])
        found.move(moved(0.5))
    assert float(found.tensors("best")["images"].mean()) == -1.0
    assert float(found.tensors("last")["images"].mean()) == -3.0


def test_experts_that_do_not_move_are_an_error_that_says_what_to_do(tiny, runtime):
    record = run_cell(tiny(matching(expert_lr=1e-12), **SHARED), runtime, suite="test")
    assert record.status == "failed"
    assert "do not move within 1 epochs" in record.reason
    assert "raise `span` or `expert_lr`" in record.reason


def test_a_search_whose_trials_all_fail_is_an_error(tiny, runtime, monkeypatch):
    monkeypatch.setattr("fedbench.synthesis.matching.searched.SPACE", {"sgd": (1e30, 1e31)})
    record = run_cell(tiny(searching(search_epochs=4), **SHARED), runtime, suite="test")
    assert record.status == "failed"
    assert "all 3 trials of the search diverged" in record.reason


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"experts": 0}, "greater than or equal to 1"),
        ({"expert_epochs": 1}, "start_epochs = 2 and span = 1 reach to epoch 2"),
        ({"student_recipe": "search"}, "`validation` is none"),
        ({"augment": "color_shear"}, "no operation 'shear'"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_they_are_read(tiny, over, message):
    with pytest.raises((ValidationError, SettingsError), match=message):
        tiny(matching(**over), **SHARED)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"partition": {**SHARED["partition"], "validation": 0.0}}, "partition.validation is 0"),
        ({"budget": None}, "needs a budget"),
        ({"models": {"name": "resnet8", "width": 4}}, "BatchNorm"),
    ],
)
def test_cells_that_cannot_run_are_known_at_plan_time(tiny, over, message):
    cell = tiny(matching(), **{**SHARED, **over})
    assert message in METHODS.get("trajectory_matching")(cell.method).skip(cell)


def test_fewer_images_than_asked_for_are_taken_as_they_are(compute, runtime):
    """A class with one image gives that one; its place in the budget goes to the others."""
    few = {**SHARED, "budget": {"pixels": 60 * 256, "scope": "per_client"}}
    record = compute(matching(), **few)
    for client, held in enumerate(record.partition["histogram"]):
        kept = output(runtime, record, f"client/{client}")
        assert len(kept["labels"]) <= sum(held)
        for label, count in enumerate(torch.bincount(kept["labels"]).tolist()):
            assert count <= held[label]


def test_the_same_number_of_trials_for_base_and_distilled(compute):
    """And the same starting weights and batches: what differs is the images."""
    base = compute(searching(), **SHARED)
    distilled = compute(matching(**SEARCH), **SHARED)
    assert base.findings["search"]["trials"] == distilled.findings["search"]["trials"] == 3
    assert base.ledger["traffic"]["up/validation"] == distilled.ledger["traffic"]["up/validation"]


@pytest.mark.parametrize("at", [3, 6, 17])
def test_a_killed_distillation_goes_on_where_it_was(tiny, runtime, monkeypatch, at):
    monkeypatch.setattr(journals, "_SHARE", math.inf)
    monkeypatch.setattr(journals, "_PACE", 0.0)
    cell = tiny(matching(lr_images=1e6, restarts=1), **SHARED)
    whole = run_cell(cell, dataclasses.replace(runtime, home=runtime.home / "whole"), suite="test")
    calls, move = [], Attempt.move

    def die(self, found):
        calls.append(found)
        if len(calls) == at:
            raise KeyboardInterrupt
        move(self, found)

    monkeypatch.setattr(Attempt, "move", die)
    with pytest.raises(KeyboardInterrupt):
        run_cell(cell, runtime, suite="test")
    before = len(calls)
    again = run_cell(cell, runtime, suite="test")
    assert again.outputs == whole.outputs
    assert again.findings == whole.findings
    assert again.ledger["bytes_total"] == whole.ledger["bytes_total"]
    # The step in hand is lost, and nothing before it.
    total = sum(
        len(load_file(next((runtime.home / "test" / "outputs").glob(f"{digest}*")))["losses"])
        for name, digest in again.outputs.items()
        if name.startswith("client/")
    )
    assert len(calls) - before >= 1
    assert total == 12
