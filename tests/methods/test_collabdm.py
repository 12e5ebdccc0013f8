"""CollabDM and local distribution matching: CD-7, CD-8, AC-3, FD3-1, sharing, resuming."""

import pytest
import torch

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.records.compare import compare
from fedbench.bench.suites.plan import planned
from fedbench.errors import SettingsError, TrainingError
from fedbench.federation.message import Message
from fedbench.federation.synthetic import SyntheticSet
from fedbench.methods.collabdm import Handful, MeanTable
from fedbench.synthesis import sets
from fedbench.synthesis.matching.matcher import DistributionMatching
from fedbench.training.classifier import Classifier
from fedbench.training.pool import TrainerPool

STEPS = 4  # T + 1
COLLAB = {"name": "collabdm", "iterations": STEPS - 1, "local_iterations": 2}
LOCAL = {"name": "local_dm", "iterations": STEPS - 1}
REFERENCE = {**COLLAB, "preset": "reference"}
BUDGET = {"budget": {"ipc": 2}}
SKEWED = {"partition": {"scheme": "shards_fixed", "clients": 3, "shards": 2}}
FEATURES = 4 * 5 * 5  # width 4, maps of 5x5


def shared(runtime, record):
    path = runtime.home / "test" / "outputs" / f"{record.outputs['synthetic']}.safetensors"
    return SyntheticSet.load(path)


def artefacts(runtime, name):
    return {path.name for path in (runtime.home / "artefacts" / name).glob("*.safetensors")}


