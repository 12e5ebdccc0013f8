"""Torchmetrics gathers its names late: same objects, whatever is imported before or after."""

import gc
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from fedbench.imports import TESTED, gather_late, heavy_imports


def python(code):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_torchmetrics_is_the_tested_one():
    """When this fails: run this file with its slow tests, then raise ``imports.TESTED``."""
    assert version("torchmetrics") == TESTED


@pytest.mark.thorough
def test_lightning_alone_still_imports_what_nobody_uses():
    """When this fails Lightning has become cheaper: ``fedbench.imports`` may go."""
    assert python("import sys, lightning; print('torchvision' in sys.modules)") == "True\n"


def test_lightning_comes_without_torchvision_and_all_of_torchmetrics_is_there_when_asked_for():
    python(
        """
import sys, fedbench, lightning, torch, torchmetrics
from torchmetrics.functional.classification import multiclass_calibration_error as error
assert not {"torchvision", "scipy", "torchmetrics.classification"} & set(sys.modules)
assert torchmetrics.Metric is sys.modules["torchmetrics.metric"].Metric
assert torchmetrics.__version__ == "1.9.0"
sure = error(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]), num_classes=2)
assert sure == 0
early, Metric = error, torchmetrics.Metric
assert isinstance(torchmetrics.Accuracy(task="binary"), Metric)
assert "torchvision" in sys.modules
assert torchmetrics.Metric is Metric
assert torchmetrics.functional.classification.multiclass_calibration_error is early
assert torchmetrics.functional.accuracy(torch.ones(1), torch.ones(1), task="binary") == 1
assert not hasattr(torchmetrics, "nothing") and not hasattr(torchmetrics.functional, "nothing")
import torchvision
torchvision.ops.nms(torch.ones(1, 4), torch.ones(1), 0.5)
torchvision.models.mobilenet_v2()
"""
    )


@pytest.mark.thorough
def test_who_imports_torchmetrics_first_is_not_touched():
    python(
        """
import torchvision, torchmetrics
names = set(vars(torchmetrics))
import fedbench, lightning
from fedbench.training.module import NetModule
assert set(vars(torchmetrics)) - names <= {"metric", "collections"}
assert "__getattr__" not in vars(torchmetrics)
"""
    )


@pytest.mark.slow
@pytest.mark.thorough
def test_modules_of_torchmetrics_can_be_imported_on_their_own():
    """One in fifteen of the tested version's, because all of them take minutes."""
    python(
        """
import importlib, os, pathlib
import fedbench, lightning, torchmetrics
root = pathlib.Path(torchmetrics.__file__).parent
for path in sorted(root.rglob("*.py"))[::15]:
    name = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(name, error, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""
    )


def test_a_second_call_adds_no_second_finder():
    before = list(sys.meta_path)
    gather_late()
    assert sys.meta_path == before


@pytest.mark.parametrize("collecting", [True, False])
def test_the_collector_rests_in_heavy_imports_and_is_as_before_afterwards(collecting):
    (gc.enable if collecting else gc.disable)()
    try:
        with heavy_imports():
            assert not gc.isenabled()
        assert gc.isenabled() == collecting
    finally:
        gc.enable()


def test_no_module_but_this_one_looks_for_modules():
    folder = Path(__file__).parent.parent / "fedbench"
    users = [path.name for path in folder.rglob("*.py") if "sys.meta_path" in path.read_text()]
    assert users == ["imports.py"]
