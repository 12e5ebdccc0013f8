"""Suites and records by any of their names."""

from pathlib import Path

import pytest

from fedbench.bench.records.record import Record, write_record
from fedbench.bench.suites.planfile import Entry, Plan, write_plan
from fedbench.errors import SettingsError
from fedbench.session.lookup import find_record, find_suite, find_suite_file

ROOT = Path(__file__).parents[2]


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
