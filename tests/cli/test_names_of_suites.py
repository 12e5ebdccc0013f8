"""Suites and records by any of their names, and what is said of settings named otherwise."""

import json
from pathlib import Path

import pytest
import typer

from fedbench.bench.records.record import Record, write_record
from fedbench.bench.suites.planfile import Entry, Plan, plan_path, write_plan
from fedbench.cli.hints import check_place, option_hint
from fedbench.cli.lookup import find_record, find_suite, find_suite_file
from fedbench.cli.main import app
from fedbench.cli.suites import suites
from fedbench.errors import SettingsError

ROOT = Path(__file__).parents[2]
COMMANDS = typer.main.get_command(app).commands


@pytest.fixture
def toy(home, tmp_path, monkeypatch):
    """Swept records of a suite `toy`, its file in the working folder, and a folder of its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text("name: toy\n")
    (tmp_path / "toy").mkdir()
    folder, entries = home / "toy", []
    for name in ("abc0", "abc1"):
        settings = {
            "data": {"name": "digits"},
            "partition": {"scheme": "iid", "clients": 5},
            "models": [{"name": "convnet"}],
            "method": {"name": "fedavg", "preset": None},
            "seed": 0,
        }
        about = {"status": "failed", "reason": "none", "suite": "toy", "versions": {}}
        made = Record(cell_id=name, settings=settings, **about)
        write_record(folder / "records" / f"{name}.json", made)
        entries.append(Entry(name, None, settings))
    write_plan(folder / "plan.json", Plan("toy", "Toy", "quick", tuple(entries)))
    return folder


def test_a_suite_is_found_by_name_file_folder_and_record(toy):
    words = ("toy", "toy.yaml", "abc0", "toy/abc1", toy, toy / "plan.json", toy / "records")
    assert {find_suite(str(word)) for word in (*words, toy / "records" / "abc0.json")} == {toy}
    assert find_suite("digits") == ROOT / "leaderboards" / "digits"
    with pytest.raises(SettingsError, match=r"no plan of 'toi' \(did you mean 'toy'\?\)"):
        find_suite("toi")


def test_a_suite_file_is_found_by_what_was_swept_of_it(toy, tmp_path):
    words = ("toy", "toy.yaml", "abc0", str(toy))
    assert {find_suite_file(word) for word in words} == {tmp_path / "toy.yaml"}
    assert find_suite_file("dense") == ROOT / "benchmarks" / "paper" / "dense.yaml"
    for word, message in (
        ("digits.yaml", f"no suite file {tmp_path}/digits.yaml; there is {ROOT}/benchmarks/digits"),
        ("digitz", r"no suite file of 'digitz' \(did you mean 'digits'\?\); `fedbench suites`"),
        ("svhn_x", "'svhn_x'.*; near it: .*collabdm_svhn, dense_svhn.*`fedbench suites` lists the"),
    ):
        with pytest.raises(SettingsError, match=message):
            find_suite_file(word)


def test_suites_are_listed_by_their_names_with_their_sizes(toy, capsys):
    suites(as_json=True)
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["toy"]["file"] == str(Path("toy.yaml").absolute())
    assert {"smoke", "quick", "standard", "paper"} <= set(found["digits"]["profiles"])
    assert not any(each["faults"] for each in found.values())


def test_a_record_is_found_by_file_id_and_suite(toy, tmp_path):
    file = toy / "records" / "abc1.json"
    for word in ("abc1", "toy/abc1", str(file), f"{toy}/abc1"):
        assert find_record(word)[0] == file
    for word, message in (
        ("abc", "beginning of 2 cell ids: abc0, abc1"),
        ("abc9.json", f"there is no record {tmp_path}/abc9.json"),
        ("toy", f"{tmp_path}/toy is a folder and no record"),
        ("nothing", "nothing called 'nothing'"),
    ):
        with pytest.raises(SettingsError, match=message):
            find_record(word)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("run --lr 0.1", "--lr is a setting: write --set recipe.lr=0.1"),
        ("sweep x --learning-rate=1", "--learning-rate is a setting: write --set recipe.lr=1"),
        ("run --batch-size", "--batch-size is a setting: write --set recipe.batch_size=VALUE"),
        ("run --num-clients 3", "--num-clients is called --clients"),
        ("run --alpha 3", "--alpha is called --beta"),
        ("run --min-size 3", "--min-size is a setting: write --set partition.min_size=3"),
        ("run --clients 3 --nonsense", None),
        ("status --lr 3", None),
        ("", None),
    ],
)
def test_an_option_that_is_a_setting_says_how_it_is_set(words, hint):
    options = [name for each in COMMANDS["run"].params for name in each.opts]
    assert option_hint(words.split(), options) == hint


def test_a_place_that_no_cell_has_names_the_one_that_was_meant():
    check_place("recipe.lr", "1")
    check_place("method.anything", "1")
    check_place("partition.shards", "1")
    with pytest.raises(SettingsError, match=r"write --set recipe\.lr=0\.1"):
        check_place("recipe.learning_rate", "0.1")
    with pytest.raises(SettingsError, match="budget has: ipc, pixels, scope"):
        check_place("budget.zzzz", "1")


def walk(group, path=()):
    for name, command in group.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield (*path, name), command
        else:
            yield from walk(inner, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(walk(COMMANDS)))
def test_help_is_one_line_and_an_example(path, command):
    first, *rest = command.help.splitlines()
    assert first.endswith(".")
    assert len(first) <= 96
    assert not first.split()[0].endswith(("s", "ing")), "the first word is an imperative"
    (example,) = [line for line in rest if line.startswith("Example: ")]
    assert example.startswith(f"Example: fedbench {' '.join(path)}")
    assert all(param.help for param in command.params if param.param_type_name == "option")


def test_a_new_suite_is_written_once_and_says_what_to_type(home, tmp_path, monkeypatch, capsys):
    from fedbench.cli.new_suite import new_suite

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDBENCH_DATA", str(tmp_path / "data"))
    lines = [f"{number % 7},{'ab'[number % 2]}" for number in range(400)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["x,class", *lines, ""]))
    new_suite(path)
    said = capsys.readouterr().out
    assert f"suite      {tmp_path}/mine.yaml" in said
    assert f"next       fedbench sweep {tmp_path}/mine.yaml --profile smoke" in said
    assert "left out   single_image: crops of a photograph" in said
    # A fresh home knows published boards.
    assert "scaled from other data or batch sizes" in said.split("\nquick")[1].splitlines()[0]
    assert not plan_path(home, "mine").exists()
    with pytest.raises(SettingsError, match=r"mine.yaml is there already.*--out FILE"):
        new_suite(path)
    with pytest.raises(SettingsError, match=r"let it end in \.yaml"):
        new_suite(path, out=Path("mine.txt"))
