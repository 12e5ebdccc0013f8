"""Plugins: what one file may bring, how it is told from another, and what of it is hashed."""

from pathlib import Path

import pytest
from plugin_tables import TABLES, forget_plugins

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.executors import execute
from fedbench.bench.executors.job import Job, work
from fedbench.bench.suites.plan import Planned, planned
from fedbench.config import identity, parse
from fedbench.data.pictures import source_digest
from fedbench.data.sources import locate
from fedbench.data.specs import DATASETS
from fedbench.errors import SettingsError
from fedbench.methods.ensemble import Ensemble
from fedbench.models.families import MODELS
from fedbench.plugins import load_plugin
from fedbench.report.labels import of_block, of_row, origin

#: A thing of each kind by its table's word for it; NAME stands for its name.
KINDS = {
    "method": """
from fedbench.methods.local import Local
class Mine(Local):
    name = "NAME"
""",
    "resource kind": """
from fedbench.federation.resources import Resource, ResourceKind
class Kind(ResourceKind):
    name, counted = "NAME", "never"
    def load(self, scene):
        return Resource(self.text, size_bytes=1000)
""",
    "data set": """
from dataclasses import replace
from fedbench.data.specs import DIGITS
SPEC = replace(DIGITS, name="NAME")
""",
    "model": """
from dataclasses import replace
from fedbench.models.families import CONVNET
from fedbench.models.convnet import ConvNet
FAMILY = replace(CONVNET, name="NAME", build=ConvNet)
""",
    "partition scheme": """
from typing import Literal
from fedbench.data.partitioners.iid import iid
from fedbench.data.schemes import Scheme
from fedbench.data.settings import Partition
class Settings(Partition):
    scheme: Literal["NAME"] = "NAME"
SCHEME = Scheme(name="NAME", title="", settings=Settings, function=iid, source="")
""",
    "picture": """
import numpy as np
from fedbench.data.pictures import Picture
def draw(height, width, channels):
    return np.full((height, width, channels), 7, np.uint8)
PICTURE = Picture("NAME", "grey", draw=draw)
""",
}
BUILT_IN = {
    "method": "fedavg",
    "resource kind": "dataset",
    "data set": "mnist",
    "model": "resnet8",
    "partition scheme": "iid",
    "picture": "china",
}


class Asks(Ensemble):
    """A method that is no plugin's and asks for a resource that is."""

    name = "asks"

    def resources(self, cell):
        return ("weights:resnet",)


WEIGHTS = """
from fedbench.federation.resources import Resource, ResourceKind
class Weights(ResourceKind):
    name = "weights"
    def load(self, scene):
        return Resource(self.text, size_bytes=1000)
"""


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    forget_plugins()


@pytest.fixture
def bring(tmp_path):
    """Write a plugin and load it as a new process does."""

    def load(text, name="mine.py"):
        forget_plugins()
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return load_plugin(str(path))

    return load


def thing(kind, name):
    return KINDS[kind].replace("NAME", name)


def test_a_file_brings_any_kind_of_thing_and_may_be_loaded_again(bring, tmp_path):
    text = "".join(thing(kind, f"my_{kind.split()[-1]}") for kind in KINDS)
    brought = bring(text)
    assert sorted(brought) == sorted(f"{kind} my_{kind.split()[-1]}" for kind in KINDS)
    assert load_plugin(str(tmp_path / "mine.py")) == brought
    for table in TABLES:
        assert f"my_{table.kind.split()[-1]}" in table.names()


@pytest.mark.parametrize("kind", KINDS)
def test_a_built_in_name_cannot_be_taken(bring, kind):
    with pytest.raises(
        SettingsError, match=rf"mine\.py.*{kind} '{BUILT_IN[kind]}' already(, of .*)?; rename"
    ):
        bring(thing(kind, BUILT_IN[kind]))


def test_two_things_of_one_name_in_a_file_are_an_error(bring):
    with pytest.raises(SettingsError, match="data set 'twice' already"):
        bring(thing("data set", "twice") + 'OTHER = replace(SPEC, title="another")\n')


def test_what_a_plugin_imports_is_not_its_own(bring):
    text = "from fedbench.data.schemes import IID\nfrom fedbench.methods.fedavg import FedAvg\n"
    assert bring(text + thing("model", "own")) == ["model own"]
    with pytest.raises(SettingsError, match=r"defines nothing.*Picture at the top"):
        bring(text)


def test_what_is_no_plugin_is_said_with_the_line_at_fault(bring, tmp_path):
    with pytest.raises(SettingsError, match="no plugin file"):
        load_plugin(str(tmp_path / "nowhere.py"))
    with pytest.raises(SettingsError, match="no plugin module"):
        load_plugin("no_such_module_anywhere")
    with pytest.raises(SettingsError, match=r"mine\.py, line 2: NameError.*'oops'"):
        bring("x = 1\noops\n")
    with pytest.raises(SettingsError, match=r"mine\.py, line 1: "):
        bring("x = = 1\n")
    assert bring(thing("model", "mended")) == ["model mended"]


