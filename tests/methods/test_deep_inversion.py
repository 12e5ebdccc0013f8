"""Deep Inversion as a method: messages, DI-7, options, bad input, own images, kills."""

import pytest
import torch
from safetensors.torch import load_file

from fedbench.bench.suites.plan import planned
from fedbench.errors import SettingsError
from fedbench.federation.message import Message
from fedbench.synthesis.data_free.inversion import Inverter
from fedbench.synthesis.data_free.pool import ImagePool
from fedbench.synthesis.student import Student
from fedbench.synthesis.teachers import Teachers

RESNET = {"models": {"name": "resnet8", "width": 4}}
SKEWED = {"partition": {"scheme": "disjoint_classes", "clients": 2}}
HALF = {"partition": {"scheme": "classes_round_robin", "clients": 1, "classes_per_client": 5}}


def inversion(**over):
    sizes = {"steps": 2, "initial_batches": 2, "batches_per_epoch": 1, "student_epochs": 2}
    return {
        "name": "deep_inversion",
        **sizes,
        "steps_per_epoch": 3,
        "batch_size": 8,
        **over,
    }


def tensors(runtime, record, name):
    return load_file(runtime.home / "test" / "outputs" / f"{record.outputs[name]}.safetensors")


def model_bytes(compute):
    return compute({"name": "fedavg", "preset": "one_shot"}, **RESNET).ledger["payload_up"]


@pytest.mark.parametrize(
    ("over", "extra", "told"),
    [
        ({"mask": False}, 0, []),
        ({}, 10, ["which classes every client holds"]),
        ({"mask": False, "draw": "cycle"}, 10, ["which classes every client holds"]),
        (
            {"label_weights": "absolute"},
            40,
            ["how many images of each class every client holds"],
        ),
    ],
    ids=["nothing", "mask", "cycle", "weights"],
)
def test_what_clients_tell_of_labels_is_charged_and_named(compute, over, extra, told):
    record = compute(inversion(**over), **RESNET)
    assert record.ledger["payload_up"] == model_bytes(compute) + 3 * extra
    assert record.ledger["payload_down"] == 3 * 8
    assert record.privileges == told


@pytest.mark.parametrize(
    ("over", "sizes"),
    [
        ({}, [8, 16, 24, 32]),
        ({"batches_per_epoch": 2}, [8, 16, 24, 32, 40, 48]),
        ({"initial_batches": 0}, [8, 16]),
        ({"batches_per_epoch": 0}, [8, 16]),
        ({"pool_limit": 20}, [8, 16, 16, 16]),
    ],
    ids=str,
)
def test_di_7_the_pool_grows_and_epochs_are_as_long_as_the_formulas_say(
    compute, monkeypatch, over, sizes
):
    steps, pools, add, step = [], [], ImagePool.add, Student.training_step

    def count(self, batch, number):
        steps.append(len(batch[0]))
        return step(self, batch, number)

    def grow(self, *given, **options):
        add(self, *given, **options)
        pools.append(len(self))

    monkeypatch.setattr(Student, "training_step", count)
    monkeypatch.setattr(ImagePool, "add", grow)
    compute(inversion(**over), **RESNET)
    assert pools == sizes
    assert len(steps) == 2 * 3


def test_the_first_images_are_made_without_a_student_and_labels_are_those_seen(
    compute, runtime, monkeypatch
):
    found, run = [], Inverter.run

    def spy(self, start, labels, *given, **options):
        found.append((self._terms.compete, labels.tolist()))
        return run(self, start, labels, *given, **options)

    monkeypatch.setattr(Inverter, "run", spy)
    record = compute(inversion(draw="cycle"), **RESNET, **SKEWED)
    assert [compete for compete, _ in found] == [0.0, 0.0, 1.0, 1.0]
    histogram = record.partition["histogram"]
    for number, (_, labels) in enumerate(found):
        assert all(histogram[number % 2][label] for label in labels)
    kept = tensors(runtime, record, "inverted")
    assert kept["clients"].tolist() == [0] * 8 + [1] * 8 + [0] * 8 + [1] * 8
    assert kept["labels"].tolist() == [label for _, labels in found for label in labels]
    assert kept["images"].dtype == torch.uint8
    scores = tensors(runtime, record, "fresh")["scores"]
    assert scores[:, :3].tolist() == [[0, 0, 0], [1, 0, 1], [2, 1, 0], [3, 2, 1]]
    assert ((scores[:, 3:] >= 0) & (scores[:, 3:] <= 1)).all()


def test_every_option_makes_other_images_or_another_student(compute):
    base = compute(inversion(), **RESNET).outputs
    for over in (
        {"adaptive": False},
        {"draw": "cycle"},
        {"sampled": 1},
        {"subset": "batch", "sampled": 2, "steps": 5},
        {"combine": "logits"},
        {"label_weights": "normalised"},
        {"label_weights": "across"},
        {"similar": 5.0, "sampled": 1},
        {"keep": "best_view"},
        {"persist_moments": True},
        {"parameters": "paper"},
        {"pool_space": "pixels"},
        {"learn": "labels"},
        {"learn": "both"},
        {"kd_from": "ensemble", "draw": "cycle"},
        {"fresh_first": False},
    ):
        found = compute(inversion(**over), **RESNET).outputs
        assert found["global"] != base["global"], over
    assert (
        compute(inversion(sampling_competes=False), **RESNET).outputs["global"]
        == (compute(inversion(adaptive=False), **RESNET).outputs["global"])
    )


