from pathlib import Path

import pytest

from fedbench.bench.suites.plan import expand, to_file
from fedbench.bench.suites.planfile import read_plan, write_plan
from fedbench.bench.suites.suite import Suite, merge, nest, read_suite
from fedbench.errors import SettingsError
from fedbench.methods import METHODS
from fedbench.settings import validate

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SMALL = {
    "name": "small",
    "seeds": 2,
    "profile": "tiny",
    "fixed": {"data": {"name": "digits"}, "models": {"name": "convnet", "width": 8}},
    "axes": {"partition.beta": [0.1, 0.5], "method": ["local", {"name": "fedavg", "rounds": 2}]},
    "profiles": {
        "tiny": {"fixed": {"recipe": {"epochs": 1}}},
        "one": {"axes": {"method": ["local"]}, "seeds": 1},
    },
}


def suite(**over):
    return validate(Suite, {**SMALL, **over})


def test_a_plan_is_every_combination_with_its_profile():
    cells = expand(suite().sized()).cells
    assert len(cells) == 8
    assert {
        (entry.cell.partition.beta, entry.cell.method.name, entry.cell.seed) for entry in cells
    } == {(b, m, s) for b in (0.1, 0.5) for m in ("local", "fedavg") for s in (0, 1)}
    assert all(entry.cell.recipe.epochs == 1 and entry.cell.models[0].width == 8 for entry in cells)


def test_a_profile_replaces_axes_and_seeds():
    assert len(expand(suite().sized("one")).cells) == 2
    assert len(expand(suite().sized("one"), seeds=3).cells) == 6


SHARING = {
    "method": [
        "centralised",
        "fedprox",
        {"name": "fedavg", "preset": "one_shot"},
        "local",
        {"name": "fedavg", "rounds": 3, "epochs": 1},
    ]
}


def test_producers_come_first_and_one_seed_after_another():
    cells = expand(suite(axes=SHARING).sized()).cells
    names = [(entry.cell.method.name, entry.cell.seed) for entry in cells]
    # Of three that begin alike, one-shot FedAvg stands first in the file, and none is shorter.
    alone, late = ["centralised", "fedprox"], ["local", "fedavg"]
    assert names == [
        ("fedavg", 0),
        *((name, 0) for name in alone),
        ("fedavg", 1),
        *((name, 0) for name in late),
        *((name, 1) for name in alone),
        *((name, 1) for name in late),
    ]
    assert cells[0].cell.method.preset == "one_shot"


def test_a_producer_is_the_shortest_of_those_that_share():
    axes = {"method": [{"name": "fedavg", "rounds": 3, "epochs": 1}, "ensemble"]}
    cells = expand(suite(axes=axes, seeds=1).sized()).cells
    assert [entry.cell.method.name for entry in cells] == ["ensemble", "fedavg"]
    assert cells[0].trainings == cells[1].trainings
    assert cells[1].passes == 3 * cells[0].passes


def test_a_skipped_cell_produces_nothing():
    two = ["convnet", "resnet8"]
    cells = expand(suite(fixed={"models": two}, axes={"method": ["fedavg", "local"]}).sized()).cells
    assert {entry.cell.method.name: bool(entry.skip) for entry in cells} == {
        "fedavg": True,
        "local": False,
    }
    assert {bool(entry.trainings) for entry in cells if entry.skip} == {False}


def test_exclusions_leave_out_and_equal_cells_are_merged():
    left = suite(
        exclude=[{"when": {"method.name": "local", "partition.beta": 0.1}, "reason": "known"}]
    )
    assert len(expand(left.sized()).cells) == 6
    twice = suite(axes={"method": ["fedavg", {"name": "fedavg", "rounds": 20}]})
    assert len(expand(twice.sized()).cells) == 2


def test_excluded_combinations_are_listed_with_their_reason_and_need_not_be_valid():
    axes = {"beta": [0.1, -1], "method": ["local", {"name": "fedavg", "preset": "one_shot"}]}
    found = expand(
        suite(
            axes=axes,
            exclude=[
                {"when": {"beta": -1}, "reason": "no such thing"},
                # A preset's value, which no axis has.
                {"when": {"method.rounds": [1, 2], "dataset": "digits"}, "reason": "too short"},
            ],
        ).sized()
    )
    assert [entry.cell.method.name for entry in found.cells] == ["local", "local"]
    assert [(item.reason, item.values["seed"]) for item in found.excluded] == [
        ("too short", 0),
        *[("no such thing", 0)] * 2,
        ("too short", 1),
        *[("no such thing", 1)] * 2,
    ]
    assert found.excluded[1].values == {"beta": -1, "method": "local", "seed": 0}