def test_files_of_one_name_in_two_folders_are_two_plugins(tmp_path):
    for folder, name in (("one", "model_one"), ("two", "model_two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(thing("model", name))
        assert load_plugin(str(tmp_path / folder / "mine.py")) == [f"model {name}"]
    one, two = (MODELS.plugins(name) for name in ("model_one", "model_two"))
    assert {*one.values()} != {*two.values()}


def test_the_digest_is_of_the_file_as_it_was_imported(bring, tmp_path, caplog):
    bring(thing("model", "own"))
    cell = parse({"method": "fedavg", "models": "own"})
    before = cell.cell_id
    (tmp_path / "mine.py").write_text(thing("model", "own") + "# edited meanwhile\n")
    assert cell.cell_id == before
    assert load_plugin(str(tmp_path / "mine.py")) == ["model own"]
    assert cell.cell_id == before
    assert "edited after it was imported" in caplog.text


#: Cells that use a thing called `own`, and where the versions in their identity say so.
USES = {
    "method": ({"method": "own"}, ("plugin",)),
    "data set": ({"data": {"name": "own"}}, ("shared_plugins", "data set own")),
    "model": ({"models": ["convnet", "own"]}, ("shared_plugins", "model own")),
    "partition scheme": (
        {"partition": {"scheme": "own"}},
        ("shared_plugins", "partition scheme own"),
    ),
    "picture": (
        {"method": {"name": "single_image", "image": "own"}, "budget": {"pixels": 5000}},
        ("plugins", "picture own"),
    ),
}
MORE = {
    "a public data set": (
        "data set",
        {"method": {"name": "feddf", "public": "own"}, "budget": {"pixels": 5000}},
        ("plugins", "public data set own"),
    ),
    "an embedding": (
        "model",
        {"method": {"name": "collabdm", "embedding": "own"}, "budget": {"ipc": 1}},
        ("plugins", "model own"),
    ),
    "a student": (
        "model",
        {"method": "random_real", "student": {"model": "own"}, "budget": {"ipc": 1}},
        ("plugins", "model own"),
    ),
}
CASES = {**{kind: (kind, *use) for kind, use in USES.items()}, **MORE}


@pytest.mark.parametrize("case", CASES)
def test_an_edited_file_makes_other_cells_of_those_that_use_it(bring, case):
    kind, settings, path = CASES[case]
    ids, digests = [], []
    for text in ("", "# edited\n", ""):
        bring(thing(kind, "own") + text)
        cell = parse({"method": "fedavg", **settings})
        found = identity(cell)["versions"]
        for key in path:
            found = found[key]
        ids.append(cell.cell_id)
        digests.append(found)
        assert not {"plugin", "plugins", "shared_plugins"} & {
            *identity(parse({"method": "fedavg"}))["versions"]
        }
    assert ids[0] == ids[2] != ids[1]
    assert digests[0] == digests[2] != digests[1]


def test_a_resource_of_ones_own_is_hashed_loaded_and_priced(bring, tiny, registered, runtime):
    registered(Asks)
    ids = []
    for text in ("", "# edited\n"):
        bring(WEIGHTS + text)
        cell = tiny("asks")
        ids.append(cell.cell_id)
        assert identity(cell)["versions"]["plugins"].keys() == {"resource kind weights"}
    assert ids[0] != ids[1]
    record = run_cell(cell, runtime, suite="s")
    assert record.status == "ok", record.traceback
    assert (record.resources, record.resource_bytes) == (["weights:resnet"], 1000)
    assert record.shared_pixels == 0


def test_rows_stand_in_one_block_whatever_their_methods_bring():
    def flat(**versions):
        return origin(versions, {})

    plain, own = flat(), flat(plugin="a", plugins={"picture leaves": "b"})
    assert of_block(plain) == of_block(own)
    assert of_row(plain) != of_row(own)
    assert of_block(flat(shared_plugins={"data set shapes": "c"})) != of_block(plain)


def test_a_plugins_cache_is_not_taken_after_its_file_has_changed(bring, tmp_path):
    places = []
    for text in ("", "# edited\n", ""):
        bring(thing("data set", "own") + text)
        places.append(locate(DATASETS.get("own"), tmp_path).cache_file(tmp_path))
    assert places[0] == places[2] != places[1]


def test_a_drawn_pictures_digest_is_of_the_plugin(bring):
    found = []
    for text in ("", "# edited\n", ""):
        bring(thing("picture", "own") + text)
        found.append(source_digest("own", Path("nowhere")))
    assert found[0] == found[2] != found[1]


def test_what_was_trained_is_not_taken_after_the_familys_file_has_changed(bring, tiny, runtime):
    shared = []
    for text in ("", "", "# edited\n"):
        bring(thing("model", "own") + text)
        cell = tiny("ensemble", models={"name": "own", "width": 4, "depth": 2})
        record = run_cell(cell, runtime, suite=f"s{len(shared)}")
        assert record.status == "ok", record.traceback
        shared.append(record.ledger["shared_seconds"] > 0)
    assert shared == [False, True, False]


def test_workers_load_what_cells_use(bring, tiny, runtime, tmp_path):
    parts = ("data set", "model", "partition scheme")
    bring("".join(thing(kind, "own") for kind in parts))
    cell = tiny(
        {"name": "fedavg", "rounds": 1},
        data={"name": "own"},
        models={"name": "own"},
        partition={"scheme": "own", "clients": 3},
    )
    plugins = [str(tmp_path / "mine.py")]
    (record,) = execute(
        [planned(cell)], runtime, suite="s", profile=None, workers=1, plugins=plugins
    )
    assert record.status == "ok", record.traceback
    assert record.cell_id == cell.cell_id
    assert len(record.versions["shared_plugins"]) == 3


def test_a_worker_that_finds_an_edited_plugin_fails_the_cell(tiny, runtime):
    entry = Planned(tiny("local"), "0" * 16, None)
    record = work(entry, Job(runtime, "s", None, (), ("cpu",)), lambda _: None)
    assert (record.status, record.cell_id) == ("failed", "0" * 16)
    assert "edited since the sweep began" in record.reason
