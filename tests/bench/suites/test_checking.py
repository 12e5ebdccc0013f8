"""A wrong suite file: every fault at once, each with the line that brings it in."""

from pathlib import Path

import pytest

from fedbench.bench.suites.checking import check
from fedbench.bench.suites.suite import read_suite
from fedbench.errors import SettingsError

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
#: Suites whose committed board has a profile of its own.
PUBLISHED = ("digits", "mnist", "fashion_mnist", "cifar10")
WRONG = """\
name: wrong
titel: x
seeds: 1
seeds: 2
fixed:
  dataset: digits
  partition: {scheme: iid, shards: 3}
  recipe: {lr: -1, epoch: 3}
  model: {name: convnt, width: 3}
axes:
  beta: 0.1
  clients: [0, 5]
  method:
    - centralised
    - fedavgg
    - {name: fedavg, preset: oneshot}
    - {name: fedavg, roundz: 3, rounds: 0}
exclude:
  - {when: {method: loca}, reason: x}
profiles:
  smoke:
    fixed: {student: {epochs: x}}
    sedes: 3
  big:
    fixed: {model: {name: resnet8, depth: 4}}
    axes: {dataset: [mnst, cifar10]}
"""


@pytest.fixture
def checked(tmp_path):
    """Check a text and return (line, column, place, message, harmless) of each problem."""

    def run(text):
        path = tmp_path / "suite.yaml"
        path.write_text(text)
        return [
            (
                problem.mark.line,
                problem.mark.column,
                problem.place,
                problem.message,
                problem.harmless,
            )
            for problem in check(path).problems
        ]

    return run


def test_every_fault_is_found_at_once_with_its_place(checked):
    found = checked(WRONG)
    assert [item[:3] for item in found] == [
        (2, 1, "titel"),
        (4, 1, "seeds"),
        (7, 28, "fixed.partition.shards"),
        (8, 12, "fixed.recipe.lr"),
        (8, 20, "fixed.recipe.epoch"),
        (9, 11, "fixed.model.name"),
        (11, 3, "axes.beta"),
        (12, 13, "axes.clients[0]"),
        (15, 7, "axes.method[1]"),
        (16, 7, "axes.method[2]"),
        (17, 22, "axes.method[3].roundz"),
        (17, 33, "axes.method[3].rounds"),
        (22, 23, "profiles.smoke.fixed.student.epochs"),
        (23, 5, "profiles.smoke.sedes"),
        (25, 36, "profiles.big.fixed.model.depth"),
        (26, 22, "profiles.big.axes.dataset[0]"),
    ]
    messages = "\n".join(item[3] for item in found)
    for words in (
        "did you mean 'title'",
        "stands here twice, first in line 3",
        "unknown key 'shards'; scheme 'iid' takes: scheme, clients, validation",
        "greater than 0 (got -1)",
        "did you mean 'epochs'",
        "did you mean 'convnet'",
        "has to be a list; write [...] (got 0.1)",
        "did you mean 'fedavg'",
        "did you mean 'one_shot'",
        "did you mean 'rounds'",
        "did you mean 'seeds'",
        "model 'resnet8' takes no 'depth'",
        "did you mean 'mnist'",
    ):
        assert words in messages


RIGHT = """\
name: right
fixed: {dataset: digits, model: {name: convnet, width: 4}}
axes:
  beta: [0.1, 0.5]
  method: [local, {name: fedavg, preset: one_shot}]
exclude:
EXCLUSIONS
profiles:
  quick: {seeds: 1}
"""


@pytest.mark.parametrize(
    ("when", "place", "words", "harmless"),
    [
        ("{method: loca}", "exclude[0].when.method", "did you mean 'local'", True),
        ("{beta: 0.2}", "exclude[0].when.beta", "there are: 0.1, 0.5", True),
        ("{betta: 0.1}", "exclude[0].when.betta", "no setting 'betta'", False),
        ("{seed: [7, 8]}", "exclude[0].when.seed", "no combination has [7, 8]", True),
    ],
)
def test_an_exclusion_that_never_matches(checked, when, place, words, harmless):
    found = checked(RIGHT.replace("EXCLUSIONS", f"  - {{when: {when}, reason: r}}"))
    assert [item[2] for item in found] == [place]
    assert found[0][0] == 7
    assert words in found[0][3]
    assert found[0][4] is harmless


@pytest.mark.parametrize("value", ["1e-1", "'0.1'", "0.10", "[1E-1]"])
def test_numbers_match_however_they_are_written(checked, value):
    assert checked(RIGHT.replace("EXCLUSIONS", f"  - {{when: {{beta: {value}}}, reason: r}}")) == []


def test_truth_values_match_no_numbers(checked):
    (found,) = checked(RIGHT.replace("EXCLUSIONS", "  - {when: {seed: false}, reason: r}"))
    assert "no combination has False" in found[3]


