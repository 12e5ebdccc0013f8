import numpy as np
import pytest
import torch
from torch import nn

from fedbench.errors import ModelError
from fedbench.federation.averaging import average


def net(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.LazyLinear(2))
    model(torch.randn(4, 1, 6, 6))
    return model.state_dict()


def test_bl_1_identical_models_average_to_themselves():
    state = net(0)
    mean = average([(state, 3), (state, 5), (state, 0.1)])
    for name, value in state.items():
        assert torch.allclose(mean[name].double(), value.double(), atol=1e-6)
        assert mean[name].dtype == value.dtype


def test_bl_5_the_order_of_clients_changes_nothing():
    parts = [(net(0), 10), (net(1), 3), (net(2), 7)]
    one, other = average(parts), average(parts[::-1])
    assert all(torch.allclose(one[name].double(), other[name].double(), atol=1e-6) for name in one)


def test_the_average_is_numpys_weighted_mean_buffers_included():
    states, weights = [net(seed) for seed in range(3)], [10, 1, 5]
    mean = average(zip(states, weights, strict=True))
    for name in mean:
        expected = np.average([state[name].numpy() for state in states], axis=0, weights=weights)
        assert np.allclose(mean[name].numpy(), expected, atol=1e-6)
    assert not torch.equal(mean["1.running_mean"], states[0]["1.running_mean"])


def test_integers_stay_integers_and_are_rounded():
    mean = average([({"n": torch.tensor(3)}, 1), ({"n": torch.tensor(4)}, 3)])
    assert mean["n"].dtype == torch.int64
    assert mean["n"] == 4


def test_models_of_two_architectures_are_refused():
    with pytest.raises(ModelError, match="'b'"):
        average([({"a": torch.zeros(1)}, 1), ({"a": torch.zeros(1), "b": torch.zeros(1)}, 1)])
    with pytest.raises(ModelError, match=r"\(2,\) and \(1,\)"):
        average([({"a": torch.zeros(1)}, 1), ({"a": torch.zeros(2)}, 1)])
    with pytest.raises(ModelError, match="nothing to average"):
        average([])
