"""Public resources: names, draws, shapes, and records that notice other files."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from shared import PETS

from fedbench.bench.cell import run_cell
from fedbench.bench.datasets import load_data
from fedbench.bench.lookup import good_record
from fedbench.bench.resources import in_channels, load_resource
from fedbench.data.load import left_over
from fedbench.data.normalisation import Normalisation
from fedbench.data.settings import Data
from fedbench.errors import DataError, PrivacyError, SettingsError
from fedbench.federation.context import ImageShape
from fedbench.federation.resources import parse_name

SHAPE = ImageShape(1, 16, 10, Normalisation((0.5,), (0.5,)), "none")


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


def test_unused_images_are_those_that_no_client_holds(tiny, runtime):
    cell = tiny("local")
    whole = load_data(Data(), runtime).train
    ours = load_data(cell.data, runtime).train
    free = left_over(whole, cell.data)
    assert len(free) == len(whole) - len(ours)
    rows = {image.numpy().tobytes() for image in ours.images}
    assert not [image for image in free.images if image.numpy().tobytes() in rows]
    found = load_resource("unused@30", cell, runtime, SHAPE)
    assert found.pixels == 30 * 256
    pool = {image.numpy().tobytes() for image in free.images}
    assert all(image.numpy().tobytes() in pool for image in found.tensors["images"])


def test_draws_follow_the_seed_and_smaller_ones_begin_larger_ones(tiny, runtime):
    def draw(count, seed=0):
        cell = tiny("local", data=PETS, seed=seed)
        return load_resource(f"dataset:digits@{count}", cell, runtime, SHAPE).tensors["images"]

    assert torch.equal(draw(5), draw(9)[:5])
    assert not torch.equal(draw(9), draw(9, seed=1))


def test_what_there_is_too_little_of_is_an_error(tiny, runtime):
    with pytest.raises(DataError, match=r"asks for 99999 images and there are \d+"):
        load_resource("dataset:digits@99999", tiny("local", data=PETS), runtime, SHAPE)
    with pytest.raises(DataError, match=r"set data\.train_size"):
        load_resource("unused@1", tiny("local", data={"train_size": None}), runtime, SHAPE)
    with pytest.raises(PrivacyError, match="clients' own"):
        load_resource("dataset:digits@1", tiny("local"), runtime, SHAPE)
    with pytest.raises(DataError, match="no known kind"):
        load_resource("nonsense:x", tiny("local"), runtime, SHAPE)


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
