"""FedCGS: CG-1 to CG-3, its bytes, its extractors, and the heads that cannot be."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.suites.plan import planned
from fedbench.data.specs import DATASETS, DIGITS
from fedbench.errors import SettingsError, TrainingError
from fedbench.federation.client import Client
from fedbench.methods.fedcgs import pack, scatter, solve, statistics, unpack

CLASSES, FEATURES = 4, 6
#: Features of the tiny cell: a ConvNet of width 4 and depth 2 on 16x16 (padded to 20x20) images.
TINY_FEATURES = 4 * 5 * 5


def samples(count=200, seed=0, classes=CLASSES):
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=source)
    centres = torch.randn(classes, FEATURES, generator=source)
    return centres[labels] + torch.randn(count, FEATURES, generator=source), labels


def summed(parts, classes=CLASSES):
    """Return what the server adds up when each part is a client's."""
    clients = [statistics([part], classes) for part in parts]
    return {name: sum(client[name] for client in clients) for name in clients[0]}


def head(total, covariance="total", ridge=0.0):
    return solve(total, covariance=covariance, ridge=ridge, absent=-1e30)


def weights(runtime, record):
    path = runtime.home / "test" / "outputs" / f"{record.outputs['global']}.safetensors"
    return load_file(path)


@given(cuts=st.lists(st.integers(1, 199), max_size=6, unique=True), seed=st.integers(0, 99))
def test_cg_1_the_head_is_the_same_for_every_partition(cuts, seed):
    features, labels = samples()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(seed))
    parts = [(features[part], labels[part]) for part in torch.tensor_split(order, sorted(cuts))]
    for covariance in ("total", "within"):
        together = head(summed([(features, labels)]), covariance)
        apart = head(summed(parts), covariance)
        assert torch.allclose(together[0], apart[0], rtol=0, atol=1e-8)
        assert torch.allclose(together[1], apart[1], rtol=0, atol=1e-8)


def test_cg_1_whoever_holds_what_the_federation_gives_one_model(compute, runtime):
    partitions = [
        {"clients": 1},
        {"clients": 5},
        {"clients": 3, "scheme": "shards_fixed", "shards": 2},
    ]
    found = [weights(runtime, compute("fedcgs", partition=each)) for each in partitions]
    for other in found[1:]:
        assert torch.allclose(found[0]["head.weight"], other["head.weight"], rtol=1e-6)
        assert torch.allclose(found[0]["head.bias"], other["head.bias"], rtol=1e-6)
        assert torch.equal(found[0]["body.0.weight"], other["body.0.weight"])


def test_cg_2_statistics_add():
    one, other = samples(30, seed=1), samples(50, seed=2)
    union = tuple(torch.cat(pair) for pair in zip(one, other, strict=True))
    added, whole = summed([one, other]), statistics([union], CLASSES)
    for name in ("first", "second", "sums", "counts"):
        assert whole[name].dtype == torch.float64
        assert torch.allclose(added[name], whole[name], rtol=1e-12)


def test_cg_2_chunks_of_one_client_add_too():
    features, labels = samples(30)
    chunked = statistics(zip(features.split(7), labels.split(7), strict=True), CLASSES)
    whole = statistics([(features, labels)], CLASSES)
    assert all(torch.allclose(chunked[name], whole[name], rtol=1e-12) for name in whole)


def test_cg_3_the_covariance_is_numpys():
    features, labels = samples()
    total = scatter(statistics([(features, labels)], CLASSES), "total")
    np.testing.assert_allclose(total, np.cov(features.double().numpy().T), rtol=1e-10)


def test_within_is_the_pooled_covariance_of_the_classes():
    features, labels = samples()
    found = scatter(statistics([(features, labels)], CLASSES), "within")
    spread = [
        np.cov(features[labels == c].double().numpy().T, bias=True) * int((labels == c).sum())
        for c in range(CLASSES)
    ]
    np.testing.assert_allclose(found, sum(spread) / (200 - CLASSES), rtol=1e-10)


def test_within_gives_textbook_discriminant_analysis():
    features, labels = samples(400)
    weight, bias = head(statistics([(features, labels)], CLASSES), "within")
    textbook = LinearDiscriminantAnalysis(solver="lsqr").fit(features.double(), labels)
    ours = (features.double() @ weight.T + bias).softmax(1)
    # scikit-learn divides by N where ours divides by N - C.
    np.testing.assert_allclose(ours, textbook.predict_proba(features.double()), atol=0.01)


def test_a_ridge_is_a_multiple_of_the_mean_variance():
    total = statistics([samples()], CLASSES)
    shifted = dict(total)
    matrix = scatter(total, "total")
    extra = 0.5 * matrix.diagonal().mean() * torch.eye(FEATURES)
    shifted["second"] = total["second"] + extra * (total["counts"].sum() - 1)
    assert torch.allclose(head(total, ridge=0.5)[0], head(shifted)[0], rtol=1e-9)


def test_a_class_that_nobody_has_is_never_predicted():
    features, labels = samples(classes=3)
    weight, bias = head(statistics([(features, labels)], CLASSES))
    assert not weight[3].any()
    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias.float()).all()
    logits = (1e6 * features.double()) @ weight.T + bias
    assert not (logits.argmax(1) == 3).any()
    assert logits.float().softmax(1)[:, 3].max() == 0