def test_a_plan_keeps_what_it_was_made_of(tmp_path):
    sized = suite(exclude=[{"when": {"method": "local", "beta": 0.1}, "reason": "known"}]).sized()
    over = [nest("recipe.lr", 1), nest("recipe.momentum", 0.5)]
    found = expand(sized, overrides=over)
    written = to_file(sized, found.cells, found.excluded, over)
    write_plan(tmp_path / "plan.json", written)
    assert read_plan(tmp_path / "plan.json") == written
    assert written.overrides == {"recipe": {"lr": 1, "momentum": 0.5}}
    assert {item.reason for item in written.excluded} == {"known"}
    assert {len(entry.trainings) for entry in written.cells} == {5}
    # A plan of an older version has none of these.
    (tmp_path / "old.json").write_text(
        '{"suite": "s", "title": "", "profile": "p",'
        ' "cells": [{"cell_id": "x", "skip": null, "settings": {}}]}'
    )
    old = read_plan(tmp_path / "old.json")
    assert (old.cells[0].trainings, old.cells[0].passes, old.excluded) == ((), None, ())


def test_short_names_stand_for_places():
    short = suite(
        fixed={"dataset": "digits", "clients": 3, "model": {"name": "convnet", "width": 8}},
        axes={"beta": [0.1], "method": ["local"]},
    )
    long = suite(
        fixed={
            "data": {"name": "digits"},
            "partition": {"clients": 3},
            "models": {"name": "convnet", "width": 8},
        },
        axes={"partition.beta": [0.1], "method.name": ["local"]},
    )
    assert [entry.cell_id for entry in expand(short.sized()).cells] == [
        entry.cell_id for entry in expand(long.sized()).cells
    ]
    # A profile's axis takes the place of the suite's, however either is written.
    one = suite(axes={"beta": [0.1]}, profiles={"tiny": {"axes": {"partition.beta": [1, 2]}}})
    assert list(one.sized().axes) == ["partition.beta"]
    with pytest.raises(SettingsError, match="are the same axis"):
        suite(axes={"beta": [1], "partition.beta": [2]})


def test_seeds_can_be_named():
    named = suite(axes={"seed": [3, 7], "method": ["local"]})
    assert [entry.cell.seed for entry in expand(named.sized()).cells] == [3, 7]
    with pytest.raises(SettingsError, match="names its seeds"):
        expand(named.sized(), seeds=3)
    counted = suite(axes={"seed": [3, 7], "method": ["local"]}, profiles={"tiny": {"seeds": 1}})
    assert [entry.cell.seed for entry in expand(counted.sized()).cells] == [0]


def test_a_cell_that_cannot_run_is_skipped_with_its_reason():
    cells = expand(suite(fixed={"models": "vgg16", "data": {"name": "digits"}}).sized()).cells
    assert all("at least 17x17" in entry.skip for entry in cells)


def test_overrides_lie_over_every_cell():
    cells = expand(suite().sized(), overrides=[nest("recipe.epochs", 7)]).cells
    assert {entry.cell.recipe.epochs for entry in cells} == {7}


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"axis": {}}, "did you mean 'axes'"),
        ({"profiles": {"a": {"fixd": {}}}}, "did you mean 'fixed'"),
        ({"name": "Bad Name"}, "name"),
        ({"name": "cache"}, "name.*'cache' is a folder of fedbench itself"),
        ({"seeds": 0}, "seeds"),
        ({"fixed": {"seed": 3}}, r"fixed: .*axes: \{seed: \[3\]\}"),
        ({"profiles": {"a": {"fixed": {"seed": 3}}}}, r"seed: \[3\]"),
        ({"exclude": [{"when": {}, "reason": "all"}]}, "when"),
        ({"seeds": 1_000_000_000}, "seeds"),
        ({"name": "x" * 300}, "name"),
    ],
)
def test_a_wrong_suite_names_the_place(tmp_path, over, words):
    import yaml

    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **over}))
    with pytest.raises(SettingsError, match=words) as error:
        read_suite(path)
    assert str(path) in str(error.value)


