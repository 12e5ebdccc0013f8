import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbench.config import Cell, identity, parse
from fedbench.data.schemes import SCHEMES, Iid
from fedbench.data.settings import Data, Partition
from fedbench.data.specs import DATASETS
from fedbench.errors import SettingsError
from fedbench.methods import METHODS
from fedbench.models.families import MODELS
from fedbench.models.settings import Model
from fedbench.settings import validate
from fedbench.training.recipe import Recipe, Student

GOLDEN = Path(__file__).parent / "golden" / "defaults.json"


def defaults():
    """Return the defaults and version of every part that a cell id hashes."""
    from fedbench.config import Budget, Evaluation
    from fedbench.settings import Settings

    def of(kind: type[Settings]):
        return {
            name: field.get_default(call_default_factory=True)
            for name, field in kind.model_fields.items()
            if not field.is_required()
        }

    parts = {
        kind.__name__: {"version": kind.version, "defaults": of(kind)}
        for kind in (Data, Model, Recipe, Student, Budget, Evaluation)
    }
    parts["Partition"] = {"version": Partition.version, "defaults": {}}
    parts["Cell"] = {
        "version": Cell.version,
        "defaults": {name: value for name, value in of(Cell).items() if name != "models"},
    }
    for name in METHODS.names():
        method = METHODS.get(name)
        parts[f"method {name}"] = {
            "version": method.version,
            "defaults": of(method.Config),
            "presets": method.presets,
        }
    for name in DATASETS.names():
        spec = DATASETS.get(name)
        parts[f"data set {name}"] = {
            "version": spec.version,
            "defaults": {"mean": spec.mean, "std": spec.std, "augment": spec.augment},
        }
    for name in SCHEMES.names():
        scheme = SCHEMES.get(name)
        parts[f"scheme {name}"] = {
            "version": scheme.version,
            "defaults": {**of(scheme.settings), "function": scheme.function},
        }
    for name in MODELS.names():
        parts[f"model {name}"] = {
            "version": MODELS.get(name).version,
            "defaults": dict(MODELS.get(name).options),
        }
    return json.loads(
        json.dumps(
            parts,
            default=lambda value: (
                value.model_dump(mode="json") if hasattr(value, "model_dump") else dict(value)
            ),
        )
    )


def test_a_default_changes_only_with_its_version():
    """When this fails: raise the part's version, then run `python tests/test_config.py`."""
    golden, now = json.loads(GOLDEN.read_text()), defaults()
    for name, part in now.items():
        assert name in golden, f"{name} is new: run `python tests/test_config.py`"
        if part != golden[name]:
            assert part["version"] > golden[name]["version"], f"raise the version of {name}"
            pytest.fail(f"{name} has a new version: run `python tests/test_config.py`")
    assert golden.keys() == now.keys()


def test_ids_do_not_drift():
    """The id of a plain cell: a change recomputes everybody's results, so it must be meant."""
    assert parse({"method": "fedavg"}).cell_id == json.loads(
        GOLDEN.with_name("cell_id.json").read_text()
    )


PLACES = [
    {"data": {"name": "digits", "train_size": 100}},
    {"recipe": {"lr": 0.5}},
    {"partition": {"beta": 0.1}},
    {"seed": 3},
    {"precision": "bf16-mixed"},
]


@given(st.permutations(PLACES))
def test_the_id_does_not_depend_on_the_order_of_keys(order):
    tree = {"method": {"name": "fedavg", "rounds": 3}}
    for part in order:
        tree = {**part, **tree}
    assert parse(tree).cell_id == parse(dict(reversed(tree.items()))).cell_id


