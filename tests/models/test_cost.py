"""What an image costs in a network."""

import pytest

from fedbench.errors import ModelError
from fedbench.models.cost import multiplications
from fedbench.models.settings import Model


def test_convolutions_and_linear_layers_are_counted():
    """Two blocks of 3x3 convolutions over 16x16 and 8x8 pixels, then 10 logits of 4x4 features."""
    found = multiplications(Model(name="convnet", width=8, depth=2), channels=3, size=16)
    assert found == 16 * 16 * 8 * 27 + 8 * 8 * 8 * 8 * 9 + 10 * 8 * 4 * 4


def test_grouped_convolutions_count_what_they_connect():
    names = ("resnet18", "mobilenet_v2")
    wide, narrow = (multiplications(Model(name=name), channels=3, size=32) for name in names)
    assert wide > 5 * narrow


def test_images_that_are_too_small_are_refused():
    with pytest.raises(ModelError):
        multiplications(Model(name="convnet", width=8, depth=6), channels=1, size=16)