@pytest.mark.parametrize(("element", "size"), [("fp32", 4), ("fp16", 2)])
@pytest.mark.parametrize(("scheme", "ipc"), [({}, 3), (SKEWED, 1)], ids=["iid", "skewed"])
def test_cd_7_bytes_up_are_those_of_the_formula(compute, element, size, scheme, ipc):
    method = {**COLLAB, "element": element, "local_images": "share"}
    record = compute(method, budget={"ipc": ipc}, **scheme)
    histogram = torch.tensor(record.partition["histogram"])
    local = histogram.clamp_max(ipc // 3 + 1).sum()
    means = (histogram > 0).sum() * STEPS * FEATURES
    counts = histogram.numel()
    assert record.ledger["payload_up"] == size * means + 4 * 256 * local + 8 * counts


@pytest.mark.parametrize("width", [4, 8])
def test_ac_3_bytes_down_are_seeds_whatever_the_network(compute, width):
    record = compute(COLLAB, **BUDGET, models={"name": "convnet", "width": width, "depth": 2})
    assert record.ledger["payload_down"] == 3 * 8 * STEPS


def test_a_fraction_of_the_clients_sends_means_for_each_network(compute):
    whole = compute({**COLLAB, "initial": "noise"}, **BUDGET)
    part = compute({**COLLAB, "initial": "noise", "fraction": 0.67}, **BUDGET)
    alone = compute({**COLLAB, "fraction": 0.01}, **BUDGET)
    assert part.ledger["payload_down"] == 2 * 8 * STEPS
    assert alone.ledger["payload_down"] == 8 * STEPS
    counts = 3 * 10 * 8
    bytes_of = [record.ledger["payload_up"] - counts for record in (part, whole)]
    assert bytes_of[0] * 3 == bytes_of[1] * 2


def test_the_set_keeps_to_its_budget_in_normalised_space(compute, runtime):
    record = compute(COLLAB, **BUDGET)
    found = shared(runtime, record)
    assert found.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert found.images.shape == (20, 1, 16, 16)
    assert found.images.dtype == torch.float32
    assert record.shared_pixels == 20 * 256
    values = found.images * found.normalisation.std[0] + found.normalisation.mean[0]
    assert -3 < values.min() < 0  # synthetic pixels leave the range
    assert torch.isfinite(found.images).all()


@pytest.mark.parametrize("method", [COLLAB, LOCAL, {**REFERENCE, "local_images": "ipc"}], ids=str)
def test_cd_8_clients_may_lack_classes(compute, runtime, method):
    record = compute(method, **BUDGET, **SKEWED)
    assert (torch.tensor(record.partition["histogram"]) == 0).any()
    assert torch.isfinite(shared(runtime, record).images).all()
    assert record.metrics["nll"] < 10


@pytest.mark.parametrize("method", [COLLAB, LOCAL, REFERENCE], ids=str)
def test_expanded_canvases_are_matched_and_trained_on_as_four(compute, monkeypatch, method):
    seen = []
    stream = sets.Stream

    def spy(rows, **options):
        (labels,) = rows.columns
        seen.append((len(rows), torch.bincount(labels).tolist(), options["ops"]))
        return stream(rows, **options)

    monkeypatch.setattr(sets, "Stream", spy)
    record = compute({**method, "expand": 2}, **BUDGET)
    ((count, labels, ops),) = seen
    assert count == 4 * 20
    assert labels == [8] * 10 or method is LOCAL
    assert all(number % 4 == 0 for number in labels)
    assert record.shared_pixels == 20 * 256
    assert bool(ops) == ("preset" in method)


def test_statistics_are_shared_by_budgets_expansions_and_methods(compute, runtime):
    first = compute(COLLAB, **BUDGET)
    kept = artefacts(runtime, "class-means")
    assert len(kept) == 3
    assert first.ledger["shared_seconds"] == 0
    for method in ({**COLLAB, "expand": 2}, {**COLLAB, "weighting": "uniform"}, LOCAL):
        record = compute(method, budget={"ipc": 1})
        assert record.ledger["shared_seconds"] > 0
    assert artefacts(runtime, "class-means") == kept
    for number, other in enumerate(({"augment": "none"}, {"samples": 2}), start=2):
        compute({**COLLAB, **other}, **BUDGET)
        assert len(artefacts(runtime, "class-means")) == 3 * number


def test_longer_runs_share_the_statistics_of_shorter_ones(compute, runtime):
    compute({**COLLAB, "iterations": 29, "initial": "noise"}, **BUDGET)
    assert len(artefacts(runtime, "class-means")) == 3 * 2
    compute({**COLLAB, "iterations": 49, "initial": "noise"}, **BUDGET)
    assert len(artefacts(runtime, "class-means")) == 3 * 3


@pytest.mark.parametrize("method", [COLLAB, LOCAL, REFERENCE], ids=str)
def test_two_runs_are_equal(tiny, runtime, method):
    cell = tiny(method, **BUDGET)
    first = run_cell(cell, runtime, suite="first")
    artefact_names = artefacts(runtime, "local-set")
    for path in (runtime.home / "artefacts").rglob("*.safetensors"):
        path.unlink()
    assert first.status == "ok", first.traceback
    assert compare(first, run_cell(cell, runtime, suite="second")) == []
    assert artefacts(runtime, "local-set") == artefact_names


class Killed(BaseException):
    """What no code catches."""


def test_a_killed_server_stage_goes_on_with_the_same_bits(tiny, runtime, monkeypatch):
    cell = tiny({**COLLAB, "iterations": 24}, **BUDGET)
    calm = run_cell(cell, runtime, suite="calm")
    assert calm.status == "ok", calm.traceback
    for path in (runtime.home / "artefacts" / "matched-set").iterdir():
        path.unlink()
    fit, asked = TrainerPool.fit, []

    def often(self, module, loader, **options):
        report = options["on_epoch"]

        def on_epoch(done, total, loss):
            report(done, total, loss)
            if kill and done == 3:
                raise Killed

        if isinstance(module, DistributionMatching) and "server" in options["checkpoint"].path:
            options |= {"checkpoint_every": 0.0, "on_epoch": on_epoch}
        fit(self, module, loader, **options)

    moments = MeanTable.moments
    monkeypatch.setattr(
        MeanTable,
        "moments",
        lambda self, step, seed: asked.append(step) or moments(self, step, seed),
    )
    monkeypatch.setattr(TrainerPool, "fit", often)
    kill = True
    with pytest.raises(Killed):
        run_cell(cell, runtime, suite="stormy")
    asked.clear()
    kill = False
    assert compare(calm, run_cell(cell, runtime, suite="stormy")) == []
    assert asked == list(range(20, 25))


def test_a_killed_training_on_the_set_goes_on_where_it_was(tiny, runtime, monkeypatch):
    cell = tiny(COLLAB, **BUDGET, student={"epochs": 6})
    calm = run_cell(cell, runtime, suite="calm")
    for path in (runtime.home / "artefacts" / "matched-set").iterdir():
        path.unlink()  # so that the killed run matches, and the next one does not
    fit, epochs, kill = TrainerPool.fit, [], True

    def often(self, module, loader, **options):
        report = options["on_epoch"]

        def on_epoch(done, total, loss):
            report(done, total, loss)
            epochs.append(done)
            if kill and done == 4:
                raise Killed

        if isinstance(module, Classifier):
            options |= {"checkpoint_every": 0.0, "on_epoch": on_epoch}
        fit(self, module, loader, **options)

    monkeypatch.setattr(TrainerPool, "fit", often)
    with pytest.raises(Killed):
        run_cell(cell, runtime, suite="stormy")
    epochs.clear()
    kill = False
    assert compare(calm, run_cell(cell, runtime, suite="stormy")) == []
    assert len(epochs) < 6


def test_weights_by_count_are_not_those_by_client(compute):
    uneven = {"partition": {"scheme": "dirichlet_capped", "clients": 3, "beta": 0.5}}
    count, uniform = (
        compute({**COLLAB, "weighting": weighting}, **BUDGET, **uneven).outputs["synthetic"]
        for weighting in ("count", "uniform")
    )
    assert count != uniform


def test_a_table_of_means_weights_and_forgets_nothing():
    table = MeanTable(3, 4)
    table.add(torch.tensor([0, 2]), torch.tensor([1]), torch.tensor([3.0]), torch.ones(2, 1, 5))
    table.add(
        torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([2.0, 1.0]), torch.zeros(2, 2, 5)
    )
    first = table.moments(0, 77)
    assert first.seed == 77
    assert first.labels == (0, 1)
    assert torch.allclose(first.means, torch.tensor([[0.0], [0.75]]).expand(2, 5))
    assert table.moments(1, 0).labels == (0, 1)
    assert table.moments(2, 0).labels == (1,)


def test_a_handful_is_a_fair_draw_from_all_that_came():
    hits = torch.zeros(12)
    for seed in range(300):
        handful, source = Handful(3), torch.Generator().manual_seed(seed)
        for part in torch.arange(12.0).view(-1, 1, 1, 1).split([1, 4, 7]):
            handful.add(torch.zeros(len(part), dtype=torch.int64), part, source)
        hits[handful.take([0]).flatten().long()] += 1
    assert hits.sum() == 900
    assert 45 <= hits.min() <= hits.max() <= 105


def test_too_few_images_to_start_from_is_a_clear_failure(tiny, runtime):
    record = run_cell(tiny(COLLAB, budget={"ipc": 50}), runtime, suite="test")
    assert record.status == "failed"
    assert "images of class 0 to start from, and the budget asks for 50" in record.reason
    assert "local_images" in record.reason


@pytest.mark.parametrize("method", [COLLAB, LOCAL, {"name": "local_kip"}], ids=str)
def test_a_client_without_data_is_a_clear_failure(tiny, runtime, method):
    split = {"scheme": "dirichlet", "clients": 12, "beta": 0.01, "min_size": 0}
    record = run_cell(tiny(method, **BUDGET, partition=split), runtime, suite="test")
    assert record.status == "failed"
    assert "holds no training image" in record.reason
    assert "min_size" in record.reason


@pytest.mark.parametrize("method", [LOCAL, {"name": "local_kip", "steps": 2}], ids=str)
def test_a_union_has_no_more_of_a_class_than_there_is(compute, runtime, method):
    found = shared(runtime, compute(method, budget={"ipc": 50}))
    assert len(found.labels) == 120  # all that clients hold: 12 a class, and no image twice
    assert torch.bincount(found.labels).max() < 50


def test_noise_needs_no_images_to_start_from(compute, runtime):
    record = compute({**COLLAB, "initial": "noise"}, budget={"ipc": 50})
    assert len(shared(runtime, record).labels) == 500
    assert not artefacts(runtime, "local-set")


FLIP = {"augment": "flip"}


@pytest.mark.parametrize(
    "student", [{"augment": "none"}, {}], ids=["asked for", "as the data set has it"]
)
def test_no_operations_are_no_augmentation_of_the_student(tiny, student):
    method = {**COLLAB, "augment": "none", "student_dsa": True}
    assert planned(tiny(method, **BUDGET, student=student)).skip is None


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"budget": None}, "needs a budget"),
        ({"models": [{"name": "convnet", "width": 4}, "resnet8"]}, "student.model"),
        ({"budget": {"pixels": 256 * 15}}, "15 images cannot be shared evenly by 10 classes"),
        ({"budget": {"pixels": 256 * 5}}, "5 images cannot be shared evenly"),
        ({"models": "resnet8"}, "BatchNorm"),
        (
            {"method": {**COLLAB, "augment": "none", "student_dsa": True}, "student": FLIP},
            "the student's flip: set `student.augment` to none, or `student_dsa` to false",
        ),
        (
            {
                "method": {**COLLAB, "augment": "none", "student_dsa": True},
                "data": {"name": "cifar10"},
            },
            "the student's flip_crop: set",
        ),
        (
            {"method": {**LOCAL, "augment": "none", "student_dsa": True}, "student": FLIP},
            "trains with the operations of `augment`, which are none",
        ),
        ({"method": {**COLLAB, "expand": 3}}, "factor 3 does not divide images of 16x16"),
        ({"method": {**COLLAB, "embedding": {"name": "convnet", "depth": 5}}}, "at least 32x32"),
    ],
)
def test_what_cannot_run_is_known_before(tiny, over, words):
    settings = {**BUDGET, **over}
    assert words in planned(tiny(settings.pop("method", COLLAB), **settings)).skip


