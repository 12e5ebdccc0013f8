"""FedLMG as a method: LM-6 to LM-8, messages, shared sets, filters, priors, bad input, kills."""

import json

import pytest
import torch
from safetensors.torch import load_file

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.suites.plan import planned
from fedbench.data.settings import Data
from fedbench.errors import SettingsError
from fedbench.federation.artefacts import tensors_digest
from fedbench.federation.journal import Journal
from fedbench.federation.priors import NOTE
from fedbench.methods.fedlmg import FedLMG
from fedbench.synthesis.data_free.lessons import Tutor
from fedbench.synthesis.diffusion.sets import Order, Progress, Studio, orders
from fedbench.synthesis.student import Student

SIZE = {"image_size": 8}
RESNET = {"models": {"name": "resnet8", "width": 4}, "data": SIZE}
PLAIN = {"models": {"name": "convnet", "width": 4, "depth": 2}, "data": SIZE}
SKEWED = {"partition": {"scheme": "disjoint_classes", "clients": 2}}
SMALL = {"images_per_class": 2, "batch_size": 12, "steps": 3, "edits": 1, "epochs": 2}


def guided(**over):
    return {"name": "fedlmg", **SMALL, "prior": "unused@40", "prior_steps": 2, **over}


def inverted(**over):
    few = {name: SMALL[name] for name in ("images_per_class", "batch_size", "epochs")}
    return {"name": "fedlmg", **few, "prior": "none", "descent_steps": 2, **over}


def of_folder(folder, **over):
    return {"name": "fedlmg", **SMALL, "prior": f"diffusers:{folder}", **over}


def made_set(runtime, record):
    path = runtime.home / "test" / "outputs" / f"{record.outputs['synthetic']}.safetensors"
    return load_file(path)


def artefacts(runtime, name):
    return sorted((runtime.home / "artefacts" / name).glob("*.safetensors"))


def test_orders_go_round_the_classes_and_a_longer_set_begins_with_a_shorter_one():
    short = orders([4, 7], [[0, 2], [1]], each=3, batch_size=4)
    assert [(order.client, order.number, order.labels) for order in short] == [
        (4, 0, (0, 2, 0, 2)),
        (4, 1, (0, 2, 0, 2)),
        (7, 0, (1, 1, 1, 1)),
    ]
    longer = orders([4], [[0, 2]], each=5, batch_size=4)
    assert [order.labels for order in longer[:2]] == [order.labels for order in short[:2]]
    assert len(orders([4], [[0, 2]], each=3, batch_size=4, attempts=3)) == 6


def test_progress_keeps_as_many_of_each_class_as_are_wanted():
    order, progress = Order(0, 0, (0, 1, 0, 1), 1), Progress()
    assert progress.choose(order, [True, False, True, True]) == [0, 3]
    assert not progress.open(order)
    assert progress.open(Order(0, 1, (0, 2), 1))


def test_lm_7_every_image_has_its_client_and_class(compute, runtime):
    record = compute(guided(), **RESNET, **SKEWED)
    made, held = made_set(runtime, record), record.partition["histogram"]
    assert made["images"].dtype == torch.uint8
    counts = torch.zeros(2, 10, dtype=torch.int64)
    for client, label in zip(made["origin"].tolist(), made["labels"].tolist(), strict=True):
        counts[client, label] += 1
    assert counts.tolist() == [[2 if count else 0 for count in row] for row in held]
    assert record.findings["guided"]["images"] == counts.sum(1).tolist()
    assert record.shared_pixels == (40 + int(counts.sum())) * 64


def test_what_goes_over_the_wire_and_what_the_server_had_are_named(compute):
    record = compute(guided(), **RESNET)
    plain = compute({"name": "fedavg", "preset": "one_shot"}, **RESNET)
    assert record.ledger["payload_up"] == plain.ledger["payload_up"] + 3 * 10
    assert record.ledger["payload_down"] == 3 * 8
    assert record.resources == ["unused@40"]
    assert record.privileges == [
        "40 images of the clients' own data set, which no client holds",
        "which classes every client holds",
    ]
    prior = record.findings["prior"]
    assert prior["name"] == "unused@40"
    assert prior["bytes"] > 100_000
    assert len(prior["digest"]) == 64
    curves = record.findings["over_timesteps"]
    assert [len(curves[name]) for name in ("cross_entropy", "confidence", "batch_norm")] == [3] * 3
    assert curves["batch_norm"][0] > 0
    assert curves["batch_norm"][-1] is None


