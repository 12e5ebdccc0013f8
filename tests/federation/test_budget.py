import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbench.config import Budget
from fedbench.errors import SettingsError
from fedbench.federation.budget import quotas, total_images, total_pixels


def test_pixels_count_once_whatever_the_channels():
    assert total_pixels(Budget(ipc=50), classes=10, size=32, clients=5) == 512_000


def test_a_budget_per_client_is_multiplied():
    one = Budget(pixels=2000, scope="per_client")
    assert total_pixels(one, classes=10, size=10, clients=7) == 14_000


def test_images_are_whole():
    assert total_images(Budget(pixels=2047), classes=10, size=32, clients=1) == 1
    with pytest.raises(SettingsError, match="at least 1024 pixels"):
        total_images(Budget(pixels=1023), classes=10, size=32, clients=1)


@given(st.integers(0, 300), st.lists(st.integers(0, 60), min_size=1, max_size=12))
def test_quotas_are_even_within_what_clients_hold(total, holdings):
    shares = quotas(total, holdings)
    assert sum(shares) == min(total, sum(holdings))
    assert all(0 <= share <= held for share, held in zip(shares, holdings, strict=True))
    open_ = [share for share, held in zip(shares, holdings, strict=True) if share < held]
    assert not open_ or max(shares) - min(open_) <= 1