def test_an_exclusion_whose_parts_never_meet_and_one_that_works(checked, tmp_path):
    text = RIGHT.replace(
        "EXCLUSIONS",
        "  - {when: {method: local, method.rounds: 1}, reason: never}\n"
        "  - {when: {method.rounds: 1, beta: 0.1}, reason: too short}",
    )
    assert [(item[0], item[3]) for item in checked(text)] == [(7, "this exclusion never matches")]
    assert check(tmp_path / "suite.yaml").cells == {"quick": (3, 0, 1)}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: x\nfixed: {a: [1, 2}\n", 2, "not YAML: while parsing a flow sequence"),
        ("name: x\n? [a, b]\n: 1\n", 2, "not YAML: .*unhashable key"),
        ("- 1\n", 1, "a suite is a mapping"),
        ("", 1, "a suite is a mapping"),
        ("title: none\n", 1, "is needed and not there"),
        ("name: x\nprofiles:\n  a: {seeds: 1}\nprofile: b\n", 4, "there is no profile 'b'"),
        ("name: x\naxes:\n  beta: []\n", 3, "at least 1 item"),
        ("name: x\naxes:\n  beta: [1]\n  partition.beta: [2]\n", 2, "are the same axis"),
        ("name: x\nfixed: {method: local, budget: {ipc: 1, pixels: 2}}\n", 2, "not by both"),
        ("name: x\nfixed: {dataset: digits}\n", 1, "method: is needed and not there"),
        ("name: x\nname: y\n", 2, "first in line 1"),
    ],
)
def test_one_fault(checked, text, line, words):
    import re

    found = checked(text)
    assert any(item[0] == line and re.search(words, item[3]) for item in found), found


def test_a_profile_is_named_where_only_some_are_wrong(checked):
    text = RIGHT.replace("EXCLUSIONS", "  []").replace(
        "quick: {seeds: 1}",
        "quick: {fixed: {partition: {scheme: iid}}}\n  good: {seeds: 1}",
    )
    found = checked(text)
    assert [item[:3] for item in found] == [(4, 10, "axes.beta[0]"), (4, 15, "axes.beta[1]")]
    assert all(item[3].endswith("(profile quick)") for item in found)


def test_keys_that_are_merged_keep_their_own_places(checked):
    found = checked(
        "name: x\n"
        "fixed:\n"
        "  recipe: &base {lr: -1, epochs: 3}\n"
        "  student: {<<: *base, epochs: -2}\n"
        "  method: local\n"
        "profiles: {quick: {}}\n"
    )
    assert [item[:3] for item in found] == [
        (3, 18, "fixed.recipe.lr"),
        (3, 18, "fixed.student.lr"),
        (4, 24, "fixed.student.epochs"),
    ]


def test_a_sweep_says_the_same_of_the_form(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(WRONG)
    with pytest.raises(SettingsError) as error:
        read_suite(path)
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"{path}:2:1: titel: unknown key 'titel'")
    assert len(lines) == 4


IDLE = """\
name: idle
profile: small
fixed: {data: {name: digits}, budget: {pixels: 6144}, partition: {clients: 3}}
axes:
  method:
    - {name: single_image, image: noise, crops: 20, selected: 10, selection: {cluster: full, clusters: 5}}
    - {name: single_image, image: noise, crops: 21, selected: 10, selection: {cluster: full, clusters: 5}}
    - {name: single_image, image: noise, crops: 20, selected: 10}
    - {name: single_image, image: noise, preset: reference, crops: 100, selected: 10, selection: {clusters: 5}}
profiles:
  small: {}
  large:
    axes:
      method:
        - {name: single_image, image: noise, selected: 50, selection: {cluster: mini_batch, clusters: 5}}
"""  # noqa: E501


def test_what_a_method_warns_of_has_its_line_and_does_no_harm(checked):
    """Half of the crops are pruned, so 20 are needed for 10; the reference preset means it."""
    small, large = checked(IDLE)
    assert small[:3] == (6, 79, "axes.method[0].selection.cluster")
    assert "`cluster` full does nothing: with selected = 10 the pruning needs 20" in small[3]
    assert "set crops above 20, or cluster to none (profile small)" in small[3]
    assert large[:3] == (15, 72, "profiles.large.axes.method[0].selection.cluster")
    assert "needs 100 crops, and the bank has 100" in large[3]
    assert small[4]
    assert large[4]


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_committed_suite_is_right_and_has_four_sizes(path):
    found = check(path)
    assert not found.problems
    board = {"published"} if path.stem in PUBLISHED else set()
    assert {*found.cells} == {"smoke", "quick", "standard", "paper"} | board


@pytest.mark.parametrize(
    "path", sorted(BENCHMARKS.glob("paper/*.yaml")), ids=lambda path: path.stem
)
def test_every_suite_of_a_paper_is_right_and_has_a_scaled_version(path):
    found = check(path)
    assert not found.problems
    assert {"smoke", "quick", "paper"} <= set(found.cells)
    assert all(skipped == 0 for _, skipped, _ in found.cells.values())


@pytest.mark.parametrize(
    "path", sorted(BENCHMARKS.glob("studies/*.yaml")), ids=lambda path: path.stem
)
def test_every_study_is_right_and_has_two_sizes(path):
    found = check(path)
    assert not found.problems
    assert {"smoke", "quick"} <= set(found.cells)
    assert all(skipped == 0 for _, skipped, _ in found.cells.values())