def test_aggregations_and_larger_sets_share_batches_and_all_cells_the_prior(compute, runtime):
    compute(guided(), **RESNET)
    first = artefacts(runtime, "guided")
    compute(guided(aggregation="fine_tune"), **RESNET)
    compute(guided(aggregation="specific_teacher", images_per_class=1), **RESNET)
    assert artefacts(runtime, "guided") == first
    large = compute(guided(images_per_class=3), **RESNET)
    more = artefacts(runtime, "guided")
    assert set(first) < set(more)
    assert large.ledger["shared_seconds"] > 0
    compute(guided(scale=0.5), **RESNET)
    assert len(artefacts(runtime, "guided")) == len(more) + len(first)
    assert len(artefacts(runtime, "prior")) == 1


def test_another_diffusers_makes_other_artefacts_but_of_inversion(compute, runtime, monkeypatch):
    import diffusers

    for method in (guided(), inverted()):
        compute(method, **RESNET)
    first = {name: len(artefacts(runtime, name)) for name in ("prior", "guided")}
    monkeypatch.setattr(diffusers, "__version__", "999")
    compute(guided(epochs=1), **RESNET)
    compute(inverted(epochs=1), **RESNET)
    assert len(artefacts(runtime, "prior")) == 2 * first["prior"]
    assert len(artefacts(runtime, "guided")) == first["guided"] + first["guided"] // 2


def test_a_smaller_set_is_the_beginning_of_a_larger_one(compute, runtime):
    small, large = (
        made_set(runtime, compute(guided(images_per_class=n), **RESNET)) for n in (1, 2)
    )
    for client in range(3):
        few, many = (part["images"][part["origin"] == client] for part in (small, large))
        assert torch.equal(few, many[: len(few)])


def test_lm_6_with_one_client_its_teacher_is_all_teachers(compute):
    one = {"partition": {"clients": 1}}
    digests = [
        compute(inverted(aggregation=name), **RESNET, **one).outputs["global"]
        for name in ("specific_teacher", "multi_teacher", "fine_tune")
    ]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_with_several_clients_an_image_asks_its_own_teacher(compute, monkeypatch):
    asked, step = [], Student.training_step

    def spy(self, batch, number):
        images, _, clients, _ = batch
        row = {"clients": clients, "classes": torch.zeros_like(clients)}
        asked.append(self._ask(images, row).shape)
        return step(self, batch, number)

    monkeypatch.setattr(Student, "training_step", spy)
    compute(inverted(aggregation="specific_teacher"), **RESNET)
    compute(inverted(), **RESNET)
    assert {shape[0] for shape in asked} == {1, 3}


def test_an_image_is_told_of_by_the_client_that_guided_it(compute, monkeypatch):
    """Not by the client in another place."""
    guided_by, told_by = {}, {}
    make, call = Studio.make, Tutor.__call__

    def making(self, order):
        place = self._places[order.client]
        guided_by[order.client] = weights_of(self._each[place].nets[0])
        return make(self, order)

    def telling(self, images, row):
        for client in row["clients"].unique().tolist():
            told_by[client] = weights_of(self._of[client].nets[0])
        return call(self, images, row)

    monkeypatch.setattr(Studio, "make", making)
    monkeypatch.setattr(Tutor, "__call__", telling)
    compute(inverted(aggregation="specific_teacher"), **RESNET)
    assert len(set(guided_by.values())) == len(guided_by) == 3
    assert told_by == guided_by


def weights_of(net):
    return tensors_digest(dict(net.state_dict()))


