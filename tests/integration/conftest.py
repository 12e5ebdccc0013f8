"""An undisturbed sweep, which disturbed ones are compared with."""

import pytest
from forked import Sweep, suite_file


@pytest.fixture(scope="session")
def calm(tmp_path_factory):
    """Return an undisturbed sweep's folder, its suite's file and its seconds."""
    folder = tmp_path_factory.mktemp("calm")
    path = suite_file(folder)
    Sweep(path, folder / "first").complete()  # so that the server has all modules
    return folder / "home" / "storm", path, Sweep(path, folder / "home").complete()
