"""The command line as a user types it."""

import json
import re

import pytest
from typer.testing import CliRunner

from fedbench.bench.suites.suite import merge, nest
from fedbench.cli.main import app
from fedbench.config import parse
from fedbench.errors import FedbenchError, SettingsError

RUN = [
    "run",
    "--dataset",
    "digits",
    "--method",
    "fedavg",
    "--beta",
    "0.5",
    "--clients",
    "3",
    "--rounds",
    "2",
    "--epochs",
    "1",
    "--width",
    "4",
    "--train-size",
    "150",
    "--test-size",
    "50",
    "--device",
    "cpu",
    "--threads",
    "1",
    "--offline",
]


@pytest.fixture
def call(home, monkeypatch):
    monkeypatch.setenv("FEDBENCH_DATA", str(home / "none"))
    monkeypatch.setattr("fedbench.session.console.stdout.width", 300, raising=False)

    def run(*words, code=0):
        result = CliRunner().invoke(app, list(words))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output

    return run


def parsed(output):
    """Return the JSON object that ends an output; lines on standard error come before it."""
    return json.loads(output[output.index("{") :])


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("this must not train")

    def arm():
        monkeypatch.setattr("fedbench.bench.cells.cell.run_cell", refuse)

    return arm


def test_run_prints_its_record_and_the_second_time_does_not_train(call, home, no_training):
    first = call(*RUN)
    for word in ("accuracy", "bytes up", "bytes down", "clients", "server", "record"):
        assert word in first
    path = next((home / "run" / "records").glob("*.json"))
    assert str(path.name) in first
    no_training()
    again = call(*RUN)
    assert "force computes it again" in again
    assert [line for line in again.splitlines() if line.startswith("accuracy")] == [
        line for line in first.splitlines() if line.startswith("accuracy")
    ]


def test_force_computes_again_and_gives_the_same_numbers(call, home):
    one, two = (parsed(call(*RUN, "--json", *words)) for words in ([], ["--force"]))
    assert two["metrics"] == one["metrics"]
    assert two["wall_seconds"] != one["wall_seconds"]


def test_a_record_is_reproduced_and_a_false_one_is_found_out(call, home):
    call(*RUN)
    path = next((home / "run" / "records").glob("*.json"))
    assert "All numbers agree" in call("run", "--record", str(path))
    values = json.loads(path.read_text())
    values["metrics"]["accuracy"] += 0.01
    path.write_text(json.dumps(values))
    said = call("run", "--record", str(path), code=1)
    assert "1 values differ" in said
    assert "metrics.accuracy" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--dataset", "digits"], "no method is named"),
        (["run", "--method", "fedavgg"], "did you mean 'fedavg'"),
        (["run", "--method", "fedavg", "--set", "recipe.lrr=1"], "did you mean 'lr'"),
        (["run", "--method", "fedavg", "--set", "recipe.lr"], "is no assignment"),
        (["run", "--method", "fedavg", "--profile", "quick"], "name the suite"),
        (["run", "--method", "local", "--rounds", "3"], "'rounds'"),
        (["run", "--method", "random_real"], "budget"),
        (["run", "--record", "nowhere.json"], "no record"),
        (["run", "--record", "abc", "--beta", "0.1"], "partition.beta would change nothing"),
        (["run", "--record", "abc", "--set", "recipe.lr=1", "--json"], "set, json would change"),
        (["run", "--method", "fedavg", "--model", "vgg11"], "at least 17x17"),
        (["sweep", "nowhere.yaml"], "no suite file"),
        (["report", "nothing"], "no plan"),
        (["partition", "--scheme", "iidd"], "did you mean 'iid'"),
        (["partition", "--set", "recipe.lr=5"], "--set recipe: a partition depends on settings of"),
        (["partition", "--set", "seed=3"], "--set seed: .* on --seed alone"),
        (["sweep", "digits", "--set", "seed=4"], "seed = 4 cannot be laid over all cells"),
        (["report", "digits", "--only", "beta=0.1", "--pdf"], "--pdf would do nothing"),
        (["status", "digits", "--json", "--watch"], "drop one"),
    ],
)
def test_what_a_user_does_wrong_is_said_clearly(call, words, message):
    with pytest.raises(FedbenchError, match=message):
        call(*words)


