"""What is said of methods: from their own answers, with sources, and as records have it."""

import functools
import re
from pathlib import Path

import pytest

from fedbench.bench.facts import comments, facts, preset_notes
from fedbench.bench.records.record import read_records
from fedbench.bench.suites.plan import planned
from fedbench.config import MethodConfig, parse
from fedbench.methods import METHODS
from fedbench.session.cell import Wish
from fedbench.settings import Settings

DIGITS = Path(__file__).parents[2] / "leaderboards" / "digits" / "records"
EVERY = METHODS.names()
of = functools.cache(facts)


@pytest.mark.parametrize("name", EVERY)
def test_every_default_has_its_source_and_every_preset_a_note(name):
    found = of(name)
    assert [s.name for s in found.settings if not s.source and s.default is not None] == []
    assert [each.preset for each in found.variants[1:] if not each.note] == []
    assert all(setting.what for setting in found.settings)
    assert {"down", "client", "up", "server", "leaves"} == found.course.keys()


@pytest.mark.parametrize("name", EVERY)
def test_the_example_of_every_method_can_be_run(name):
    words = of(name).example.removeprefix("fedbench run --").split(" --")
    given = dict(word.split(" ") for word in words)
    places = {
        "data.name": given["dataset"],
        "method.name": given["method"],
        "partition.beta": float(given["beta"]),
        "budget.ipc": int(given["ipc"]) if "ipc" in given else None,
        "data.train_size": int(given["train-size"]) if "train-size" in given else None,
        "models.name": given.get("model"),
    }
    assert planned(parse(Wish.of(places).tree)).skip is None


def test_what_is_said_to_pass_is_what_records_have():
    records = [record for _, record in read_records(DIGITS)]
    assert len(records) > 90
    for record in records:
        ledger, method = record.ledger, record.settings["method"]
        found = of(method["name"])
        assert (found.course["up"] == "nothing") == (ledger["bytes_up"] == 0), record.cell_id
        assert (found.course["down"] == "nothing") == (ledger["bytes_down"] == 0), record.cell_id
        assert ledger["rounds"] == method.get("rounds", found.plain.rounds), record.cell_id
        assert bool(record.resources) == bool(found.plain.resources), record.cell_id


def test_answers_to_cells_become_words():
    assert of("dense").plain.batch_norm == "needed"
    assert of("dense").plain.unless == "`batch_norm: 0`"
    assert {each.preset: each.batch_norm for each in of("dense").variants}["fed_dafl"] == "any"
    assert of("trajectory_matching").plain.batch_norm == "refused"
    assert of("local").mixed == "yes"
    assert of("collabdm").mixed == "yes, with `embedding` and `student.model`"
    assert of("fedavg").mixed == "no"
    assert of("fedlmg").plain.privileges == (
        "images of the clients' own data set, which no client holds",
        "clients tell which classes every client holds",
    )


def test_settings_inside_others_have_dotted_names_and_the_values_of_presets():
    known = {setting.name: setting for setting in of("single_image").settings}
    assert known["selection.prune_share"].default == 0.5
    assert known["selection.prune_share"].presets == {"reference": 0.9}
    assert known["selection.prune_share"].source == "S1's ablation on CIFAR-10"
    assert known["rounds"].presets == {}


class Inner(Settings):
    """Settings of a test."""

    plain: int = 1  # here
    broken: str = "a"  # the first
    none: int | None = None


class Outer(Inner):
    """Settings that inherit."""

    plain: int = 2  # there


def test_sources_are_the_comments_at_the_lines():
    assert comments(Inner) == {"plain": "here", "broken": "the first", "none": ""}
    assert comments(Outer)["plain"] == "there"
    assert comments(Outer)["broken"] == "the first"


def test_a_class_without_a_source_file_has_no_sources():
    space = {"MethodConfig": MethodConfig}
    exec("class Typed(MethodConfig):\n    mu: int = 1  # mine", space)
    assert comments(space["Typed"]).get("mu", "") == ""


def test_notes_of_presets_are_the_lines_above_them():
    notes = preset_notes(METHODS.get("single_image"))
    assert re.match("S1's headline runs .* hold-outs", notes["reference"])
    assert preset_notes(METHODS.get("local")) == {}