def test_client_models_are_those_of_fedavg(compute):
    compute({"name": "fedavg", "preset": "one_shot"}, **RESNET)
    record = compute(inversion(), **RESNET)
    assert record.ledger["shared_seconds"] > 0


def test_heterogeneous_clients_and_another_student(compute, runtime):
    models = [
        {"name": "convnet", "width": 4, "depth": 2, "norm": "batch"},
        {"name": "resnet8", "width": 4},
    ]
    record = compute(inversion(network={"name": "resnet8", "width": 8}), models=models)
    assert Message.of_model(tensors(runtime, record, "global")).payload_bytes > 60_000


def test_teachers_are_the_same_before_and_after(compute, monkeypatch):
    kept, init = [], Teachers.__init__

    def note(self, nets, *given, **options):
        init(self, nets, *given, **options)
        if len(nets) == 3:
            kept.append((self, [v.clone() for n in self.nets for v in n.state_dict().values()]))

    monkeypatch.setattr(Teachers, "__init__", note)
    compute(inversion(), **RESNET)
    for teachers, before in kept:
        after = [value for net in teachers.nets for value in net.state_dict().values()]
        assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
        weights = [weight for net in teachers.nets for weight in net.parameters()]
        assert all(weight.grad is None and not weight.requires_grad for weight in weights)
    assert kept


def test_the_server_owns_the_classes_that_nobody_holds(compute, runtime, monkeypatch):
    losses = []
    of_labels = Student._of_labels

    def spy(self, logits, row):
        losses.append((self.class_weights, row["labels"], row["clients"]))
        return of_labels(self, logits, row)

    monkeypatch.setattr(Student, "_of_labels", spy)
    method = inversion(own="unassigned", learn="labels", class_weight=2.0, own_share=0.25)
    record = compute(method, **RESNET, **HALF)
    assert record.resources == ["unassigned"]
    assert record.privileges[0] == (
        "all images of the clients' own data set that the partition gives to no client"
    )
    assert record.shared_pixels > 0
    held = torch.tensor(record.partition["histogram"])[0] > 0
    assert held.sum() == 5
    weights, *_ = losses[0]
    assert torch.equal(weights, torch.where(held, 2.0, 1.0))
    fresh, mixed = losses[0], losses[1]
    assert held[fresh[1]].all()
    assert (mixed[2] == -2).sum() == 2
    assert torch.equal(mixed[2] == -2, ~held[mixed[1]])
    assert held[tensors(runtime, record, "inverted")["labels"]].all()


def test_unused_images_may_be_owned_and_taught_by_their_labels(compute):
    record = compute(inversion(own="unused", own_images=30), **RESNET)
    assert record.resources == ["unused@30"]
    assert record.shared_pixels == 30 * 256


def test_one_client_is_enough_and_a_class_nobody_has_is_never_made(compute, runtime):
    record = compute(inversion(), **RESNET, **HALF)
    held = torch.tensor(record.partition["histogram"])[0] > 0
    assert held[tensors(runtime, record, "inverted")["labels"]].all()
    whole = compute(inversion(mask=False), **RESNET, **HALF)  # nobody told which
    assert not held[tensors(runtime, whole, "inverted")["labels"]].all()


@pytest.mark.parametrize(
    ("over", "models", "reason"),
    [
        ({}, {"name": "convnet", "width": 4, "depth": 2}, "has no BatchNorm"),
        ({"batch_norm": 0}, {"name": "convnet", "width": 4, "depth": 2}, None),
        ({"own": "unassigned"}, RESNET["models"], "gives every image to some client"),
        ({"own": "unused", "own_images": 5000}, RESNET["models"], "ask for these at most"),
    ],
    ids=["no-norm", "weight-0", "nothing-left", "too-many"],
)
def test_what_cannot_run_is_skipped_with_its_reason(tiny, over, models, reason):
    skip = planned(tiny(inversion(**over), models=models)).skip
    assert (skip is None) if reason is None else (reason in skip)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"initial_batches": 0, "batches_per_epoch": 0}, "no image would be made"),
        ({"own": "unused"}, "needs own_images"),
        ({"class_weight": 2.0}, "need own"),
        ({"own": "unassigned", "class_weight": 2.0, "learn": "teachers"}, "weighs labels"),
        ({"pool_limit": 4}, "holds no batch"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(tiny, over, words):
    with pytest.raises(SettingsError, match=words):
        tiny(inversion(**over))


@pytest.mark.parametrize("size", [16, 28, 32])
def test_images_of_any_size(compute, runtime, size):
    record = compute(inversion(), **RESNET, data={"image_size": size})
    assert tensors(runtime, record, "inverted")["images"].shape[1:] == (1, size, size)