def test_a_partition_is_named_by_the_data_that_it_is_of(call, home):
    said = call("partition", "--set", "data.name=mnist", "--set", "data.name=digits", "--json")
    assert json.loads(said)["dataset"] == "digits"


def test_an_error_is_one_message_and_exit_code_2(monkeypatch, capsys, home):
    from fedbench.cli.main import main

    monkeypatch.setattr("sys.argv", ["fedbench", "run", "--method", "fedavgg"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "fedavgg" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("kind", ["methods", "datasets", "models", "partitions"])
def test_lists_name_everything_as_table_and_as_json(call, kind):
    from fedbench.data.schemes import SCHEMES
    from fedbench.data.specs import DATASETS
    from fedbench.methods import METHODS
    from fedbench.models.families import MODELS

    names = {"methods": METHODS, "datasets": DATASETS, "models": MODELS, "partitions": SCHEMES}[
        kind
    ].names()
    found = json.loads(call(kind, "--json"))
    assert [entry["name"] for entry in found] == names
    assert all(entry["what"] for entry in found)
    table = call(kind)
    assert all(name in table for name in names)
    assert "<function" not in table


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setattr("fedbench.session.console.stdout.width", 4000, raising=False)


def test_a_method_shows_its_settings_as_they_are_written(call, wide):
    rows = {}
    for line in call("methods", "single_image").splitlines():
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        rows[cells[0]] = cells[1:]
    assert rows["selection.cluster"][:2] == ["none", "full"]
    assert rows["selection.cluster"][2] == "fedbench: as S1's headline runs act"
    assert rows["crops"][:3] == ["null", "50000", "S1: 50,000"]
    assert rows["step_schedule.by_size"][:2] == ["false", ""]
    assert not any("()" in cell for cells in rows.values() for cell in cells)


def test_a_method_says_who_sends_what_and_what_it_cannot_take(call, wide):
    said = call("methods", "deep_inversion")
    assert re.search("client → server +weights, once; classes seen or image counts", said)
    assert re.search("BatchNorm +needed, unless batch_norm: 0", said)
    assert "convnet has no BatchNorm" in said
    assert "preset fed_adi" in said
    assert said.rstrip().endswith("--model resnet8")
    assert re.search(r"rounds +20; one_shot: 1\s", call("methods", "fedavg"))
    assert "preset fedbench: the defaults" in call("methods", "local_dm")


def test_an_unknown_method_is_told_the_nearest(call):
    with pytest.raises(SettingsError, match="did you mean 'feddf'"):
        call("methods", "feddff")


def test_a_methods_page_as_json_is_its_facts(call):
    from fedbench.bench.facts import Facts, facts

    assert Facts.model_validate(json.loads(call("methods", "local", "--json"))) == facts("local")


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--method", "mine"],
        ["run", "--record", "mine.json"],
        ["sweep", "mine.yaml"],
        ["validate", "mine.yaml"],
        ["status", "mine"],
        ["show", "patches", "mine"],
        ["methods"],
        ["datasets"],
        ["models"],
        ["partitions"],
        ["partition"],
        ["data"],
        ["doctor"],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_whatever_may_name_a_plugins_things_loads_it_first(call, words):
    with pytest.raises(SettingsError, match=r"no plugin .*nowhere\.py"):
        call(*words, "--plugin", "nowhere.py")


@pytest.mark.parametrize("place", ["settings", "presets"])
def test_what_methods_show_can_be_set(call, place):
    """Every ``place=value`` of the table is what ``--set method.place=value`` takes."""
    import yaml

    from fedbench.cli.listing import assigned

    for entry in json.loads(call("methods", "--json")):
        parts = entry["presets"].values() if place == "presets" else [entry["settings"]]
        for settings in parts:
            tree = {}
            for word in filter(None, re.split(r", (?=[\w.]+=)", assigned(settings))):
                where, _, value = word.partition("=")
                tree = merge(tree, nest(f"method.{where}", yaml.safe_load(value)))
            method = {"name": entry["name"], **tree.get("method", {})}
            expected = {"name": entry["name"], **settings}
            partition = {"validation": 0.1}
            assert parse({"method": method, "partition": partition}) == parse(
                {"method": expected, "partition": partition}
            )


def test_partition_draws_a_table_and_a_heatmap(call, home, tmp_path):
    said = call(
        "partition",
        "--dataset",
        "digits",
        "--beta",
        "0.1",
        "--clients",
        "4",
        "--out",
        str(tmp_path / "p.svg"),
        "--offline",
    )
    assert "dirichlet_capped" in said
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    found = json.loads(call("partition", "--beta", "0.1", "--clients", "4", "--json"))
    assert len(found["histogram"]) == 4
    assert found["parameters"]["beta"] == 0.1


def test_data_says_what_is_missing_and_what_would_help(call):
    found = {entry["name"]: entry for entry in json.loads(call("data", "--json"))}
    assert found["digits"]["found"]
    assert not found["cifar10"]["found"]
    assert "accepted" in found["cifar10"]["help"]
    assert "to fetch" in call("data")


def test_data_fetches_what_is_missing_only(call, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "fedbench.data.download.download",
        lambda spec, root, progress: asked.append((spec.name, root.name)),
    )
    assert "here already" in call("data", "--fetch", "digits", "--fetch", "svhn")
    assert asked == [("svhn", "none")]


def test_doctor_knows_versions_places_and_logins(call, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x")
    found = {entry["check"]: entry for entry in json.loads(call("doctor", "--json"))}
    assert found["torch"]["state"] == found["results"]["state"] == "ok"
    assert found["wandb"]["detail"] == "logged in by WANDB_API_KEY"
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", "/nonexistent")
    assert "not logged in" in call("doctor")


def test_doctor_fails_where_results_cannot_be_written(call, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDBENCH_HOME", str(tmp_path / "file" / "runs"))
    assert "cannot be written" in call("doctor", code=1)


SUITE = """
name: toy
fixed:
  data: {name: digits, train_size: 120, test_size: 50}
  partition: {scheme: iid, clients: 2}
  models: {name: convnet, width: 4, depth: 2}
  recipe: {epochs: 1}
  evaluation: {curve_size: 20}
  budget: {ipc: 1}
  student: {epochs: 1}
axes:
  method: [local, random_real, {name: fedavg, preset: one_shot}]
profiles:
  smoke: {seeds: 1}
  quick: {seeds: 2}
"""


def test_a_sweep_computes_what_is_missing_and_prints_the_leaderboard(call, home, tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(SUITE)
    said = call("sweep", str(path), "--profile", "smoke", "--workers", "1", "--offline")
    assert "3: 0 done, 3 left" in said
    assert "fedavg (one_shot)" in said
    assert "random_real †" in said
    table = (home / "toy" / "report" / "table.csv").read_text()
    again = call("sweep", str(path), "--profile", "smoke", "--workers", "1", "--offline")
    assert "3: 3 done, 0 left" in again
    assert (home / "toy" / "report" / "table.csv").read_text() == table
    more = call(
        "sweep", str(path), "--profile", "smoke", "--seeds", "2", "--workers", "1", "--offline"
    )
    assert "6: 3 done, 3 left" in more
    assert "±" in more
    assert "±" in call("report", "toy")


def test_a_failed_cell_makes_the_exit_code_1_and_stops_nothing(call, home, tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(SUITE.replace("{ipc: 1}", "{pixels: 10}"))
    said = call("sweep", str(path), "--profile", "smoke", "--workers", "1", "--offline", code=1)
    assert "at least 256 pixels" in said
    assert "1 cell failed; the same command tries them again" in said
    assert "fedavg (one_shot)" in said
    assert len(list((home / "toy" / "records").glob("*.json"))) == 3


def test_a_split_is_shown_with_its_concentration_where_it_has_one():
    from fedbench.cli.run import _split

    assert _split({"scheme": "iid", "clients": 3}) == "iid, K=3"
    assert _split({"scheme": "dirichlet", "beta": 0.10, "clients": 3}) == "dirichlet, β=0.1, K=3"
