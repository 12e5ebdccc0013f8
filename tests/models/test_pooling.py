"""2x2 average pooling: the same bits as torch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fedbench.models import pooling
from fedbench.models.pooling import HalvingPool


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(2, 2), (7, 5), (14, 14), (16, 18), (32, 32), (33, 64)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_torchs(
    dtype: torch.dtype, size: tuple[int, int], layout: torch.memory_format
) -> None:
    source = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 4, *size, generator=source).to(dtype).contiguous(memory_format=layout)
    ours, theirs = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    mine, expected = HalvingPool()(ours), functional.avg_pool2d(theirs, 2)
    assert mine.dtype == dtype
    assert torch.equal(mine, expected)
    pull = torch.randn(expected.shape, generator=source).to(dtype)
    mine.backward(pull)
    expected.backward(pull)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


def test_autocast_keeps_the_type_of_the_maps() -> None:
    maps = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(HalvingPool()(maps), functional.avg_pool2d(maps, 2))
        assert HalvingPool()(maps.bfloat16()).dtype == torch.bfloat16


def test_what_is_kept_from_inference_can_be_trained_through() -> None:
    pooling._squares.cache_clear()
    maps = torch.ones(1, 1, 4, 4, dtype=torch.bfloat16)
    with torch.inference_mode():
        HalvingPool()(maps)
    again = maps.clone().requires_grad_()
    HalvingPool()(again).sum().backward()
    assert again.grad is not None
    assert again.grad.eq(0.25).all()
