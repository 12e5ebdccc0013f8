"""What fedbench promises of its methods, schemes, models and data sets, to be run on yours.

A class that inherits the properties of its kind and names a thing is a test of it, for pytest:

    from fedbench.testing import MethodProperties

    class TestMine(MethodProperties):
        method = "my_method"
        plugin = "my_method.py"  # beside the test
        settings = {"rounds": 2}

Every built-in thing passes the same tests. A property that does not hold is told in a sentence: the
property, what was found, and the fix. Needs pytest: ``pip install 'fedbench-oneshot[test]'``.
"""

from importlib.util import find_spec

if find_spec("pytest") is None:
    raise ModuleNotFoundError(
        "fedbench.testing needs pytest: pip install 'fedbench-oneshot[test]'", name="pytest"
    )

from fedbench.testing.datasets import DatasetProperties
from fedbench.testing.methods import MethodProperties
from fedbench.testing.models import ModelProperties
from fedbench.testing.schemes import SchemeProperties
from fedbench.testing.tiny import TINY

__all__ = ["TINY", "DatasetProperties", "MethodProperties", "ModelProperties", "SchemeProperties"]
