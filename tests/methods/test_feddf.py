"""FedDF and what it shares with the single image: messages, mirrors, starts, validation."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.suites.plan import planned
from fedbench.federation.message import Message
from fedbench.methods import METHODS
from fedbench.methods.feddf import PARTNERS
from fedbench.synthesis.public.voting import Best
from fedbench.training.pool import TrainerPool

SHARED = {"budget": {"pixels": 20 * 256}}
MIXED = {
    **SHARED,
    "models": [
        {"name": "convnet", "width": 4, "depth": 2, "norm": "batch"},
        {"name": "resnet8", "width": 8},
    ],
}
HELD_OUT = {"partition": {"validation": 0.3}}


def feddf(**over):
    return {"name": "feddf", "steps": 6, "batch_size": 8, **over}


def by_logits(**over):
    return feddf(exchange="logits", augment="none", **over)


def weights(runtime, record, name="global"):
    return load_file(runtime.home / "test" / "outputs" / f"{record.outputs[name]}.safetensors")


def model_bytes(runtime, record, name="global"):
    return Message.of_model(weights(runtime, record, name)).payload_bytes


def test_unused_images_are_a_privilege_and_their_pixels_are_counted(compute):
    record = compute(feddf(), **SHARED)
    assert record.resources == ["unused@20"]
    assert record.shared_pixels == 20 * 256
    assert record.privileges == ["20 images of the clients' own data set, which no client holds"]


def test_weights_go_down_and_up_once_a_round(compute, runtime):
    record = compute(feddf(rounds=2), **SHARED)
    size = model_bytes(runtime, record)
    assert record.ledger["payload_down"] == 3 * (8 + size)  # a seed gives the initial weights
    assert record.ledger["payload_up"] == 2 * 3 * size
    assert [point["step"] for point in record.curves] == [1, 2]


def test_logits_go_up_and_public_images_go_down_once(compute, runtime):
    record = compute(by_logits(rounds=3, init_every=2), **SHARED)
    size = model_bytes(runtime, record)
    places, images, logits = 4 * 20, 20 * 256, 4 * 20 * 10
    assert record.ledger["payload_down"] == 3 * (8 + 2 * size + 3 * places + images)
    # Rounds 1 (warm) and 2 (divisible by 2) start from the average, so weights go up as well.
    assert record.ledger["payload_up"] == 3 * (3 * logits + 2 * size)


def test_logits_alone_go_up_where_no_round_starts_from_the_average(compute):
    record = compute(by_logits(warm_rounds=0, init_every=9), **SHARED)
    assert record.ledger["payload_up"] == 3 * 4 * 20 * 10


def test_logits_and_weights_without_augmentation_give_the_same_student(compute):
    one = compute(by_logits(), **SHARED)
    other = compute(feddf(augment="none"), **SHARED)
    assert one.outputs == other.outputs
    assert compute(feddf(augment="crop"), **SHARED).outputs != other.outputs


def test_no_step_leaves_the_average_of_the_clients(compute):
    student = compute(feddf(steps=0, weighting="samples"), **SHARED)
    assert student.outputs == compute({"name": "fedavg", "preset": "one_shot"}).outputs


def test_its_client_trainings_are_those_of_the_ensemble(compute):
    assert compute("ensemble").ledger["shared_seconds"] == 0
    assert compute(feddf(), **SHARED).ledger["shared_seconds"] > 0


def test_a_bound_on_logits_is_another_client_training(compute, tiny):
    compute("ensemble")
    record = compute(feddf(logit_length=2.5), **SHARED)
    assert record.ledger["shared_seconds"] == 0
    plain, bounded = (planned(tiny(feddf(**over), **SHARED)) for over in ({}, {"logit_length": 2}))
    assert plain.trainings == planned(tiny("ensemble")).trainings != bounded.trainings


def test_fd_4_and_si_7_a_mirror_for_each_architecture_and_their_mean(compute, runtime):
    record = compute(feddf(rounds=2), **MIXED)
    models = record.metrics["models"]
    assert list(models) == ["mirror/convnet-w4-d2-batch", "mirror/resnet8-w8"]
    accuracies = [scores["accuracy"] for scores in models.values()]
    assert record.metrics["accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert record.metrics["best_accuracy"] == max(accuracies)
    assert record.metrics["own_mix"] is None
    assert {point["name"] for point in record.curves} == set(models)
    # Clients 0 and 1 have the first architecture, client 2 the second: nobody gets another one's.
    sizes = [model_bytes(runtime, record, name) for name in models]
    assert record.ledger["payload_down"] == 3 * 8 + 2 * sizes[0] + sizes[1]


@pytest.mark.parametrize("exchange", [feddf, by_logits])
def test_every_mirror_learns_from_all_clients(compute, runtime, exchange):
    alone = compute(exchange(steps=0), **MIXED)
    taught = compute(exchange(steps=6), **MIXED)
    for name in alone.outputs:
        assert alone.outputs[name] != taught.outputs[name]


def test_a_round_without_an_architectures_clients_keeps_its_mirror_going(compute):
    record = compute(feddf(rounds=2), **MIXED, participation=0.34)
    assert set(record.metrics["models"]) == {"mirror/convnet-w4-d2-batch", "mirror/resnet8-w8"}


def test_the_reference_keeps_the_last_clients_buffers(compute, runtime):
    norm = {**SHARED, "models": {"name": "convnet", "width": 4, "depth": 2, "norm": "batch"}}
    mean, last = (
        weights(runtime, compute(feddf(steps=0, average_buffers=average), **norm))
        for average in (True, False)
    )
    different = {name for name in mean if not torch.equal(mean[name], last[name])}
    assert different
    assert all("running" in name for name in different)


@pytest.mark.parametrize("mode", ["poll", "pooled"])
def test_validation_is_charged_and_the_best_snapshot_stays(compute, mode):
    record = compute(feddf(validation=mode, validate_every=2), **SHARED, **HELD_OUT)
    traffic = record.ledger["traffic"]
    if mode == "poll":  # after steps 1, 2, 4, 6; three clients each
        assert traffic["down/validation"]["messages"] == 4 * 3
    else:
        assert traffic["up/validation"]["messages"] == 3
        assert "the clients' hold-outs, pooled at the server" in record.privileges


@pytest.mark.parametrize(
    ("method", "name", "how"),
    [
        ({"name": "feddf", "preset": "reference"}, "resnet8", "kaiming_normal"),
        ({"name": "feddf", "preset": "reference"}, "wrn16_4", "kaiming_normal"),
        ({"name": "single_image", "preset": "reference"}, "resnet8", "kaiming_normal"),
        ({"name": "single_image", "preset": "reference"}, "wrn16_4", "kaiming_uniform"),
        ({"name": "feddf", "preset": "single_image_rival"}, "wrn16_4", "kaiming_uniform"),
        ({"name": "single_image", "preset": "reference"}, "convnet", None),
        ({"name": "feddf", "preset": "fedbench"}, "resnet8", None),
    ],
)
def test_references_start_networks_as_their_codes_do(tiny, method, name, how):
    cell = tiny({**method, "validation": "none"}, **SHARED, models={"name": name})
    assert cell.method.started(cell.models[0]).initialisation == how


def test_a_models_own_start_goes_before_the_methods(tiny):
    model = {"name": "resnet8", "initialisation": "kaiming_uniform"}
    cell = tiny({"name": "single_image", "preset": "reference"}, **SHARED, models=model)
    assert cell.method.started(cell.models[0]) == cell.models[0]


def test_the_start_that_a_method_names_is_the_one_that_models_name(compute, runtime, tiny):
    """At every client, in the mirrors, in the store of trainings, and in the plan's names."""
    named = {"name": "resnet8", "width": 4, "initialisation": "kaiming_normal"}
    plain = {"name": "resnet8", "width": 4}
    by_models = compute(feddf(steps=0, rounds=2), **SHARED, models=named)
    by_method = compute(feddf(steps=0, rounds=2, initialisation="feddf"), **SHARED, models=plain)
    other = compute(feddf(steps=0, rounds=2), **SHARED, models=plain)
    assert by_method.outputs == by_models.outputs != other.outputs
    assert by_method.ledger["shared_seconds"] > 0 == other.ledger["shared_seconds"]
    trainings = [
        planned(tiny(feddf(initialisation=how), **SHARED, models=model)).trainings
        for how, model in (("models", named), ("feddf", plain), ("models", plain))
    ]
    assert trainings[0] == trainings[1] != trainings[2]


