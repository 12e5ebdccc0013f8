"""Equal records give equal bytes: whatever their order, the hash seed, the locale, or the speed."""

import os
import random
import subprocess
import sys

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from made_records import board_of, edited, files_of, record, write_suite

from fedbench.report import build, csvs
from fedbench.report.comparisons import comparisons

#: What may differ between a slow machine and a fast one.
TIMES = {"times.csv", "index.html"}

CODE = (
    "import sys; from pathlib import Path\n"
    "from fedbench.report.build import build\n"
    "build(Path(sys.argv[1]), Path(sys.argv[2]), against='centralised')\n"
    "assert not {'torch', 'lightning', 'wandb'} & set(sys.modules)\n"
)


def some_records():
    made = []
    for seed in range(3):
        for beta in (0.1, 0.5):
            for place, method in enumerate(("a", "b<i>", "centralised", "local")):
                accuracy = 0.3 + 0.1 * place + 0.013 * seed
                control = method in ("centralised", "local")
                made.append(record(method, seed, accuracy, beta=beta, control=control))
            made.append(record("c", seed, 0.4, beta=beta, ipc=1 + seed))
    return [*made, record("d", status="failed"), record("e", preset="p")]


def texts(records):
    board = board_of(records, missing=[record("f"), record("g")][:: random.choice((1, -1))])
    return build.texts(board, comparisons(board), against="centralised")


@settings(max_examples=8, deadline=None, phases=[Phase.generate])  # shrinking takes minutes
@given(st.permutations(some_records()))
def test_the_order_of_records_changes_no_byte(shuffled):
    assert texts(shuffled) == texts(some_records())


#: A locale whose text is no UTF-8, as zh_CN.GBK is.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def built(folder, out, **variables):
    subprocess.run(
        [sys.executable, "-c", CODE, str(folder), str(out)],
        check=True,
        timeout=120,
        env={**os.environ, **variables},
    )
    return files_of(out)


def test_hash_seed_locale_and_speed_change_no_byte_but_those_of_times(tmp_path):
    few = [one for one in some_records() if one.settings["partition"]["beta"] == 0.1]
    suite = write_suite(tmp_path / "toy", few)
    first = built(suite, tmp_path / "one", PYTHONHASHSEED="1", **ASCII)
    assert first.keys() >= {"table.csv", "runs.csv", "published.csv", "paired.csv", "table.tex"}
    for path in (suite / "records").iterdir():
        edited(path, "wall_seconds", 77.0)
        edited(path, "ledger.client_seconds", 66.0)
        edited(path, "environment.device_name", "another")
    changed = {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"}
    again = built(suite, tmp_path / "two", **changed)
    assert first.keys() == again.keys()
    differing = {name for name in first if first[name] != again[name]}
    assert "times.csv" in differing
    assert {name for name in differing - TIMES if not name.startswith("figures/seconds")} == set()


def test_a_terminal_that_cannot_show_a_character_gets_its_code_and_the_report_is_written(tmp_path):
    suite = write_suite(tmp_path / "toy", some_records())
    words = ["report", str(suite), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "fedbench.cli.main", *words],
        check=True,
        timeout=120,
        capture_output=True,
        env={**os.environ, **ASCII},
    )
    assert b"\\xb1" in done.stdout  # plus or minus
    assert done.stdout.isascii()
    assert "±" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


def test_a_report_that_draws_less_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(build.figures, "draw", lambda board: [])
    suite, out = write_suite(tmp_path / "toy", some_records()), tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    (out / "figures" / "old.svg").write_text("<svg/>")
    (out / "figures" / "notes.txt").write_text("mine")
    build.build(suite, out, against="centralised")
    assert (out / "paired.csv").exists()
    assert [path.name for path in (out / "figures").iterdir()] == ["notes.txt"]
    build.build(suite, out)
    assert not (out / "paired.csv").exists()
    assert "Δ" not in (out / "table.md").read_text()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("beta", 0.1000001, "0.1000001"),
        ("beta", 1e-05, "1e-05"),
        ("accuracy_mean", 0.12345, "0.1235"),
        ("accuracy_mean", -0.00001, "0.0000"),
        ("difference", -0.5, "-0.5000"),
        ("rounds", 10, "10"),
        ("dirty", True, "true"),
        ("beta", None, ""),
    ],
)
def test_numbers_are_written_one_way(name, value, text):
    assert csvs.plain(name, value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_setting_is_written_without_loss(value):
    assert float(csvs.plain("beta", value)) == value
