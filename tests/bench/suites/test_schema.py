"""The schema that editors use: current, right for our suites, and strict."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from fedbench.bench.suites.schema import schema_text, suite_schema
from fedbench.data.schemes import SCHEMES
from fedbench.data.specs import DATASETS
from fedbench.methods import METHODS
from fedbench.models.families import MODELS

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SCHEMA = suite_schema()
CHECK = jsonschema.Draft202012Validator(SCHEMA)
SUITES = sorted(BENCHMARKS.glob("**/*.yaml"))


def test_the_committed_schema_is_current():
    committed = (BENCHMARKS / "suite.schema.json").read_text()
    assert committed == schema_text(), "run: fedbench schema > benchmarks/suite.schema.json"
    CHECK.check_schema(json.loads(committed))


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_satisfies_it_and_names_it(path):
    text = path.read_text()
    CHECK.validate(yaml.safe_load(text))
    depth = len(path.relative_to(BENCHMARKS).parts) - 1
    assert text.startswith(f"# yaml-language-server: $schema={'../' * depth}suite.schema.json\n")


@pytest.mark.parametrize(
    "change",
    [
        {"titel": "x"},
        {"axes": {"method": ["fedavgg"]}},
        {"axes": {"method": [{"name": "fedavg", "preset": "oneshot"}]}},
        {"axes": {"method": [{"name": "local", "rounds": 3}]}},
        {"axes": {"beta": 0.1}},
        {"axes": {"beta": [0]}},
        {"axes": {"beta": []}},
        {"axes": {"betta": [1]}},
        {"axes": {"dataset": ["mnst"]}},
        {"axes": {"method.rounds": [0]}},
        {"axes": {"scheme": ["dirichlett"]}},
        {"fixed": {"model": "convnt"}},
        {"fixed": {"partition": {"scheme": "idd"}}},
        {"fixed": {"partition": {"scheme": "iid", "beta": 0.1}}},
        {"fixed": {"partition": {"beta": 0}}},
        {"fixed": {"recipe": {"epoch": 3}}},
        {"profiles": {"a": {"fixed": {"seed": -1}}}},
        {"profiles": {"a": {"seeds": 0}}},
        {"exclude": [{"when": {"method": "local"}}]},
        {"exclude": [{"when": {"metod": "local"}, "reason": "x"}]},
    ],
    ids=json.dumps,
)
def test_it_refuses(change):
    suite = yaml.safe_load((BENCHMARKS / "digits.yaml").read_text())
    CHECK.validate(copy.deepcopy(suite))
    with pytest.raises(jsonschema.ValidationError):
        CHECK.validate({**suite, **change})


def test_it_takes_all_that_the_registries_know():
    axes = {
        "dataset": [*DATASETS.names(), {"name": "digits", "train_size": 50}],
        "data.name": DATASETS.names(),
        "scheme": SCHEMES.names(),
        "model": [*MODELS.names(), ["convnet", "resnet8"], {"name": "convnet", "width": 3}],
        "model.width": [3],
        "method": [
            *METHODS.names(),
            *(
                {"name": name, "preset": preset}
                for name in METHODS.names()
                for preset in METHODS.get(name).presets
            ),
        ],
        "method.rounds": [3],
        "method.mu": [0.1],
        "budget": [{"ipc": 3}, {"pixels": 100, "scope": "per_client"}],
        "seed": [3, 4],
        "recipe.milestones": [[0.5, 0.7]],
    }
    CHECK.validate({"name": "all", "axes": axes, "fixed": {"dataset": "digits", "clients": 3}})