def test_defaults_written_out_or_left_out_are_the_same_cell():
    short = parse({"method": "fedavg"})
    full = parse(short.model_dump(mode="json"))
    assert full == short
    assert full.cell_id == short.cell_id
    assert (
        parse({"method": "fedavg", "models": {"name": "convnet", "width": 128}}).cell_id
        == short.cell_id
    )
    assert parse({"method": "fedavg", "recipe": {"lr": 0.01}}).cell_id == short.cell_id


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"precision": "bf16-mixed"},
        {"participation": 0.5},
        {"models": "resnet8"},
        {"recipe": {"lr": 0.02}},
        {"partition": {"beta": 0.4}},
        {"data": {"name": "mnist"}},
        {"method": {"name": "fedavg", "rounds": 3}},
        {"method": "ensemble"},
        {"evaluation": {"ece_bins": 10}},
    ],
)
def test_every_setting_that_changes_results_changes_the_id(change):
    assert parse({"method": "fedavg", **change}).cell_id != parse({"method": "fedavg"}).cell_id


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"evaluation": {"ece_bins": 1_000_000_000}}, "evaluation.ece_bins: .*10000.*1000000000"),
        (
            {"partition": {"scheme": "dirichlet_per_client", "sigma": 2000}},
            r"sigma: .*less than or equal to 100 \(got 2000\)",
        ),
    ],
)
def test_what_would_take_all_memory_or_overflow_is_refused_with_its_bound(settings, words):
    with pytest.raises(SettingsError, match=words):
        parse({"method": "fedavg", **settings})


def test_only_what_a_method_uses_is_part_of_its_id():
    def cell_id(method, **settings):
        return parse({"method": method, **settings}).cell_id

    for settings in ({"student": {"epochs": 3}}, {"budget": {"ipc": 3}}):
        assert cell_id("fedavg", **settings) == cell_id("fedavg")
        assert cell_id("random_real", **settings) != cell_id("random_real")


def test_a_preset_is_a_label():
    preset = parse({"method": {"name": "fedavg", "preset": "one_shot"}})
    spelled = parse({"method": {"name": "fedavg", "rounds": 1, "epochs": None}})
    assert preset.method.rounds == 1
    assert preset.cell_id == spelled.cell_id
    over = parse({"method": {"name": "fedavg", "preset": "one_shot", "epochs": 7}})
    assert (over.method.rounds, over.method.epochs) == (1, 7)


def test_a_resolved_cell_with_a_preset_parses_to_itself():
    cell = parse({"method": {"name": "fedavg", "preset": "one_shot", "rounds": 20}})
    assert parse(cell.model_dump(mode="json")) == cell


