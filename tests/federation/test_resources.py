"""Public resources: names, draws, shapes, and records that notice other files."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from shared import PETS

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.datasets import load_data
from fedbench.bench.cells.lookup import good_record
from fedbench.bench.suites.plan import planned
from fedbench.config import parse
from fedbench.data.load import left_over
from fedbench.data.settings import Data
from fedbench.errors import DataError, PrivacyError, SettingsError
from fedbench.federation.images import in_channels
from fedbench.federation.resources import (
    RESOURCES,
    Folders,
    Scene,
    declared,
    digests,
    parse_name,
    why_not,
)
from fedbench.methods import METHODS


@pytest.fixture
def load(runtime):
    """Load a resource for a cell, as its runner does."""

    def take(name, cell):
        folders = Folders(runtime.data, runtime.home)
        scene = Scene(cell, 1, 16, 10, folders, lambda settings: load_data(settings, runtime))
        return declared(name).load(scene)

    return take


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("dataset:cifar100@500", ("dataset", "cifar100", 500)),
        ("dataset:mnist", ("dataset", "mnist", None)),
        ("unused@50", ("unused", "", 50)),
        ("picture:some@dir/a.jpg@9", ("picture", "some@dir/a.jpg", 9)),
    ],
)
def test_names_have_three_parts(name, parts):
    assert parse_name(name) == parts


def test_a_count_is_a_number():
    with pytest.raises(SettingsError, match="'many' after the @"):
        parse_name("dataset:mnist@many")


def test_unused_images_are_those_that_no_client_holds(tiny, runtime, load):
    cell = tiny("local")
    whole = load_data(Data(), runtime).train
    ours = load_data(cell.data, runtime).train
    free = left_over(whole, cell.data)
    assert len(free) == len(whole) - len(ours)
    rows = {image.numpy().tobytes() for image in ours.images}
    assert not [image for image in free.images if image.numpy().tobytes() in rows]
    found = load("unused@30", cell)
    assert found.pixels == 30 * 256
    pool = {image.numpy().tobytes() for image in free.images}
    assert all(image.numpy().tobytes() in pool for image in found.tensors["images"])


def test_unassigned_images_are_those_that_the_partition_gives_to_nobody(tiny, runtime, load):
    some = {"scheme": "classes_round_robin", "clients": 1, "classes_per_client": 5}
    cell = tiny("local", partition={**some, "validation": 0.2})
    found = load("unassigned", cell).tensors["labels"]
    ours = load_data(cell.data, runtime).train.labels
    assert torch.equal(found.sort().values, ours[ours >= 5].sort().values)
    assert load("unassigned@7", cell).pixels == 7 * 256
    with pytest.raises(DataError, match="asks for 120 images"):
        load("unassigned@120", cell)
    with pytest.raises(DataError, match="leaves no image to the server"):
        load("unassigned", tiny("local", partition={**some, "classes_per_client": 10}))


def test_draws_follow_the_seed_and_smaller_ones_begin_larger_ones(tiny, load):
    def draw(count, seed=0):
        cell = tiny("local", data=PETS, seed=seed)
        return load(f"dataset:digits@{count}", cell).tensors["images"]

    assert torch.equal(draw(5), draw(9)[:5])
    assert not torch.equal(draw(9), draw(9, seed=1))


def test_what_there_is_too_little_of_is_an_error(tiny, load):
    with pytest.raises(DataError, match=r"asks for 99999 images and there are \d+"):
        load("dataset:digits@99999", tiny("local", data=PETS))
    with pytest.raises(DataError, match=r"set data\.train_size"):
        load("unused@1", tiny("local", data={"train_size": None}))
    with pytest.raises(PrivacyError, match="clients' own"):
        load("dataset:digits@1", tiny("local"))


def test_what_is_no_resource_is_an_error_that_says_what_there_is():
    with pytest.raises(
        SettingsError, match=r"'nonsense'.*dataset, diffusers, picture, unassigned, unused"
    ):
        declared("nonsense:x")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("dataset", r"dataset:NAME\[@COUNT\]"),
        ("dataset@5", r"dataset:NAME\[@COUNT\]"),
        ("unused", "unused@COUNT"),
        ("unused:mnist@5", "unused@COUNT"),
        ("unassigned:mnist", r"unassigned\[@COUNT\]"),
        ("picture@100", r"picture:NAME\[@COUNT\]"),
    ],
)
def test_a_name_of_another_form_is_an_error_that_gives_the_form(name, form):
    with pytest.raises(SettingsError, match=form):
        declared(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dataset:digits", "clients' own"),
        ("dataset:mnits", "no data set 'mnits'"),
        ("dataset:folder@5", "needs a path"),
        ("dataset:mnist@60001", "60000 training images"),
        ("unused@1318", "1317 images of digits are unused"),
        ("picture:chian", "no picture 'chian'.*china"),
        ("nonsense:x", "no resource kind"),
        ("dataset:mnist@many", "no number"),
        ("dataset:mnist@60000", None),
        ("unused@1317", None),
        ("unassigned", "'iid' gives every image to some client"),
        ("picture:china@100", None),
        ("picture:not/here.png", None),
    ],
)
def test_a_plan_knows_which_resources_cannot_be_had(tiny, runtime, name, words):
    reason = why_not([name], tiny("local"), Folders(runtime.data, runtime.home))
    assert reason is None if words is None else re.search(words, reason)


def test_a_plan_skips_a_cell_whose_method_declares_what_cannot_be_had(tiny, registered):
    class Asks(METHODS.get("local")):
        name = "asks_for_its_own"

        def resources(self, cell):
            return ("dataset:digits",)

    registered(Asks)
    assert "clients' own" in planned(tiny("asks_for_its_own")).skip


def test_digests_are_of_what_is_here(runtime, pets):
    here, nowhere = Folders(pets, runtime.home), Folders(runtime.data, runtime.home)
    names = ["dataset:mnist@5", "unused@5", "picture:noise@100", "picture:pets/train/cat/0.png"]
    assert {*digests(names, nowhere)} == {"picture:noise@100"}
    found = digests(names, here)
    assert {*found} == {"picture:noise@100", "picture:pets/train/cat/0.png"}
    assert digests(["dataset:digits@5"], nowhere).keys() == {"dataset:digits@5"}


def test_only_unused_images_are_a_privilege(runtime):
    names = ("dataset:mnist@5", "picture:china@100", "unused@5")
    cell, folders = parse({"method": "local"}), Folders(runtime.data, runtime.home)
    assert [declared(name).privilege(cell, folders) for name in names] == [
        None,
        None,
        "5 images of the clients' own data set, which no client holds",
    ]


def test_every_kind_is_found_by_the_first_word_of_its_names():
    for name in RESOURCES.names():
        assert RESOURCES.get(name).name == name


def test_channels_are_made_to_fit():
    colour = torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8)
    grey = in_channels(colour, 1)
    expected = (colour.double() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)
    assert grey.dtype == torch.uint8
    assert (grey[:, 0] - expected).abs().max() <= 0.501
    assert torch.equal(in_channels(grey, 3), grey.repeat(1, 3, 1, 1))
    assert in_channels(colour, 3) is colour


def test_a_record_of_another_public_set_is_computed_again(tiny, runtime, pets, caplog):
    means = dataclasses.replace(runtime, data=pets)
    cell = tiny(
        {"name": "feddf", "steps": 2, "public": "digits"}, data=PETS, budget={"pixels": 1100}
    )
    record = run_cell(cell, means, suite="s")
    assert record.status == "ok", record.traceback
    assert record.resources == ["dataset:digits@4"]
    assert good_record(means.home, "s", cell, pets) is not None
    path = means.home / "s" / "records" / f"{cell.cell_id}.json"
    digest = record.data["resources"]["dataset:digits@4"]
    path.write_text(path.read_text().replace(digest, "0" * 64))
    assert good_record(means.home, "s", cell, pets) is None
    assert "have changed" in caplog.text
