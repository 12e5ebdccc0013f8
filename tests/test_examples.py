"""Every example runs as its first lines say, and what it brings is listed and hashed."""

import json
import re
import shlex
from pathlib import Path

import pytest
from plugin_tables import forget_plugins
from typer.testing import CliRunner

from fedbench.bench.suites.plan import planned
from fedbench.cli.main import app
from fedbench.config import identity, parse
from fedbench.errors import SettingsError
from fedbench.testing import (
    DatasetProperties,
    MethodProperties,
    ModelProperties,
    SchemeProperties,
)

EXAMPLES = Path(__file__).parents[1] / "examples"

#: What makes the commands of the examples cheap.
CHEAP = "--clients 3 --train-size 120 --test-size 60 --epochs 1 --threads 1 --device cpu --offline"
CHEAP_IMAGES = "--set method.steps=2 --set method.crops=40 --set method.selected=20"

#: Of each example: what it is listed as, the options that make it cheap, and what the id names.
RUNS = {
    "own_method": (("methods", "median"), f"{CHEAP} --width 4", ["plugin"]),
    "own_model": (("models", "perceptron"), CHEAP, ["shared_plugins", "model perceptron"]),
    "own_dataset": (
        ("datasets", "shapes"),
        f"{CHEAP} --width 4 --rounds 1",
        ["shared_plugins", "data set shapes"],
    ),
    "own_resource": ((None, "owned"), f"{CHEAP} --width 4", ["plugins", "resource kind owned"]),
    "own_picture": (
        (None, "leaves"),
        f"{CHEAP} --width 4 {CHEAP_IMAGES}",
        ["plugins", "picture leaves"],
    ),
}


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    forget_plugins()


@pytest.fixture
def call(home, monkeypatch):
    monkeypatch.setenv("FEDBENCH_DATA", str(home / "none"))
    monkeypatch.setattr("fedbench.session.console.stdout.width", 300, raising=False)
    monkeypatch.chdir(EXAMPLES.parent)

    def run(*words):
        result = CliRunner().invoke(app, list(words))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return run


def command(name):
    """Return the words of the command in an example's first lines."""
    text = (EXAMPLES / f"{name}.py").read_text()
    (line,) = re.findall(r"^fedbench ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    return shlex.split(line.replace("\\\n", " "))


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*RUNS, "own_scheme"}


@pytest.mark.parametrize("name", ["own_scheme", *RUNS])
def test_an_example_is_short(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 60


@pytest.mark.parametrize("name", RUNS)
def test_an_example_runs_as_it_says(call, name):
    (listing, thing), cheap, path = RUNS[name]
    output = call(*command(name), *cheap.split(), "--json")
    record = json.loads(output[output.index("{") :])
    assert record["status"] == "ok", record["traceback"]
    found = record["versions"]
    for key in path:
        found = found[key]
    assert re.fullmatch("[0-9a-f]{64}", found)
    if listing:
        assert thing in call(listing, "--plugin", f"examples/{name}.py")


def test_the_schemes_example_draws_a_partition(call):
    output = call(*command("own_scheme"), "--offline", "--json")
    counts = [sum(row) for row in json.loads(output[output.index("{") :])["histogram"]]
    assert counts[0] == round(0.8 * sum(counts))
    assert max(counts[1:]) - min(counts[1:]) <= 1
    assert "one_large" in call("partitions", "--plugin", "examples/own_scheme.py")
    spread = {"scheme": "one_large", "share": 0.3}
    cell = parse({"method": "fedavg", "partition": spread})
    assert planned(cell).skip is None
    assert parse(cell.model_dump(mode="json")).cell_id == cell.cell_id
    with pytest.raises(SettingsError, match="share"):
        parse({"method": "fedavg", "partition": {**spread, "share": 2}})


def test_the_resources_example_says_what_it_costs_and_what_of_a_privilege_it_is(call):
    output = call(*command("own_resource"), *RUNS["own_resource"][1].split(), "--json")
    record = json.loads(output[output.index("{") :])
    assert record["resources"] == ["owned@50"]
    assert record["shared_pixels"] == 50 * 16 * 16
    assert record["privileges"] == [
        "50 of the clients' training images with their labels, at the server"
    ]
    assert record["data"]["resources"] == {}


def test_the_models_example_counts_as_student_where_there_is_one(call):
    call("models", "--plugin", "examples/own_model.py")
    student = {"student": {"model": "perceptron"}, "budget": {"ipc": 1}}
    cell, plain = (
        parse({"method": "random_real", **student}),
        parse({"method": "fedavg", **student}),
    )
    assert identity(cell)["versions"]["plugins"].keys() == {"model perceptron"}
    assert "plugins" not in identity(plain)["versions"]


class TestOwnMethod(MethodProperties):
    method, plugin = "median", "../examples/own_method.py"


class TestOwnResourcesMethod(MethodProperties):
    """The server holds images of the clients, which is declared as a privilege."""

    method, plugin, kills = "server_only", "../examples/own_resource.py", 3


class TestOwnPicture(MethodProperties):
    method, plugin, kills = "single_image", "../examples/own_picture.py", 2
    settings = {"image": "leaves", "steps": 2, "batch_size": 8, "crops": 30, "selected": 10}  # noqa: RUF012
    cell = {"budget": {"pixels": 64 * 96}}  # noqa: RUF012


class TestOwnModel(ModelProperties):
    model, plugin, parameters = "perceptron", "../examples/own_model.py", 197_322


class TestOwnDataset(DatasetProperties):
    dataset, plugin = "shapes", "../examples/own_dataset.py"


class TestDigits(DatasetProperties):
    """The built-in one that needs no file."""

    dataset = "digits"


class TestOwnScheme(SchemeProperties):
    scheme, plugin = "one_large", "../examples/own_scheme.py"
    settings = {"share": 0.6}  # noqa: RUF012


SUITE = """
name: own
fixed:
  data: {name: shapes, train_size: 90, test_size: 30}
  partition: {scheme: one_large, clients: 3}
  models: {name: perceptron, width: 8}
  recipe: {epochs: 1, batch_size: 16}
axes:
  method: [{name: fedavg, preset: one_shot}, median]
  seed: [0, 1]
"""


def test_a_sweep_of_ones_own_things_is_reported_without_and_reproduced_with_them(call, home):
    plugins = [f"examples/own_{name}.py" for name in ("method", "model", "dataset", "scheme")]
    options = [word for plugin in plugins for word in ("--plugin", plugin)]
    suite = home / "own.yaml"
    suite.write_text(SUITE)
    call("sweep", str(suite), *options, "--workers", "2", "--device", "cpu", "--offline")
    records = sorted((home / "own" / "records").glob("*.json"))
    found = [json.loads(path.read_text()) for path in records]
    assert [record["status"] for record in found] == ["ok"] * 4
    assert {len(record["versions"]["shared_plugins"]) for record in found} == {3}
    again = call("run", "--record", str(records[0]), *options, "--device", "cpu", "--offline")
    assert "agree" in again
    forget_plugins()
    report = call("report", "own")
    assert "median" in report
    assert "one_large" in report