def test_lm_8_clients_without_batch_norm_are_refused_unless_cross_entropy_alone_guides(
    tiny, compute
):
    reason = planned(tiny(guided(), **PLAIN)).skip
    assert "convnet-w4-d2 has no BatchNorm" in reason
    assert "set the method's batch_norm to 0" in reason
    assert planned(tiny(guided(batch_norm=0), **PLAIN)).skip is None
    record = compute(guided(batch_norm=0, detach_eps=True), **PLAIN)
    assert set(record.findings["over_timesteps"]["batch_norm"]) == {None}


def test_mixed_architectures_guide_each_with_its_own(compute):
    mixed = {
        "models": [RESNET["models"], {"name": "convnet", "width": 4, "depth": 2, "norm": "batch"}]
    }
    record = compute(guided(network={"name": "resnet8", "width": 4}), **mixed)
    assert record.findings["guided"]["images"][0] > 0


def test_without_a_prior_images_are_inverted_in_the_same_frame(compute, runtime):
    record = compute(inverted(), **RESNET)
    assert record.resources == []
    assert record.findings["prior"] == {"name": "none"}
    assert len(made_set(runtime, record)["images"]) == sum(record.findings["guided"]["images"])
    assert artefacts(runtime, "prior") == []


def test_a_filter_keeps_what_its_classifier_agrees_with(compute, runtime, monkeypatch):
    """Batches say what passes: here class 0 from the third one on, others from the first."""
    make = Studio.make

    def judged(self, order):
        labels = torch.tensor(order.labels)
        good = (labels > 0) | torch.full_like(labels, order.number >= 2).bool()
        return {**make(self, order), "right": good, "losses": torch.zeros(len(labels))}

    monkeypatch.setattr(Studio, "make", judged)
    record = compute(inverted(filter=0.5, attempts=2), **RESNET, partition={"clients": 1})
    labels = made_set(runtime, record)["labels"]
    counts = torch.bincount(labels, minlength=10)
    assert counts.tolist() == [2] * 10


def test_what_a_filter_leaves_out_is_in_the_record(compute, monkeypatch):
    """Of class 0 nothing passes, of class 3 one image."""
    make = Studio.make

    def judged(self, order):
        labels = torch.tensor(order.labels)
        good = (labels != 0) & ((labels != 3) | (torch.arange(len(labels)) < 5))
        return {**make(self, order), "right": good, "losses": torch.zeros(len(labels))}

    monkeypatch.setattr(Studio, "make", judged)
    one = {"partition": {"clients": 1}}
    found = compute(inverted(filter=0.5, attempts=1, batch_size=20), **RESNET, **one).findings
    assert found["guided"]["missing"] == [[0, 0, 2], [0, 3, 1]]
    assert compute(inverted(), **RESNET, **one).findings["guided"]["missing"] == []


def test_a_filter_that_nothing_passes_says_so(runtime, tiny):
    cell = tiny(inverted(filter=1e-9, attempts=1), **RESNET)
    record = run_cell(cell, runtime, suite="test")
    assert record.status == "failed"
    assert "no image passed the filter of 1e-09; raise it" in record.reason


