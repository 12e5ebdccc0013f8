"""What a harness that leaks would let a server and a client reach: it is found."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fedbench
from fedbench.data.dataset import Split
from fedbench.federation.client import Client
from fedbench.federation.loop import Federation
from fedbench.testing.runs import Runs

PACKAGE = Path(fedbench.__file__).parent


@pytest.fixture
def watched(tmp_path, cache):
    """Run a cell and return what was in reach before and after each of its method's calls."""
    return lambda name: Runs(tmp_path, cache, {"name": name}, {}, 0).watch


def test_a_population_at_the_server_is_found(watched, monkeypatch):
    whole = Federation.__init__

    def leak(self, *arguments):
        whole(self, *arguments)
        self.server._hidden = self.population

    monkeypatch.setattr(Federation, "__init__", leak)
    (fault,) = watched("ensemble").faults()
    assert fault == "in reach of the server: ._hidden._train.images"


def test_a_harness_at_the_server_is_found(watched, monkeypatch):
    whole = Federation.__init__

    def leak(self, method, context, population, curve):
        whole(self, method, context, population, curve)
        self.server._hidden = [curve]

    monkeypatch.setattr(Federation, "__init__", leak)
    (fault,) = watched("ensemble").faults()
    assert fault.startswith("in reach of the server: ._hidden[0].__self__._test.images")


def test_a_client_that_keeps_its_images_is_found(watched, monkeypatch):
    monkeypatch.setattr(Client, "close", lambda self: None)
    faults = watched("local").faults()
    for number in range(3):
        assert f"in reach of clients after their work: [{number}]._split.images" in faults


def test_a_client_whose_images_are_a_view_of_everybodys_is_found(watched, monkeypatch):
    def view(self, indices):
        return Split(self.images[: len(indices)], self.labels[: len(indices)])

    monkeypatch.setattr(Split, "take", view)
    faults = watched("local").faults()
    assert any(fault.startswith("in reach of client 2: ._split.images") for fault in faults)


@pytest.mark.parametrize("part", ["methods", "synthesis"])
def test_methods_touch_no_private_attribute_of_others(part):
    """The doors of the server that lead to the harness are private, and stay shut."""
    for path in sorted((PACKAGE / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                dunder = node.attr.startswith("__") and node.attr.endswith("__")
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                assert own or dunder, f"{path}:{node.lineno} takes {ast.unparse(node)}"
