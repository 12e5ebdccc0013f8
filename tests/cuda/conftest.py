"""Where the tests of this folder run: on a GPU if there is one, and else on the CPU."""

import pytest
import torch
from golden_cells import each_method

#: Enough to run the code where there is no GPU; the golden records hold all of them there.
ON_A_CPU = ("fedavg-one-shot", "feddf-fedbench")


def pytest_generate_tests(metafunc):
    if "each_cell" in metafunc.fixturenames:
        on_card = chosen(metafunc.config) == "cuda"
        metafunc.parametrize("each_cell", list(each_method()) if on_card else ON_A_CPU)


def chosen(config):
    asked = config.getoption("device")
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def device(request):
    """Return `cpu`, or `cuda` where that was asked for or is there."""
    name = chosen(request.config)
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    return name


@pytest.fixture
def runtime(runtime, device):
    from dataclasses import replace

    return replace(runtime, device=device)
