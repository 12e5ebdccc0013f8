"""Descriptions of data sets: how files are named, and what is refused when one is made."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from data_files import load_all

from fedbench.data.layouts import DatasetSpec, Layout
from fedbench.data.specs import DATASETS
from fedbench.errors import DataError, SettingsError
from fedbench.registry import imported

DOCS = Path(__file__).parents[2] / "docs"
SPEC = {
    "name": "mine", "title": "mine", "classes": ("a", "b"), "channels": 1, "size": 8,
    "train_size": None, "test_size": None, "mean": (0.5,), "std": (0.5,), "augment": "none",
    "version": 1, "accepts": (Layout("npz", "two files", print),), "fetch": "nothing",
}  # fmt: skip


def test_files_are_a_mapping_or_pairs_and_a_pattern_may_stand_alone():
    pairs = (("train", ("train.npz",)), ("test", ("test.npz", "val.npz")))
    written = {"train": "train.npz", "test": ["test.npz", "val.npz"]}
    for files in (pairs, written, [["train", "train.npz"], ("test", ["test.npz", "val.npz"])]):
        assert Layout("npz", "two files", print, files=files).parts == pairs


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"files": "train.npz"}, "`files` is 'train.npz'"),
        ({"files": ("train.npz", "test.npz")}, "`files` has 'train.npz', which is no part with"),
        ({"files": {"train": ()}}, "`files` has no pattern for 'train'"),
        ({"files": {"train": 3}}, r"`files\['train'\]` is 3"),
        ({"files": {1: "a"}}, "`files` has a part 1, not a name"),
        ({"files": [("train", "a"), ("train", "b")]}, "`files` has the part 'train' twice"),
        ({"files": {"train": "/data/train.npz"}}, "has '/data/train.npz'; it is looked for below"),
        ({"files": {"train": "../train.npz"}}, "has '../train.npz'; it is looked for below"),
        ({"files": {"train": "**/*.png"}}, r"has the pattern '\*\*/\*.png'; it names files"),
        ({"places": "shapes"}, r'`places` is one text; write \("shapes",\)'),
        ({"places": ()}, "`places` is empty"),
        ({"suffixes": (".PNG",)}, r"`suffixes` has '.PNG'; .* such as \".png\""),
        ({"reader": "my_package.data"}, "`reader` is 'my_package.data'; give the function"),
        ({"reader": None}, "`reader` is None; give the function"),
        ({"look": 3}, "`look` is 3; give the function"),
    ],
)
def test_a_wrong_layout_names_the_value_the_bound_and_the_fix(given, words):
    with pytest.raises(SettingsError, match=f"layout 'npz': .*{words}"):
        Layout(**{"name": "npz", "words": "two files", "reader": print, **given})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"accepts": Layout("npz", "two files", print)}, "`accepts` is one layout"),
        ({"accepts": ()}, r"`accepts` is \(\); it is one layout or more"),
        ({"classes": "ab"}, "`classes` is one text"),
        ({"classes": ("a", "a")}, "`classes` names a twice"),
        ({"channels": 2}, "`channels` is 2; it is 1, 3 or None"),
        ({"augment": "mirror"}, "`augment` is 'mirror'; it is one of none, crop"),
        ({"size": 0}, "`size` is 0; it is a number from 1 on"),
        ({"train_size": 0}, "`train_size` is 0; .* or None where it is not known"),
        ({"mean": 0.5}, r"`mean` is 0.5; it is a value in \[0, 1\], such as"),
        ({"mean": (127.0,)}, r"`mean` is \(127.0,\); it is a value in \[0, 1\]"),
        ({"channels": 3, "mean": (0.5, 0.5)}, r"`mean` is \(0.5, 0.5\); .* or 3 of them"),
        ({"std": (0.0,)}, "`std` is .*: above 0"),
    ],
)
def test_a_wrong_data_set_names_the_value_the_bound_and_the_fix(given, words):
    with pytest.raises(SettingsError, match=f"data set 'mine': {words}"):
        DatasetSpec(**{**SPEC, **given})


@pytest.mark.parametrize("page", ["data.md", "plugins.md"])
def test_the_documented_data_set_of_files_reads_them(tmp_path, monkeypatch, page):
    """The block of the page is run as it stands."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    (text,) = (block for block in blocks if "files=" in block)
    module = ModuleType("my_package.data")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(text, page, "exec"), vars(module))
    (spec,) = (thing for thing in vars(module).values() if isinstance(thing, DatasetSpec))
    monkeypatch.setitem(DATASETS._loaded, spec.name, spec)
    with pytest.raises(DataError, match=rf"{spec.name}: no file of it is below"):
        load_all(spec.name, tmp_path, tmp_path / "cache")
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28), dtype=np.uint8)
    folder = tmp_path / spec.accepts[0].places[0]
    folder.mkdir()
    np.savez(folder / "train.npz", images=images, labels=np.arange(20) % 2)
    with pytest.raises(DataError, match=r"lacks test.npz"):
        load_all(spec.name, tmp_path, tmp_path / "cache")
    np.savez(folder / "test.npz", images=images[:6], labels=np.arange(6) % 2)
    data = load_all(spec.name, tmp_path, tmp_path / "cache")
    assert (len(data.train), len(data.test), data.classes) == (20, 6, spec.classes)
    np.testing.assert_array_equal(data.train.images.numpy(), images)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("fedbench.files", "says not where something is; write it as 'module:name'"),
        ("no_such_package:read", "No module named 'no_such_package'; correct the name"),
        ("fedbench.files:hom", r"fedbench.files has no 'hom' \(did you mean 'home'\?\)"),
    ],
)
def test_what_is_named_and_not_there_is_said_with_the_nearest(target, words):
    with pytest.raises(SettingsError, match=words):
        imported(target)
