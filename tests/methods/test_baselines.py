"""Properties of the plain baselines (BL-1 and BL-5 for averages: tests/federation)."""

import pytest
import torch

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.suites.plan import planned
from fedbench.config import Budget
from fedbench.federation.synthetic import SyntheticSet
from fedbench.methods.ensemble import Committee
from fedbench.methods.random_real import draw
from fedbench.models.factory import build
from fedbench.training.recipe import Student

SKEWED = {"partition": {"scheme": "shards_fixed", "clients": 3, "shards": 2}}


def network(tiny, seed=0):
    return build(tiny("local").models[0], channels=1, size=16, classes=10, seed=seed)


def test_bl_2_no_epoch_leaves_the_weights(compute):
    one = compute({"name": "fedavg", "rounds": 1, "epochs": 0})
    more = compute({"name": "fedavg", "rounds": 3, "epochs": 0})
    assert one.outputs == more.outputs
    assert compute({"name": "fedavg", "rounds": 1, "epochs": 1}).outputs != one.outputs


def test_bl_3_fedprox_without_mu_is_fedavg_bit_for_bit(compute):
    rounds = {"rounds": 2, "epochs": 2}
    plain = compute({"name": "fedavg", **rounds})
    assert compute({"name": "fedprox", "mu": 0, **rounds}).outputs == plain.outputs
    assert compute({"name": "fedprox", "mu": 1, **rounds}).outputs != plain.outputs


def test_bl_3_a_large_mu_keeps_clients_near_the_start(compute, runtime):
    start = compute({"name": "fedavg", "rounds": 1, "epochs": 0})
    moved = {}
    for mu in (0.0, 10.0):
        end = compute({"name": "fedprox", "mu": mu, "rounds": 1, "epochs": 3})
        moved[mu] = distance(runtime, start, end)
    assert moved[10.0] < 0.5 * moved[0.0]


def distance(runtime, one, other):
    from safetensors.torch import load_file

    a, b = (
        load_file(runtime.home / "test" / "outputs" / f"{r.outputs['global']}.safetensors")
        for r in (one, other)
    )
    return sum((a[name] - b[name]).square().sum().item() for name in a)


@pytest.mark.parametrize("vote", ["logits", "probabilities"])
def test_bl_4_an_ensemble_of_copies_is_the_copy(tiny, vote):
    net, images = network(tiny), torch.randn(5, 1, 16, 16)
    alone = net(images).softmax(1)
    together = Committee([net, net, net], [1, 2, 3], vote)(images).softmax(1)
    assert torch.allclose(alone, together, atol=1e-6)


def test_votes_and_weights_are_what_they_say(tiny):
    nets, images = [network(tiny, seed) for seed in range(2)], torch.randn(4, 1, 16, 16)
    logits = [net(images) for net in nets]
    mean = Committee(nets, [1, 1], "logits")(images)
    assert torch.allclose(mean, (logits[0] + logits[1]) / 2, atol=1e-6)
    soft = Committee(nets, [3, 1], "probabilities")(images).exp()
    assert torch.allclose(
        soft, 0.75 * logits[0].softmax(1) + 0.25 * logits[1].softmax(1), atol=1e-6
    )


def test_one_shot_averaging_and_ensemble_share_their_client_trainings(compute):
    first = compute("ensemble")
    second = compute({"name": "fedavg", "preset": "one_shot"})
    again = compute("local")
    assert first.ledger["shared_seconds"] == 0
    for record in (second, again):
        assert record.ledger["shared_seconds"] > 0
        assert record.ledger["shared_seconds"] <= record.ledger["client_seconds"]


def test_the_first_round_of_fedavg_is_shared_too(compute):
    compute({"name": "fedavg", "rounds": 1, "epochs": 1})
    longer = compute({"name": "fedavg", "rounds": 2, "epochs": 1})
    assert 0 < longer.ledger["shared_seconds"] < longer.ledger["client_seconds"]


def test_ensemble_of_mixed_architectures_runs_and_averaging_is_skipped(compute, tiny):
    models = [{"name": "convnet", "width": 4, "depth": 2}, {"name": "resnet8", "width": 4}]
    assert compute("ensemble", models=models).metrics["accuracy"] > 0
    for method in ("fedavg", "fedprox", "centralised"):
        assert "one architecture" in planned(tiny(method, models=models)).skip