def test_a_suite_of_too_many_combinations_is_refused_before_they_are_made():
    axes = {f"recipe.x{n}": [*range(100)] for n in range(3)}
    with pytest.raises(SettingsError, match="has 2,000,000 combinations, more than 100,000"):
        next(suite(axes=axes).sized().combinations())


@pytest.mark.parametrize("name", ["run", "cache", "artefacts", "reproduced", "partitions"])
def test_a_suite_cannot_have_the_name_of_another_folder(name):
    with pytest.raises(SettingsError, match="choose a name other than"):
        suite(name=name)
    assert suite(name=f"{name}2").name == f"{name}2"


def test_a_wrong_combination_is_shown_whole():
    with pytest.raises(SettingsError, match=r'"beta": -1.*greater than 0'):
        expand(suite(axes={"partition.beta": [-1], "method": ["local"]}).sized())


def test_an_unknown_profile_is_named():
    with pytest.raises(SettingsError, match="did you mean 'tiny'"):
        suite().sized("tini")


@pytest.mark.parametrize(("content", "words"), [("a: [", "not YAML"), ("- 1", "no settings")])
def test_what_is_no_suite_is_refused(tmp_path, content, words):
    (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(SettingsError, match=words):
        read_suite(tmp_path / "s.yaml")
    with pytest.raises(SettingsError, match="there is no suite file"):
        read_suite(tmp_path / "none.yaml")


def test_merging_keeps_what_is_not_named_and_forgets_another_things_settings():
    base = {"method": {"name": "fedavg", "rounds": 3}, "recipe": {"lr": 1, "epochs": 2}}
    merged = merge(base, {"method": {"name": "local"}, "recipe": {"epochs": 5}})
    assert merged == {"method": {"name": "local"}, "recipe": {"lr": 1, "epochs": 5}}
    assert base["recipe"]["epochs"] == 2


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", ["smoke", "quick", "standard", "paper"])
def test_every_committed_suite_plans_in_every_profile(path, profile):
    cells = expand(read_suite(path).sized(profile)).cells
    assert cells
    # What is skipped could only be at a budget that its public images do not reach.
    reasons = {entry.skip for entry in cells if entry.skip}
    assert all("enlarging" in reason or "the budget is" in reason for reason in reasons)


def test_the_default_suite_has_every_method():
    cells = expand(read_suite(BENCHMARKS / "digits.yaml").sized()).cells
    assert {entry.cell.method.name for entry in cells} == set(METHODS.names())


def test_a_parameter_of_another_scheme_is_an_error_and_stands_beside_its_scheme():
    axes = {"method": ["local"], "scheme": ["dirichlet", "iid"], "beta": [0.5]}
    with pytest.raises(SettingsError, match=r"unknown key 'beta'.*scheme 'iid' takes: scheme,"):
        expand(suite(axes=axes).sized())
    left = {"when": {"scheme": "iid", "beta": 0.5}, "reason": "iid has no beta"}
    assert len(expand(suite(axes=axes, exclude=[left]).sized()).cells) == 2
    beside = [{"scheme": "dirichlet", "beta": 0.1}, {"scheme": "iid"}]
    cells = expand(suite(axes={"method": ["local"], "partition": beside}).sized("one")).cells
    assert [entry.cell.partition.scheme for entry in cells] == ["dirichlet", "iid"]


def test_an_exclusion_by_a_number_in_scientific_notation_acts(tmp_path):
    """YAML 1.1 reads `1e-3` as text."""
    path = tmp_path / "suite.yaml"
    path.write_text(
        "name: small\n"
        "seeds: 1\n"
        "fixed: {method: local}\n"
        "axes: {recipe.lr: [1e-3, 1e-2]}\n"
        "exclude: [{when: {recipe.lr: 1e-3}, reason: slow}]\n"
    )
    found = expand(read_suite(path).sized())
    assert [entry.cell.recipe.lr for entry in found.cells] == [0.01]
    assert [one.values["recipe.lr"] for one in found.excluded] == [0.001]
