"""`validate`, `status`, `schema`, and the options of `sweep` that compute less or nothing."""

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedbench.cli.main import app
from fedbench.cli.suites import suites

ROOT = Path(__file__).parents[2]
SUITE = """
name: toy
fixed:
  data: {name: digits, train_size: 120, test_size: 50}
  partition: {scheme: iid, clients: 2}
  models: {name: convnet, width: 4, depth: 2}
  recipe: {epochs: 1}
  evaluation: {curve_size: 20}
axes:
  method: [local, ensemble, random_real, {name: fedavg, preset: one_shot}]
exclude:
  - {when: {method: ensemble, seed: 0}, reason: seen it}
profiles:
  quick: {seeds: 1}
"""


@pytest.fixture
def suite(tmp_path, home, monkeypatch):
    monkeypatch.setenv("FEDBENCH_DATA", str(home / "none"))
    path = tmp_path / "toy.yaml"
    path.write_text(SUITE)
    return path


def call(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def sweep(suite, *words, code=0):
    common = ("--workers", "1", "--device", "cpu", "--offline")
    return call("sweep", suite, *common, *words, code=code)


def test_a_setting_that_does_nothing_is_a_warning_wherever_cells_are_planned(suite, home):
    idle = "{name: single_image, image: noise, crops: 20, selected: 10, "
    idle += "selection: {cluster: full, clusters: 5}}"
    text = SUITE.replace("local, ensemble", idle).replace("seeds: 1", "seeds: 2")
    suite.write_text(text.replace("fixed:", "fixed:\n  budget: {pixels: 6144}", 1))
    words = "`cluster` full does nothing: with selected = 10 the pruning needs 20 crops"
    assert f"warning: 2 cells: {words}" in sweep(suite, "--dry-run").replace("\n", " ")
    assert f"warning: {suite}:11:" in call("validate", suite)
    crops = [f"--set=method.{word}" for word in ("image=noise", "crops=20", "selected=10")]
    options = ["--set=method.selection={cluster: full, clusters: 5}", "--set=budget.pixels=6144"]
    small = ["--train-size=100", "--test-size=20", "--width=4", "--epochs=0", "--clients=2"]
    small += ["--set=method.steps=0", "--device=cpu", "--offline"]
    said = call("run", "--dataset=digits", "--method=single_image", *crops, *options, *small)
    assert f"warning: {words}" in said.replace("\n", " ")


def test_a_dry_run_says_what_would_be_and_writes_nothing(suite, home):
    said = sweep(suite, "--dry-run")
    assert "3: 0 done, 1 skipped, 2 left; 1 combination excluded" in said
    assert "1 × random_real needs a budget" in said
    assert "1 × excluded: seen it" in said
    assert "2 client trainings from the common start, 2 of them shared" in said
    assert re.search(r"about .* with .*, roughly: .* to .*, scaled from other .* \(2 cells\)", said)
    assert not (home / "toy").exists()


def test_only_computes_a_part_and_the_rest_stays_in_plan_and_status(suite, home):
    said = sweep(suite, "--only", "method=fedavg")
    assert "1 of them to compute now, as selected" in said
    assert re.search(r"\[1/1\] fedavg \(one_shot\) seed 0: .* %.* 0 left", said)
    assert len(list((home / "toy" / "records").glob("*.json"))) == 1
    plan = json.loads((home / "toy" / "plan.json").read_text())
    assert len(plan["cells"]) == 3
    assert plan["excluded"] == [{"reason": "seen it", "values": {"method": "ensemble", "seed": 0}}]
    assert "3: 1 done, 1 skipped, 1 left" in call("status", "toy")
    assert call("status", suite) == call("status", "toy")
    found = json.loads(call("status", "toy", "--json"))
    assert (len(found["done"]), len(found["left"]), found["failed"]) == (1, 1, [])
    assert found["trainings"]["to_do"] == 0
    assert found["estimate"]["cells_unknown"] == 0
    assert found["estimate"]["scaled_from"] == {"other methods on these data": 1}


def test_a_time_limit_begins_no_cell_after_it_and_is_no_failure(suite, home, monkeypatch):
    said = sweep(suite, "--time-limit", "0.000001s")
    assert "the time limit of 0.000001s is over: 2 cells left; the same command goes on" in said
    assert not list((home / "toy").glob("records/*.json"))
    assert "left; the same" not in sweep(suite, "--time-limit", "1h")
    assert len(list((home / "toy").glob("records/*.json"))) == 2


def test_failed_cells_are_listed_at_the_end_with_their_places(suite, home):
    suite.write_text(SUITE.replace("recipe: {epochs: 1}", "recipe: {epochs: 1, lr: 1.0e+30}"))
    said = sweep(suite, code=1)
    assert "2 cells failed; the same command tries them again" in said
    end = said[said.index("2 cells failed") :]
    for method in ("local", "fedavg (one_shot)"):
        assert re.search(rf"{re.escape(method)} seed 0 \(\w{{16}}\): TrainingError", end)
    places = re.findall(r"see (\S+)", end)
    assert len(places) == 2
    assert all(Path(place).exists() for place in places)
    status = call("status", "toy")
    assert "3: 0 done, 2 failed, 1 skipped, 0 left" in status
    assert "failed     local seed 0: TrainingError" in status


def test_what_a_sweep_cannot_do_is_said_before_it_begins(suite, home):
    for words, message in (
        (("--only", "method=fedprox"), "no cell of suite 'toy' has that"),
        (("--time-limit", "soon"), "is no length of time"),
        (("--executor", "rai"), "did you mean 'ray'"),
    ):
        result = CliRunner().invoke(app, ["sweep", str(suite), "--device", "cpu", *words])
        assert message in str(result.exception)
    assert not (home / "toy").exists()


def test_watching_ends_when_nothing_is_left(suite, home, monkeypatch):
    sweep(suite, "--time-limit", "0.000001s")
    looks = []

    def meanwhile(seconds):
        looks.append(seconds)
        assert len(looks) < 3
        sweep(suite)

    monkeypatch.setattr("fedbench.cli.suites.time.sleep", meanwhile)
    assert "2 done" in call("status", "toy", "--watch")
    assert looks == [2.0]


def test_validate_has_lines_and_codes(suite, tmp_path):
    good = call("validate", suite)
    assert f"{suite}: quick 3 cells (1 skipped, 1 excluded)" in good
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(SUITE.replace("{method: ensemble, ", "{method: fedprox, "))
    warned = call("validate", wrong)
    assert f"warning: {wrong}:12:13: exclude[0].when.method: no combination has" in warned
    wrong.write_text(SUITE.replace("epochs: 1", "epocs: 1"))
    said = call("validate", suite, wrong, code=2)
    assert f"error: {wrong}:7:12: fixed.recipe.epocs: unknown key 'epocs'" in said
    assert f"{suite}: quick" in said


def test_schema_prints_what_is_committed():
    assert call("schema") == (ROOT / "benchmarks" / "suite.schema.json").read_text()


def test_make_targets_are_one_line_that_could_be_typed():
    import subprocess

    # These tests may themselves be run by make, which passes its own options on.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}

    def line(*words):
        done = subprocess.run(
            ["make", "-n", "-o", ".venv/set-up", *words],
            cwd=ROOT,
            env=plain,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip().removeprefix(".venv/bin/")

    assert line("bench") == "fedbench sweep benchmarks/digits.yaml --profile quick"
    for path in (ROOT / "benchmarks").glob("*.yaml"):
        target = f"bench-{path.stem.replace('_', '-')}"
        assert line(target, "PROFILE=smoke", "SEEDS=3", "DRY_RUN=1") == (
            f"fedbench sweep benchmarks/{path.name} --profile smoke --seeds 3 --dry-run"
        )
    everything = line(
        "bench-mnist",
        "WORKERS=2",
        "EXECUTOR=ray",
        "ADDRESS=auto",
        "ONLY=method=fedavg,local beta=0.1",
        "TIME_LIMIT=170m",
        "WANDB=1",
        "DRY_RUN=0",
    )
    assert everything == (
        "fedbench sweep benchmarks/mnist.yaml --profile quick --workers 2 --executor ray "
        "--address auto --only 'method=fedavg,local' --only 'beta=0.1' --time-limit 170m --wandb"
    )


def test_suites_are_listed_by_their_names_with_their_sizes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text("name: toy\n")
    suites(as_json=True)
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["toy"]["file"] == str(Path("toy.yaml").absolute())
    assert {"smoke", "quick", "standard", "paper"} <= set(found["digits"]["profiles"])
    assert not any(each["faults"] for each in found.values())