def test_a_start_that_no_architecture_takes_is_no_part_of_the_id(tiny):
    def ids(model, **over):
        return {
            tiny(feddf(**over, initialisation=how), **SHARED, **HELD_OUT, models=model).cell_id
            for how in ("models", "feddf")
        }

    assert len(ids({"name": "convnet", "width": 4, "depth": 2})) == 1
    assert len(ids({"name": "resnet8", "width": 4})) == 2


def test_a_rule_of_validation_is_part_of_the_id_where_there_is_one(tiny):
    ids = [
        tiny(
            feddf(validation=mode, validation_rule=rule, validate_every=2), **SHARED, **HELD_OUT
        ).cell_id
        for mode in ("none", "poll")
        for rule in ("single_image", "feddf")
    ]
    assert ids[0] == ids[1]
    assert len({*ids}) == 3


def test_the_references_rule_validates_at_multiples_alone(compute):
    assert METHODS.get("feddf").presets["reference"]["validation_rule"] == "feddf"
    method = feddf(steps=5, validation="poll", validate_every=2, validation_rule="feddf")
    record = compute(method, **SHARED, **HELD_OUT)
    assert record.ledger["traffic"]["down/validation"]["messages"] == 2 * 3  # steps 2 and 4


def test_a_student_that_would_never_be_validated_is_refused_at_plan_time(tiny):
    over = {"validation": "poll", "validation_rule": "feddf", "validate_every": 4}
    short = planned(tiny(feddf(steps=3, **over), **SHARED, **HELD_OUT))
    assert "set validate_every to 3 or less" in short.skip
    falls = {"kind": "cosine", "fewest": 2}
    assert planned(tiny(feddf(step_schedule=falls, **over), **SHARED, **HELD_OUT)).skip
    for fine in ({"steps": 4}, {"steps": 0}, {"steps": 3, "validation": "none"}):
        assert planned(tiny(feddf(**{**over, **fine}), **SHARED, **HELD_OUT)).skip is None


