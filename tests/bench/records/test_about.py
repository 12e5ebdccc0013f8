"""What records and plans say of methods without importing them, and that it is so."""

import json
from pathlib import Path

import pytest

from fedbench.bench.cells.cell import said_of
from fedbench.bench.facts import paper
from fedbench.bench.records.about import (
    about,
    in_words,
    leaves,
    meant_by,
    method_label,
    overrides,
    preset_label,
    text,
)
from fedbench.config import parse
from fedbench.methods import METHODS
from fedbench.registry import describe

ROOT = Path(__file__).parents[3]
FILE = ROOT / "fedbench" / "bench" / "records" / "about.json"
HELD_OUT = {"partition": {"validation": 0.1}}  # some presets want hold-outs


def builtin():
    """Return what ``about.json`` has to hold."""
    found = {}
    for name in METHODS.names():
        method = METHODS.get(name)
        presets = {
            preset: said_of(parse({**HELD_OUT, "method": {"name": name, "preset": preset}}))[
                "preset"
            ]
            for preset in method.presets
        }
        course = method.course
        sent = {"up": course.up, "down": course.down}
        words = {"what": describe(method), "paper": paper(method), **sent}
        named = {
            preset: sorted(key for key, _ in leaves(values))
            for preset, values in method.presets.items()
        }
        found[name] = {**words, "presets": presets, "named": named}
    return found


def test_the_file_has_the_methods_of_today():
    assert json.loads(FILE.read_text()) == json.loads(json.dumps(builtin())), (
        "methods have changed; run `python tests/bench/records/test_about.py`"
    )


def settings(method):
    return parse({**HELD_OUT, "method": method}).method.model_dump(mode="json")


def test_a_preset_as_it_is_has_no_overrides():
    for preset in METHODS.get("feddf").presets:
        assert overrides(settings({"name": "feddf", "preset": preset})) == {}
    assert preset_label(settings({"name": "feddf", "preset": "fedbench"})) == "fedbench"


def test_what_is_set_otherwise_than_the_preset_is_named_with_both_values():
    method = settings({"name": "feddf", "preset": "reference", "rounds": 1, "steps": 500})
    assert overrides(method) == {"rounds": (1, 100), "steps": (500, 10_000)}
    assert preset_label(method) == "reference*"
    assert in_words(overrides(method)) == "rounds=1 (100), steps=500 (10000)"


def test_settings_inside_others_count_and_the_presets_own_value_does_not():
    method = settings(
        {"name": "single_image", "preset": "fedbench", "selection": {"prune": "none"}}
    )
    assert list(overrides(method)) == ["selection.prune"]
    same = METHODS.get("feddf").presets["reference"]["rounds"]
    assert overrides(settings({"name": "feddf", "preset": "reference", "rounds": same})) == {}


def test_without_a_preset_what_is_not_the_methods_default_is_named():
    cut = settings({"name": "collabdm", "iterations": 10})
    assert overrides(cut) == {"iterations": (10, 400)}
    assert method_label("collabdm", preset_label(cut)) == "collabdm*"
    whole = settings({"name": "collabdm", "iterations": 400})
    assert method_label("collabdm", preset_label(whole), ["lr=1"]) == "collabdm (lr=1)"


def test_a_record_without_a_preset_says_what_the_defaults_were():
    said = said_of(parse({"method": {"name": "collabdm", "iterations": 10}}))
    assert said["preset"]["iterations"] == 400
    assert overrides({"name": "collabdm", "iterations": 10}, {"preset": {"iterations": 10}}) == {}
    assert overrides({"name": "collabdm", "iterations": 10}, {"plugin": True}) == {}


def test_a_preset_means_what_it_names_and_no_default_of_ours():
    meant = meant_by("single_image", "reference")
    named = dict(leaves(METHODS.get("single_image").presets["reference"]))
    assert json.loads(json.dumps(named)) == meant
    assert "image" not in meant  # a default of fedbench
    assert "image" in settings({"name": "single_image", "preset": "reference"})
    assert meant_by("fedavg", "reference") == meant_by("mine", "reference") == {}


def test_a_records_own_word_counts_before_the_methods_of_today():
    method = {"name": "feddf", "preset": "reference", "rounds": 1}
    assert overrides(method, {"preset": {"rounds": 1}}) == {}
    assert overrides(method, {"preset": {"rounds": 7}}) == {"rounds": (1, 7)}
    assert overrides({"name": "mine", "preset": "p", "mu": 1}) == {}
    assert overrides({"name": "mine", "preset": "p", "mu": 1}, {"preset": {"mu": 2}}) == {
        "mu": (1, 2)
    }


@pytest.mark.parametrize("plugin", [False, True])
def test_a_plugin_speaks_for_itself(plugin):
    said = {"what": "Mine.", **({"plugin": True} if plugin else {})}
    found = about({"name": "feddf"}, said)
    assert (found.what, bool(found.up)) == ("Mine.", not plugin)


if __name__ == "__main__":
    FILE.write_text(json.dumps(builtin(), indent=1, sort_keys=True, ensure_ascii=False) + "\n")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (["invert", "tint"], "invert+tint"),
        ((5, 0.5), "5+0.5"),
        ([], "none"),
        (None, "none"),
        (1e-05, "1e-05"),
        (1 / 3, str(1 / 3)),
        (True, "true"),
        ({"clusters": 10}, '{"clusters":10}'),
    ],
)
def test_settings_are_written_as_people_write_them(value, written):
    assert text(value) == written
