"""DENSE: one upload, a pool that grows, a student of any architecture; kills and bad input."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from fedbench.bench.suites.plan import planned
from fedbench.federation.method import Method
from fedbench.methods import METHODS
from fedbench.methods.dense import Dense, DenseConfig
from fedbench.synthesis.data_free.pool import ImagePool
from fedbench.synthesis.data_free.workshop import LOOKS, Workshop

NORM = {"name": "convnet", "width": 4, "depth": 2, "norm": "batch"}
BATCH_NORM = {"models": NORM}
RESNET = {"name": "resnet8", "width": 4}
TWO = {"models": [NORM, RESNET]}
SMALL = {
    "epochs": 2,
    "steps": 2,
    "batch_size": 12,
    "noise": 8,
    "width": 4,
    "student_batch_size": 8,
}


def dense(**over):
    return {"name": "dense", **SMALL, **over}


def weights(runtime, record, name="global"):
    return load_file(runtime.home / "test" / "outputs" / f"{record.outputs[name]}.safetensors")


def equal(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_seed_goes_down_and_weights_go_up_once(compute):
    record, shared = compute(dense(), **BATCH_NORM), compute("ensemble", **BATCH_NORM)
    assert record.ledger["rounds"] == 1
    for direction in ("payload_down", "payload_up"):
        assert record.ledger[direction] == shared.ledger[direction]
    assert set(record.ledger["traffic"]) == set(shared.ledger["traffic"])
    assert record.resources == record.privileges == []


def test_its_client_trainings_are_those_of_the_ensemble(compute, tiny):
    compute("ensemble", **BATCH_NORM)
    assert compute(dense(), **BATCH_NORM).ledger["shared_seconds"] > 0
    plans = [planned(tiny(method, **BATCH_NORM)) for method in (dense(), "ensemble")]
    assert plans[0].trainings == plans[1].trainings


def watched(monkeypatch, name="add"):
    """Note what a pool is given, and how many images it then has."""
    found = []
    plain = ImagePool.add

    def add(self, images, labels, **columns):
        plain(self, images, labels, **columns)
        found.append((images, labels, len(self)))

    monkeypatch.setattr(ImagePool, name, add)
    return found


def test_de_4_the_pool_grows_by_a_batch_an_epoch_and_pixels_are_in_0_1(compute, monkeypatch):
    found = watched(monkeypatch)
    record = compute(dense(epochs=4), **BATCH_NORM, data={"normalisation": "none"})
    assert [count for *_, count in found] == [12, 24, 36, 48]
    for images, labels, _ in found:
        assert 0 <= images.min() < images.max() <= 1
        assert torch.equal(labels, labels.sort().values)
    assert not torch.equal(found[0][0], found[1][0])  # a generator of its own
    assert [point["step"] for point in record.curves] == [1, 2, 3, 4]


def test_a_bounded_pool_forgets_the_oldest_batches(compute, monkeypatch):
    found = watched(monkeypatch)
    compute(dense(epochs=4, pool_limit=30), **BATCH_NORM)
    assert [count for *_, count in found] == [12, 24, 24, 24]


def test_a_pool_of_bytes_is_another_and_nearly_the_same(compute, runtime):
    exact, rounded = (
        weights(runtime, compute(dense(pool_space=space), **BATCH_NORM))
        for space in ("normalised", "pixels")
    )
    assert not equal(exact, rounded)
    assert all(torch.allclose(exact[name], rounded[name], atol=0.05) for name in exact)


def test_de_5_clients_of_several_architectures_teach_one_that_the_server_chooses(
    compute, runtime, tiny
):
    reason = planned(tiny(dense(), **TWO)).skip
    assert reason == "which architecture is the server's? Set method.model"
    record = compute(dense(model=RESNET, start="average"), **TWO)
    assert list(record.metrics["models"]) == ["global"]
    alone = compute(dense(), models=RESNET)
    assert {k: v.shape for k, v in weights(runtime, record).items()} == {
        k: v.shape for k, v in weights(runtime, alone).items()
    }


def test_a_student_may_start_from_the_average(compute, runtime):
    # At a rate of next to nothing it stays what it began with, but for BatchNorm's statistics.
    still = compute(dense(start="average", lr=1e-30), **BATCH_NORM)
    mean = weights(runtime, compute({"name": "fedavg", "preset": "one_shot"}, **BATCH_NORM))
    learnt = {name: value for name, value in mean.items() if "running" not in name}
    found = weights(runtime, still)
    assert all(torch.allclose(found[k], v) for k, v in learnt.items() if "tracked" not in k)


def test_the_student_learns_what_the_clients_say(compute):
    def nll(**over):
        return compute(dense(**over), **BATCH_NORM, recipe={"epochs": 8}).metrics["nll"]

    assert nll(epochs=4, steps=8, student_passes=6, lr=0.05) < nll(epochs=1, lr=1e-30)


@pytest.mark.parametrize(
    ("over", "model", "reason"),
    [
        ({}, {"name": "convnet", "width": 4}, "has no BatchNorm"),
        ({"batch_norm": 0}, {"name": "convnet", "width": 4}, None),
        ({"batch_norm_heard": False}, {"name": "convnet", "width": 4}, None),
        ({}, NORM, None),
        ({"pool_limit": 11}, NORM, "does not fit a pool of 11"),
        ({"start": "average", "model": RESNET}, NORM, "there is no average to start from"),
        ({"model": {"name": "vgg11"}}, NORM, "at least 17x17"),
    ],
)
def test_what_cannot_run_is_skipped_with_its_reason(tiny, over, model, reason):
    found = planned(tiny(dense(**over), models=model)).skip
    assert reason in found if reason else found is None


@pytest.mark.parametrize(("size", "fits"), [(16, True), (28, True), (32, True), (30, False)])
def test_an_image_size_that_the_generator_cannot_make_is_skipped(tiny, size, fits):
    found = planned(tiny(dense(), **BATCH_NORM, data={"image_size": size})).skip
    assert found is None if fits else "28 or 32" in found


def test_the_reference_hears_no_batch_norm_whatever_its_weight(compute):
    quiet = {"preset": "reference", "pool_space": "normalised", "view": "standard"}
    deaf = compute(dense(**quiet, batch_norm=5.0), **BATCH_NORM)
    none = compute(dense(batch_norm=0.0), **BATCH_NORM)
    heard = compute(dense(batch_norm=5.0), **BATCH_NORM)
    assert deaf.outputs == none.outputs != heard.outputs


def test_one_client_is_distilled_like_several(compute):
    assert compute(dense(), **BATCH_NORM, partition={"clients": 1}).metrics["nll"] > 0


def test_a_class_that_nobody_has_is_asked_for_all_the_same(compute, runtime):
    # No client says which classes it has, so the server cannot know: its images are what the
    # clients take for that class.
    record = compute(
        dense(batch_size=60),
        **BATCH_NORM,
        partition={"scheme": "classes_round_robin", "clients": 2, "classes_per_client": 2},
    )
    assert set(weights(runtime, record, "samples")["labels"].tolist()) == set(range(10))


def test_dafls_classes_are_those_that_the_clients_see(compute, monkeypatch):
    found = watched(monkeypatch)
    compute(dense(preset="fed_dafl"), **BATCH_NORM)
    compute(dense(drawn=True), **BATCH_NORM)
    seen, drawn = found[0][1], found[2][1]
    assert not torch.equal(seen, drawn)


def test_a_few_images_of_each_class_are_kept_from_a_tenth_of_the_epochs(compute, runtime):
    record = compute(dense(epochs=2 * LOOKS + 1, steps=1, pool_limit=12), **BATCH_NORM)
    kept = weights(runtime, record, "samples")
    epochs = kept["epochs"].unique().tolist()
    assert len(epochs) == LOOKS
    assert epochs[-1] == 2 * LOOKS + 1
    assert [point["step"] for point in record.curves] == epochs
    assert kept["images"].dtype == torch.uint8
    for epoch in epochs:
        assert kept["labels"][kept["epochs"] == epoch].bincount().max() <= 2


def test_teachers_never_change_and_no_gradient_is_left(compute, monkeypatch):
    shops = []
    finish = Workshop.finish

    def noted(self):
        shops.append(self)
        finish(self)

    monkeypatch.setattr(Workshop, "finish", noted)
    compute(dense(), **TWO | {"models": [RESNET]})
    (shop,) = shops
    for net in shop.teachers.nets:
        assert not any(module.training for module in net.modules())
        assert all(weight.grad is None and not weight.requires_grad for weight in net.parameters())
    assert all(weight.requires_grad for weight in shop.student.parameters())


def test_settings_of_every_preset_are_known_and_the_method_is_in_the_table():
    assert METHODS.get("dense") is Dense
    assert issubclass(Dense, Method)
    for preset in Dense.presets.values():
        json.dumps(dict(preset))
        DenseConfig(name="dense", **preset)
