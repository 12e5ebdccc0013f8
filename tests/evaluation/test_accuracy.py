import math

import pytest
import torch

from fedbench.evaluation.accuracy import FLOOR, NEVER, score


def test_scores_by_hand():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    labels = torch.tensor([0, 1, 1, 1])
    found = score(logits, labels, classes=3, bins=15)
    assert found.accuracy == 0.75
    assert found.per_class[:2] == (1.0, pytest.approx(2 / 3))
    assert math.isnan(found.per_class[2])
    assert found.to_json()["per_class"][2] is None
    assert found.balanced == pytest.approx(5 / 6)
    right = math.exp(2) / (math.exp(2) + 2)
    wrong = 1 / (math.exp(2) + 2)
    assert found.nll == pytest.approx(-(3 * math.log(right) + math.log(wrong)) / 4, abs=1e-5)
    assert found.ece == pytest.approx(abs(right - 0.75), abs=1e-5)


def test_calibration_error_is_the_binned_gap():
    torch.manual_seed(0)
    logits, labels = torch.randn(500, 4), torch.randint(0, 4, (500,))
    confidence, predicted = logits.softmax(1).max(1)
    right = (predicted == labels).float()
    bins = torch.clamp((confidence * 10).ceil().long() - 1, 0, 9)
    expected = sum(
        abs(right[bins == b].mean() - confidence[bins == b].mean()).item()
        * (bins == b).float().mean().item()
        for b in range(10)
        if (bins == b).any()
    )
    assert score(logits, labels, classes=4, bins=10).ece == pytest.approx(expected, abs=1e-4)


def test_a_clients_view_weighs_classes_by_its_mix():
    logits = torch.eye(3)[torch.tensor([0, 0, 1, 0])] * 5
    labels = torch.tensor([0, 0, 1, 1])
    found = score(logits, labels, classes=3, bins=15)
    assert found.on_mix([1, 1, 0]) == pytest.approx(0.75)
    assert found.on_mix([0, 10, 0]) == pytest.approx(0.5)
    assert found.on_mix([3, 0, 9]) == 1.0  # no test image of class 2: it cannot count
    assert found.on_mix([0, 0, 1]) is None


def test_what_can_never_be_predicted_counts_a_floor_and_is_noted():
    logits = torch.tensor([[0.0, 0.0, NEVER], [0.0, 0.0, NEVER]])
    found = score(logits, torch.tensor([0, 2]), classes=3, bins=15)
    assert found.nll == pytest.approx((math.log(2) + FLOOR) / 2)
    assert found.to_json()["never"] == 0.5
    assert 87 < FLOOR < 88
    assert "never" not in score(logits, torch.tensor([0, 1]), classes=3, bins=15).to_json()