def test_a_class_that_nobody_has_is_an_error_and_others_may_be_chosen(runtime, tiny, compute):
    few = {"partition": {"scheme": "classes_round_robin", "clients": 2, "classes_per_client": 2}}
    record = run_cell(tiny(inverted(classes=[1, 7]), **RESNET, **few), runtime, suite="test")
    assert "no client has seen class 7" in record.reason
    trained = tiny(guided(classes=[1, 7], prior_steps=10**6), **RESNET, **few)
    assert "class 7" in run_cell(trained, runtime, suite="test").reason  # before the prior
    assert compute(inverted(classes=[1]), **RESNET, **few).findings["guided"]["images"] == [2, 2]


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"batch_norm": -0.1}, "batch_norm"),
        ({"edits": -1}, "edits"),
        ({"scale": -1}, "scale"),
        ({"prior": "stable"}, "prior 'stable' is none of"),
        ({"prior": "public:mnist@some"}, "after the @ is no number"),
        ({"prior": "public:mnist@0"}, "'0' after the @ is no number from 1 on"),
        ({"prior": "unused@"}, "'' after the @ is no number"),
        ({"prior": "diffusers:"}, "names no folder"),
        ({"prior": "public:minst"}, "minst"),
        ({"classes": [-1]}, "classes"),
        ({"prior": "public:mnist", "conditional": True}, "another data set's classes are not"),
    ],
)
def test_settings_that_cannot_be_are_named(tiny, over, words):
    with pytest.raises(SettingsError, match=words):
        tiny(guided(**over), **RESNET)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (
            {"prior": "unused", "batch_norm_layers": "mean", "step": "normalised"},
            "batch_norm_layers would change nothing",
        ),
        ({"cross_entropy": 0}, "without a prior, cross_entropy would change nothing"),
        ({"scale": 0}, r"set scale: 1\.0"),
        ({"steps": 9, "edits": 2}, "set steps: 20, edits: 0"),
        ({"step": "normalised", "clamp": "straight_through"}, "step: raw, clamp: hard"),
        ({"batch_norm": 1.0}, r"batch_norm is on \(0\.1\) or off \(0\)"),
        ({"conditional": True}, "conditional would change nothing"),
        ({"prior": "unused", "descent_steps": 3}, "with a prior, descent_steps"),
        ({"prior": "unused", "emphasis": 2.0}, "told no classes"),
        ({"prior": "diffusers:a", "conditional": True}, "which is not trained here, conditional"),
        ({"prior": "diffusers:a", "prior_steps": 5}, "not trained here, prior_steps"),
        ({"prior": "unused", "edits": 2, "edit_with": "batch_norm", "batch_norm": 0}, "edits: 0"),
        ({"prior": "unused", "edit_with": "batch_norm"}, "with edits: 0, edit_with"),
        ({"prior": "unused", "scale": 0, "edits": 5}, "scale: 0, which guides nothing, edits"),
        ({"prior": "unused", "scale": 0, "detach_eps": True}, "detach_eps would change nothing"),
        (
            {"prior": "unused", "cross_entropy": 0, "batch_norm": 0, "edits": 3},
            "cross_entropy: 0 and batch_norm: 0, which guides nothing, edits",
        ),
        ({"attempts": 5}, "without a filter, attempts"),
    ],
)
def test_settings_that_would_change_nothing_are_refused(tiny, over, words):
    with pytest.raises(SettingsError, match=words):
        tiny({"name": "fedlmg", "prior": "none", **over}, **RESNET)


def test_without_a_prior_the_statistics_are_on_or_off(tiny):
    on, off = (tiny(inverted(batch_norm=weight), **RESNET) for weight in (0.1, 0))
    assert on.cell_id == tiny(inverted(), **RESNET).cell_id != off.cell_id


def test_the_preset_of_the_paper_leans_on_no_default_of_ours(tiny):
    ours = {"prior", "prior_size", "prior_steps", "conditional", "emphasis", "classes", "attempts"}
    ours |= {"descent_steps", "network", "name", "preset", "validation"}
    named = FedLMG.presets["reference"]
    assert FedLMG.Config.model_fields.keys() - ours == named.keys()


def test_passes_count_the_data_sets_classes(tiny):
    def passes(**data):
        cell = tiny(guided(), models={"name": "resnet8", "width": 4}, data=data)
        return FedLMG(cell.method).passes(cell)

    few, many = (passes(name=name, train_size=300) for name in ("digits", "cifar100"))
    assert many - few == 3 * 90 * 2 * (4 * 3 + 2)


def test_what_cannot_run_is_known_when_it_is_planned(tiny):
    whole = {"data": {"train_size": None}}
    for over, settings, words in (
        ({"prior": "unused"}, whole, "the clients share all"),
        ({"prior": "public:digits"}, {}, "it is the clients' own data set"),
        ({"prior_size": "small"}, {"data": {"image_size": 10}}, "multiple of 4"),
        ({"network": {"name": "convnet", "depth": 5}}, {}, "32x32"),
        ({"classes": [3, 17]}, {}, "classes 0 to 9, and the method's `classes` ask for 17"),
    ):
        reason = planned(tiny(guided(**over), models=RESNET["models"], **settings)).skip
        assert words in reason
    unknown = tiny(guided(prior="unused"), **RESNET).model_copy(
        update={"data": Data(name="folder", path="pets", train_size=30, image_size=8)}
    )
    assert "such as prior: unused@1000" in FedLMG(unknown.method).skip(unknown)
    left = planned(tiny(guided(prior="unused"), **RESNET))
    assert left.skip is None