def test_a_class_that_nobody_has_leaves_finite_metrics(compute, monkeypatch):
    def without_nines(self):
        whole = self._split
        return whole.take((whole.labels != 9).nonzero().flatten())

    monkeypatch.setattr(Client, "data", property(without_nines))
    metrics = compute("fedcgs").metrics
    assert metrics["per_class"][9] == 0
    assert metrics["accuracy"] > 0.3
    assert math.isfinite(metrics["nll"])
    assert math.isfinite(metrics["ece"])


@pytest.mark.parametrize(("ridge", "works"), [(0.0, False), (1e-3, True)])
def test_a_singular_covariance_names_the_fix(ridge, works):
    features, labels = samples()
    dependent = torch.cat([features, features[:, :1] * 2], dim=1)
    total = statistics([(dependent, labels)], CLASSES)
    if works:
        assert torch.isfinite(head(total, ridge=ridge)[0]).all()
        return
    with pytest.raises(TrainingError, match=r"7 features over 200 images .* `ridge` to 1e-3"):
        head(total, ridge=ridge)


def test_fewer_images_than_features_fail_without_a_ridge(tiny, runtime):
    few = {"data": {"train_size": 40}}
    record = run_cell(tiny({"name": "fedcgs", "ridge": 0}, **few), runtime, suite="test")
    assert f"{TINY_FEATURES} features over 40 images" in record.reason
    assert run_cell(tiny("fedcgs", **few), runtime, suite="test").status == "ok"


def test_too_few_images_for_a_covariance():
    total = statistics([(torch.randn(2, FEATURES), torch.tensor([0, 1]))], CLASSES)
    with pytest.raises(TrainingError, match="no freedom for the within covariance"):
        scatter(total, "within")


@given(size=st.integers(1, 12))
def test_a_triangle_holds_a_symmetric_matrix(size):
    matrix = torch.randn(size, size, dtype=torch.float64)
    matrix = matrix + matrix.T
    assert pack(matrix).shape == (size * (size + 1) // 2,)
    assert torch.equal(unpack(pack(matrix), size), matrix)


@pytest.mark.parametrize("packing", ["full", "triangle"])
def test_bytes_are_those_of_the_formula(compute, runtime, packing):
    record = compute({"name": "fedcgs", "packing": packing})
    d, c = TINY_FEATURES, 10
    second = d * d if packing == "full" else d * (d + 1) // 2
    assert record.ledger["payload_up"] == 3 * 8 * (c * d + c + d + second)
    assert record.ledger["payload_down"] == 3 * 8
    assert record.resources == []


def test_packing_changes_no_bit(compute):
    full, triangle = (compute({"name": "fedcgs", "packing": p}) for p in ("full", "triangle"))
    assert full.outputs == triangle.outputs


def test_the_reference_and_ours_differ_by_ridge_and_packing(tiny):
    methods = {p: tiny({"name": "fedcgs", "preset": p}).method for p in ("reference", "fedbench")}
    assert (methods["reference"].ridge, methods["reference"].packing) == (0, "full")
    assert (methods["fedbench"].ridge, methods["fedbench"].packing) == (1e-3, "triangle")
    assert tiny({"name": "fedcgs", "preset": "fedbench"}).cell_id == tiny("fedcgs").cell_id


@pytest.fixture
def public():
    """Register scikit-learn's digits under a second name: a public data set without files."""
    spec = replace(DIGITS, name="public_digits")
    DATASETS.add(spec.name, spec)
    yield spec.name
    DATASETS._loaded.pop(spec.name)


def test_a_public_extractor_is_trained_once_sent_and_named(compute, runtime, public):
    method = {"name": "fedcgs", "extractor": f"public:{public}"}
    first = compute(method, recipe={"epochs": 2})
    again = compute({**method, "covariance": "within"}, recipe={"epochs": 2})
    assert first.resources == [f"dataset:{public}"]
    assert first.ledger["shared_seconds"] == 0 < again.ledger["shared_seconds"]
    body = {k: v for k, v in weights(runtime, first).items() if not k.startswith("head")}
    assert first.ledger["payload_down"] == 3 * sum(4 * value.numel() for value in body.values())
    random = weights(runtime, compute("fedcgs", recipe={"epochs": 2}))
    assert not torch.equal(random["body.0.weight"], body["body.0.weight"])
    kept = {k: v for k, v in weights(runtime, again).items() if not k.startswith("head")}
    assert all(torch.equal(kept[name], value) for name, value in body.items())


def test_a_public_extractor_knows_more_than_a_random_one(compute, public):
    sizes = {"models": {"name": "convnet", "width": 8, "depth": 2}, "recipe": {"epochs": 4}}
    trained = compute({"name": "fedcgs", "extractor": f"public:{public}"}, **sizes)
    assert trained.metrics["accuracy"] > compute("fedcgs", **sizes).metrics["accuracy"]


def test_extractors_that_cannot_be_are_refused(tiny, public):
    mixed = [{"name": "convnet", "width": 4, "depth": 2}, {"name": "resnet8", "width": 4}]
    own = {"name": "fedcgs", "extractor": "public:digits"}
    assert "one architecture" in planned(tiny("fedcgs", models=mixed)).skip
    assert "clients' own" in planned(tiny(own)).skip
    assert "needs a path" in planned(tiny({**own, "extractor": "public:folder"})).skip
    assert planned(tiny({**own, "extractor": f"public:{public}"})).skip is None
    with pytest.raises(SettingsError, match="neither 'random' nor 'public:NAME'"):
        tiny({"name": "fedcgs", "extractor": "imagenet"})
    with pytest.raises(SettingsError, match="no data set 'nowhere'"):
        tiny({"name": "fedcgs", "extractor": "public:nowhere"})