@pytest.mark.parametrize(
    ("method", "seen"),
    [
        (LOCAL, STEPS * 200),
        ({**LOCAL, "samples": 4}, STEPS * 4 * 10 * 2),  # of each class at each of two clients
        ({**LOCAL, "samples": 50}, STEPS * 200),  # there are no more
        (COLLAB, STEPS * 200),
        ({**COLLAB, "fraction": 0.5}, STEPS * 100),
        ({**COLLAB, "samples": 4, "local_samples": 3}, STEPS * 80 + 2 * 60),
        ({**COLLAB, "samples": 4, "local_samples": 3, "initial": "noise"}, STEPS * 80),
    ],
    ids=str,
)
def test_a_plan_counts_the_real_images_that_are_seen(tiny, method, seen):
    """They pass without gradients, a third of the work; the set of 20 images is matched in full."""
    cell = tiny(method, **BUDGET, data={"train_size": 200}, partition={"clients": 2})
    synthetic = 20 * (STEPS + cell.student.epochs)
    assert planned(cell).passes == pytest.approx(seen / 3 + synthetic)


def test_another_architecture_may_be_trained_on_the_set(compute):
    method = {**COLLAB, "embedding": {"name": "convnet", "width": 4, "depth": 2}}
    assert compute(method, **BUDGET, models={"name": "resnet8", "width": 4}).metrics["nll"] > 0