def test_a_killed_cell_goes_on_with_the_same_images_and_the_prior_is_trained_once(
    runtime, tiny, monkeypatch
):
    cell = tiny(guided(images_per_class=3, batch_size=8), **RESNET)
    whole = run_cell(cell, runtime, suite="whole")
    make, calls = Studio._build, []

    def dying(self, order, teacher):
        calls.append(order)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return make(self, order, teacher)

    other = type(runtime)(**{**vars(runtime), "home": runtime.home / "second"})
    (runtime.home / "second").mkdir()
    (runtime.home / "second" / "cache").symlink_to(runtime.home / "cache")
    monkeypatch.setattr(Studio, "_build", dying)
    monkeypatch.setattr(Journal, "affordable", property(lambda _: True))
    with pytest.raises(KeyboardInterrupt):
        run_cell(cell, other, suite="whole")
    again = run_cell(cell, other, suite="whole")
    assert again.outputs == whole.outputs
    assert again.metrics == whole.metrics
    orders_made = [(order.client, order.number) for order in calls]
    assert len(orders_made) == len(set(orders_made)) + 1  # the batch in hand, twice


@pytest.fixture
def pipeline(runtime, tmp_path):
    """A small pipeline that diffusers writes, as a user's would be."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    from fedbench.seeding import isolated

    def write(name, **settings):
        with isolated(0):
            net = UNet2DModel(
                **{
                    "sample_size": 8,
                    "in_channels": 1,
                    "out_channels": 1,
                    "block_out_channels": (8, 8),
                    "layers_per_block": 1,
                    "down_block_types": ("DownBlock2D", "DownBlock2D"),
                    "up_block_types": ("UpBlock2D", "UpBlock2D"),
                    "norm_num_groups": 4,
                    **settings,
                }
            )
        folder = tmp_path / name
        schedule = DDPMScheduler(num_train_timesteps=100)
        DDPMPipeline(net, schedule).save_pretrained(folder, safe_serialization=True)
        return folder

    return write


def test_a_users_folder_guides_and_stands_in_the_record(compute, pipeline):
    folder = pipeline("user")
    record = compute(of_folder(folder), **RESNET)
    assert record.resources == [f"diffusers:{folder}"]
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    assert record.resource_bytes == weights.stat().st_size
    assert len(record.data["resources"][f"diffusers:{folder}"]) == 64
    assert record.privileges == [
        "a diffusion model of unknown origin, which may have seen images like the clients' or "
        "these themselves",
        "which classes every client holds",
    ]


def test_a_conditional_folder_is_told_classes(compute, pipeline):
    folder = pipeline("told", num_class_embeds=11)
    compute(of_folder(folder, emphasis=2.0), **RESNET)


def test_emphasis_of_a_folder_that_takes_no_classes_is_an_error(runtime, tiny, pipeline):
    cell = tiny(of_folder(pipeline("plain"), emphasis=2.0), **RESNET)
    assert "emphasis would change nothing" in run_cell(cell, runtime, suite="test").reason


def test_a_folder_of_other_channels_or_classes_is_skipped(tiny, pipeline):
    for name, settings, words in (
        ("rgb", {"in_channels": 3, "out_channels": 3}, "images of 3 channels"),
        ("other", {"num_class_embeds": 4}, "takes 4 classes and the clients have 10"),
    ):
        cell = tiny(of_folder(pipeline(name, **settings)), **RESNET)
        assert words in planned(cell).skip


def test_a_folder_of_the_clients_own_images_is_skipped(tiny, pipeline):
    folder = pipeline("own")
    (folder / NOTE).write_text(json.dumps({"dataset": "digits", "images": "all"}))
    reason = planned(tiny(of_folder(folder), **RESNET)).skip
    assert "the clients' own data set" in reason
