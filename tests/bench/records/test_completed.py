"""Records of before a setting existed are of the row of those that name it."""

import json
from pathlib import Path

import pytest

from fedbench.bench.records.completed import completed
from fedbench.config import parse
from fedbench.data.schemes import SCHEMES
from fedbench.methods import METHODS
from fedbench.models.families import MODELS
from fedbench.report import labels

ROOT = Path(__file__).parents[3]
FILE = ROOT / "fedbench" / "bench" / "records" / "defaults.json"
OF_OTHERS = ("partition", "method", "models")


def model(name):
    return parse({"method": "local", "models": name}).models[0].model_dump(mode="json")


def defaults():
    """Return what ``defaults.json`` has to hold."""
    cell = parse({"method": "local"}).model_dump(mode="json")
    return {
        "cell": {name: value for name, value in cell.items() if name not in OF_OTHERS},
        "schemes": {
            name: SCHEMES.get(name).settings.model_construct().model_dump(mode="json")
            for name in SCHEMES.names()
        },
        "models": {name: model(name) for name in MODELS.names()},
        "methods": {
            name: METHODS.get(name).Config(name=name).model_dump(mode="json")
            for name in METHODS.names()
        },
    }


def test_the_file_has_the_defaults_of_today():
    assert json.loads(FILE.read_text()) == defaults(), (
        "settings have changed; run `python tests/bench/records/test_completed.py`"
    )


CELL = {
    "data": {"name": "digits"},
    "partition": {"scheme": "dirichlet_capped", "beta": 0.1},
    "models": [{"name": "resnet8", "width": 8}, "convnet"],
    "method": {"name": "single_image", "preset": "reference", "selected": 100},
    "student": {"epochs": 3, "model": {"name": "convnet", "width": 8}},
    "seed": 3,
}


def without(settings, place):
    """Return settings as code wrote them that did not know one of them yet."""
    first, *rest = place
    if isinstance(settings, list):
        return [without(each, place) for each in settings]
    if not rest:
        return {name: value for name, value in settings.items() if name != first}
    return {**settings, first: without(settings[first], rest)}


@pytest.mark.parametrize(
    "place",
    [
        ("partition", "domains"),
        ("models", "initialisation"),
        ("recipe", "clip_norm"),
        ("student", "model", "norm"),
        ("evaluation",),
        ("precision",),
        ("data", "normalisation"),
    ],
    ids=".".join,
)
def test_a_setting_that_came_later_divides_no_row(place):
    now = parse(CELL).model_dump(mode="json")
    before = without(now, place)
    assert before != now
    assert completed(before) == completed(now)
    assert labels.flatten(before) == labels.flatten(now)


def test_what_a_preset_says_today_is_not_what_an_older_record_ran_with():
    """A later setting's default changes nothing; a preset's value for it may."""
    now = parse(
        {
            **CELL,
            "method": {"name": "feddf", "preset": "reference"},
            "partition": {"scheme": "dirichlet_capped", "validation": 0.1},
        }
    ).model_dump(mode="json")
    assert now["method"]["average_buffers"] is not None
    before = without(now, ("method", "validation"))
    assert completed(before)["method"]["validation"] == "none" != now["method"]["validation"]


def test_what_is_named_stays_and_what_is_unknown_is_left():
    mine = {"name": "mine", "mu": 1}
    found = completed({"method": mine, "models": [{"name": "odd"}], "recipe": {"lr": 7}})
    assert found["method"] == mine
    assert found["models"] == [{"name": "odd"}]
    assert found["recipe"]["lr"] == 7
    assert found["recipe"]["momentum"] == 0.9
    assert completed({}) == completed({"seed": 0})


if __name__ == "__main__":
    FILE.write_text(json.dumps(defaults(), indent=1, sort_keys=True) + "\n")