def test_local_reports_mean_best_worst_and_own_mix(compute):
    metrics = compute("local", recipe={"epochs": 8}, **SKEWED).metrics
    clients = [metrics["models"][f"client/{k}"] for k in range(3)]
    accuracies = [client["accuracy"] for client in clients]
    assert metrics["accuracy"] == pytest.approx(sum(accuracies) / 3)
    assert metrics["best_accuracy"] == max(accuracies)
    assert metrics["worst_accuracy"] == min(accuracies)
    assert metrics["worst_client"] == min(client["own_mix"] for client in clients)
    assert metrics["own_mix"] > metrics["accuracy"]  # a client knows its own classes best


def test_local_sends_nothing(compute):
    record = compute("local")
    assert record.ledger["bytes_total"] == record.ledger["rounds"] == 0
    assert record.ledger["client_seconds"] > 0


def test_centralised_charges_every_image_and_does_not_depend_on_the_partition(compute):
    record = compute("centralised", recipe={"epochs": 2})
    assert record.ledger["payload_up"] == 120 * (16 * 16 + 8)
    assert record.ledger["bytes_down"] == 0
    assert record.control


def test_centralised_takes_the_steps_of_all_clients_or_more(compute):
    plain = compute("centralised")
    longer = compute({"name": "centralised", "preset": "converged"})
    assert longer.outputs != plain.outputs
    assert longer.metrics["nll"] < plain.metrics["nll"]


@pytest.mark.parametrize("scheme", [{}, SKEWED])
def test_random_real_keeps_to_its_budget(compute, runtime, scheme):
    record = compute("random_real", budget={"ipc": 3}, **scheme)
    path = runtime.home / "test" / "outputs" / f"{record.outputs['synthetic']}.safetensors"
    shared = SyntheticSet.load(path)
    assert len(shared.labels) == 30
    assert record.shared_pixels == shared.pixels == 30 * 256
    assert shared.images.dtype == torch.uint8
    assert record.ledger["payload_up"] == 30 * (256 + 8)


def test_a_budget_per_client_is_a_budget_for_each(compute):
    record = compute("random_real", budget={"pixels": 256 * 5, "scope": "per_client"})
    assert record.shared_pixels == 3 * 5 * 256


def test_random_real_needs_a_budget(tiny):
    assert "budget" in planned(tiny("random_real")).skip


def test_a_budget_that_a_method_does_not_use_is_no_part_of_it(tiny):
    plain, budgeted = planned(tiny("fedavg")), planned(tiny("fedavg", budget={"ipc": 3}))
    assert plain.cell_id == budgeted.cell_id
    assert budgeted.cell.budget is None
    assert planned(tiny("random_real", budget={"ipc": 3})).cell.budget == Budget(ipc=3)


def test_a_students_recipe_that_a_method_does_not_use_is_no_part_of_it(tiny):
    short, long = ({"student": {"epochs": epochs}} for epochs in (3, 300))
    assert planned(tiny("fedavg", **short)) == planned(tiny("fedavg", **long))
    assert planned(tiny("fedavg", **short)).cell.student == Student()
    budget = {"budget": {"ipc": 3}}
    used = planned(tiny("random_real", **budget, **short))
    assert used.cell.student.epochs == 3
    assert used.cell_id != planned(tiny("random_real", **budget, **long)).cell_id


def test_a_budget_below_one_image_is_a_clear_failure(tiny, runtime):
    record = run_cell(tiny("random_real", budget={"pixels": 100}), runtime, suite="test")
    assert "at least 256 pixels" in record.reason


def test_drawing_by_class_is_even_over_the_classes_that_are_there():
    labels = torch.tensor([0] * 50 + [1] * 5 + [7] * 2)
    chosen = draw(labels, 12, torch.Generator().manual_seed(0), by_class=True)
    assert torch.bincount(labels[chosen]).tolist() == [5, 5, 0, 0, 0, 0, 0, 2]
    assert len(chosen.unique()) == 12
    other = draw(labels, 12, torch.Generator().manual_seed(1), by_class=True)
    assert not torch.equal(chosen, other)


def test_drawing_uniformly_follows_the_labels():
    labels = torch.tensor([0] * 900 + [1] * 100)
    chosen = draw(labels, 200, torch.Generator().manual_seed(0), by_class=False)
    assert 5 <= (labels[chosen] == 1).sum() <= 40


def test_validation_keeps_the_best_round(compute, monkeypatch):
    from fedbench.federation.loop import Federation

    scores = iter([0.5, 0.9, 0.1])
    monkeypatch.setattr(Federation, "_validate", lambda self, model: next(scores))
    held = {"partition": {"validation": 0.2}}
    chosen = compute({"name": "fedavg", "rounds": 3, "epochs": 1, "validation": "poll"}, **held)
    second = compute({"name": "fedavg", "rounds": 2, "epochs": 1}, **held)
    assert chosen.outputs == second.outputs