def test_an_unknown_operation_is_named(tiny):
    with pytest.raises(SettingsError, match="'cutot'"):
        tiny({**COLLAB, "augment": "color_cutot"})


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({**COLLAB, "local_std": True, "expand": 2}, "local_samples"),
        ({**REFERENCE, "local_samples": None}, "local_std"),
        ({**LOCAL, "match_std": True, "expand": 2}, "samples"),
        ({**LOCAL, "preset": "reference", "samples": None}, "match_std"),
    ],
    ids=str,
)
def test_deviations_that_nobody_has_are_refused(tiny, method, words):
    with pytest.raises(SettingsError, match=words):
        tiny(method, **BUDGET)


def test_fd3_1_a_client_gives_as_many_of_each_class_that_it_holds(compute, runtime):
    two = {"partition": {"scheme": "classes_exact", "clients": 3, "classes_per_client": 2}}
    budget = {"pixels": 2 * 3 * 256, "scope": "per_client"}  # three of each of two classes
    record = compute(LOCAL, budget=budget, **two)
    histogram, found = torch.tensor(record.partition["histogram"]), shared(runtime, record)
    assert len(found.labels) == 3 * 3 * 2
    for client, labels in enumerate(found.labels.split(6)):
        held = histogram[client].nonzero().flatten()
        assert torch.equal(labels.unique(), held)
        assert torch.bincount(labels)[held].tolist() == [3, 3]


@pytest.mark.parametrize("scheme", [{}, SKEWED], ids=["iid", "skewed"])
def test_local_sets_take_the_pixels_of_random_real(compute, scheme):
    record = compute(LOCAL, **BUDGET, **scheme)
    random = compute("random_real", **BUDGET, **scheme)
    assert record.shared_pixels == random.shared_pixels == 20 * 256
    assert record.ledger["payload_up"] == 20 * (4 * 256 + 8)


def test_a_client_without_a_share_sends_nothing_synthetic(compute):
    record = compute(LOCAL, budget={"pixels": 256})
    assert record.shared_pixels == 256


def test_real_images_are_not_what_is_sent(compute, runtime):
    found = shared(runtime, compute(LOCAL, **BUDGET))
    pixels = (found.images * found.normalisation.std[0] + found.normalisation.mean[0]) * 255
    assert ((pixels - pixels.round()).abs() > 1e-2).float().mean() > 0.3


def test_a_client_cannot_start_from_images_that_it_does_not_hold():
    from types import SimpleNamespace

    from fedbench.synthesis.matching.local import real_start

    client = SimpleNamespace(info=SimpleNamespace(id=4), shape=None)
    with pytest.raises(TrainingError, match="client 4 holds 2 images of class 1, and 3"):
        real_start(client, {1: torch.zeros(2, 1, 8, 8)}, [0, 3], 1)


def test_fd3_4_clients_of_local_dm_send_images_and_labels_alone(compute, monkeypatch):
    seen, serialise = [], Message.serialise

    def listen(message):
        seen.append((message.kind, set(message.tensors)))
        return serialise(message)

    monkeypatch.setattr(Message, "serialise", listen)
    compute(LOCAL, **BUDGET)
    assert seen == [("quota", {"images"}), ("synthetic", {"images", "labels"})] * 3