@pytest.mark.parametrize("damaged", [False, True])
def test_a_killed_student_that_is_validated_goes_on_and_is_charged_once(
    compute, tiny, runtime, monkeypatch, damaged
):
    method = feddf(validation="poll", validate_every=2, keep_initial=True)
    expected = compute(method, **SHARED, **HELD_OUT)
    monkeypatch.setitem(TrainerPool.fit.__kwdefaults__, "checkpoint_every", 0.0)
    whole, steps = Best.measure, []

    def die(self, step):
        steps.append(step)
        if len(steps) == deadly:
            raise KeyboardInterrupt
        whole(self, step)

    monkeypatch.setattr(Best, "measure", die)
    cell = tiny(method, **SHARED, **HELD_OUT)
    deadly = 5  # the last one, at the end of the second epoch
    with pytest.raises(KeyboardInterrupt):
        run_cell(cell, runtime, suite="again")
    if damaged:
        (journal,) = (runtime.home / "again" / "scratch").glob("*/journal.json")
        (fit,) = json.loads(journal.read_text().partition("\n")[2])["progress"]["fits"].values()
        (journal.parent / "kept" / fit["checkpoint"]["name"]).write_bytes(b"rubbish")
    steps.clear()
    deadly = None
    record = run_cell(cell, runtime, suite="again")
    assert steps == ([0, 1, 2, 4, 6] if damaged else [0, 4, 6])
    assert record.outputs == expected.outputs
    assert record.ledger["traffic"] == expected.ledger["traffic"]
    assert record.curves == expected.curves


def test_a_kill_between_two_mirrors_costs_one(compute, tiny, runtime, monkeypatch):
    """Students are stages: the first one is not trained again."""
    models = [
        {"name": "convnet", "width": 4, "depth": 2},
        {"name": "convnet", "width": 3, "depth": 2},
    ]
    method = feddf(validation="poll", rounds=1)
    over = {**SHARED, **HELD_OUT, "models": models}
    expected = compute(method, **over)
    monkeypatch.setattr("fedbench.federation.journal._SHARE", math.inf)
    fit, names = TrainerPool.fit, []

    def counted(self, module, loader, **options):
        names.append(type(module).__name__)
        if names.count("Student") == 2 and len(names) < 10:
            names.extend(["killed"] * 10)
            raise KeyboardInterrupt
        fit(self, module, loader, **options)

    monkeypatch.setattr(TrainerPool, "fit", counted)
    with pytest.raises(KeyboardInterrupt):
        run_cell(tiny(method, **over), runtime, suite="again")
    names[:] = ["killed"] * 10
    record = run_cell(tiny(method, **over), runtime, suite="again")
    assert names.count("Student") == 1
    assert record.outputs == expected.outputs
    assert record.ledger["traffic"] == expected.ledger["traffic"]
    assert record.curves == expected.curves


def test_bad_teachers_are_left_out(compute, monkeypatch):
    import fedbench.synthesis.public.distillation as public

    seen = []

    def keep(accuracies, classes):
        seen.append((len(accuracies), classes))
        return [1]

    settings = {"validation": "pooled", "drop_worst": True}
    all_of_them = compute(feddf(validation="pooled"), **SHARED, **HELD_OUT)
    monkeypatch.setattr(public, "keep_best_teachers", keep)
    record = compute(feddf(**settings), **SHARED, **HELD_OUT)
    assert seen == [(3, 10)]
    assert record.outputs != all_of_them.outputs


@pytest.mark.parametrize(
    ("over", "cell", "reason"),
    [
        ({}, {}, "needs a budget"),
        ({}, {"budget": {"pixels": 255}}, "holds no image of 16x16; give"),
        ({}, {**SHARED, "data": {"train_size": None}}, "set data.train_size"),
        ({"public": "digits"}, SHARED, "the clients' own"),
        ({"public": "cifar10"}, {"budget": {"pixels": 256 * 60_000}}, "cifar10 has 50000"),
        ({"public": "folder"}, SHARED, "needs a path"),
        ({"exchange": "logits"}, SHARED, "set augment to none"),
        ({"drop_worst": True}, SHARED, "needs validation"),
        (
            {"drop_worst": True, "exchange": "logits", "augment": "none", "validation": "poll"},
            {**SHARED, **HELD_OUT},
            "only exchange: weights",
        ),
    ],
)
def test_what_cannot_run_is_skipped_with_its_reason(tiny, over, cell, reason):
    assert reason in planned(tiny(feddf(**over), **cell)).skip


def test_partners_exist_and_presets_are_valid(tiny):
    for name, partner in PARTNERS.items():
        assert name != partner
    for preset in METHODS.get("feddf").presets:
        cell = tiny({"name": "feddf", "preset": preset}, **SHARED, **HELD_OUT)
        assert planned(cell).skip is None