@pytest.mark.parametrize("part", ["scheme", "reader", "method", "models"])
def test_a_raised_version_is_another_id(monkeypatch, part):
    cell = parse({"method": "fedavg"})
    before = cell.cell_id
    thing = {
        "scheme": SCHEMES.get("dirichlet_capped"),
        "reader": DATASETS.get("digits"),
        "method": METHODS.get("fedavg"),
        "models": MODELS.get("convnet"),
    }[part]
    if part == "method":
        monkeypatch.setattr(thing, "version", 99)
    else:
        object.__setattr__(thing, "version", 99)
    try:
        assert cell.cell_id != before
    finally:
        if part != "method":
            object.__setattr__(thing, "version", 1)
    assert identity(cell)["versions"]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"metod": "fedavg"}, ["'metod'", "did you mean 'method'"]),
        ({"method": "fedavgg"}, ["'fedavgg'", "did you mean 'fedavg'"]),
        ({"method": {"name": "fedavg", "round": 3}}, ["'round'", "did you mean 'rounds'"]),
        ({"method": {"name": "fedavg", "preset": "oneshot"}}, ["did you mean 'one_shot'"]),
        ({"method": "fedavg", "recipe": {"learning_rate": 1}}, ["recipe", "'learning_rate'"]),
        ({"method": "fedavg", "partition": {"betta": 1}}, ["did you mean 'beta'"]),
        (
            {"method": "fedavg", "partition": {"beta": -1}},
            ["partition.beta", "greater than 0", "-1"],
        ),
        (
            {"method": "fedavg", "partition": {"scheme": "iid", "beta": 0.1}},
            ["partition: unknown key 'beta'", "scheme 'iid' takes: scheme, clients, validation"],
        ),
        (
            {"method": "fedavg", "partition": {"scheme": "shards_fixed", "shard": 3}},
            ["'shard'", "did you mean 'shards'", "scheme 'shards_fixed' takes: "],
        ),
        ({"method": "fedavg", "partition": {"scheme": 3}}, ["partition.scheme", "not 3"]),
        ({"method": "fedavg", "partition": 3}, ["partition", "got 3"]),
        (
            {"method": "fedavg", "partition": {"scheme": "dirichlet_caped"}},
            ["did you mean 'dirichlet_capped'"],
        ),
        ({"method": "fedavg", "models": {"name": "convnet", "widht": 3}}, ["did you mean 'width'"]),
        ({"method": "fedavg", "models": {"name": "wrn16_4", "width": 3}}, ["takes no 'width'"]),
        ({"method": "fedavg", "models": "convnets"}, ["did you mean 'convnet'"]),
        ({"method": "fedavg", "budget": {}}, ["either `ipc` or `pixels`"]),
        ({"method": "fedavg", "budget": {"ipc": 1, "pixels": 1}}, ["either `ipc` or `pixels`"]),
        ({"method": "fedavg", "data": {"name": "cifar"}}, ["did you mean 'cifar10'"]),
        ({"method": "fedavg", "data": {"name": "folder"}}, ["needs `path`"]),
        ({"method": {"name": "fedavg", "validation": "poll"}}, ["partition.validation"]),
        ({"method": "fedavg", "models": ["convnet"] * 6}, ["6 models for 5 clients"]),
        ({"method": "fedavg", "partition": {"beta": float("inf")}}, ["partition.beta", "finite"]),
        ({"method": "fedavg", "partition": {"beta": True}}, ["beta is a number, not true"]),
        ({"method": "fedavg", "recipe": {"clip_norm": False}}, ["clip_norm is a number"]),
        ({}, ["method"]),
    ],
)
def test_errors_name_the_place_the_value_and_the_fix(tree, words):
    with pytest.raises(SettingsError) as error:
        parse(tree)
    for word in words:
        assert word in str(error.value)


def test_partial_settings_of_the_student_keep_the_students_own_defaults():
    cell = parse({"method": "fedavg", "student": {"epochs": 3}})
    assert (cell.student.batch_size, cell.student.schedule) == (256, "step")
    assert cell.student.weight_decay == 5e-4


def test_each_scheme_takes_its_own_parameters_and_no_others():
    for name in SCHEMES.names():
        cell = parse({"method": "fedavg", "partition": {"scheme": name}})
        assert type(cell.partition) is SCHEMES.get(name).settings
        assert parse(cell.model_dump(mode="json")) == cell
        shown = cell.model_dump(mode="json")["partition"].keys()
        common = {"scheme", "clients", "validation", "domains"}
        assert shown == common | SCHEMES.get(name).parameters


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Data().name = "mnist"


def test_models_are_spread_over_clients_in_blocks():
    cell = parse(
        {
            "method": "ensemble",
            "partition": {"clients": 20},
            "models": ["resnet8", "wrn16_4", "resnet20"],
        }
    )
    names = [cell.client_model(k).name for k in range(20)]
    assert [names.count(name) for name in ("resnet8", "wrn16_4", "resnet20")] == [7, 7, 6]
    assert names == sorted(names, key=["resnet8", "wrn16_4", "resnet20"].index)


def test_a_label_tells_architectures_apart():
    assert Model(name="convnet").label == "convnet"
    assert Model(name="convnet", width=32, norm="batch").label == "convnet-w32-batch"


def test_validate_works_for_any_settings():
    assert validate(Iid, {"clients": 3}).clients == 3


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(defaults(), indent=1, sort_keys=True) + "\n")
    GOLDEN.with_name("cell_id.json").write_text(
        json.dumps(parse({"method": "fedavg"}).cell_id) + "\n"
    )
