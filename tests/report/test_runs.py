"""runs.csv and times.csv: one line a cell, and what depends on a machine in one of them only."""

import csv
import io
import json

import pytest
from made_records import CLEAN, board_of, record

from fedbench.report import runs
from fedbench.report.csvs import to_csv


def lines(text):
    return list(csv.DictReader(io.StringIO(text)))


def runs_csv(board):
    return to_csv(runs.RUN_COLUMNS, board.runs)


def slower(made):
    """Return the same result from a slower machine."""
    return made.model_copy(
        update={
            "wall_seconds": 99.0,
            "evaluation_seconds": 9.0,
            "peak_memory_bytes": 12,
            "ledger": {**made.ledger, "client_seconds": 50.0, "server_seconds": 7.0},
            "environment": {
                **made.environment,
                "device": "cuda:1",
                "device_name": "slow",
                "cpus": 1,
                "system": "x",
            },
        }
    )


def test_every_cell_of_the_plan_has_a_line_with_its_status():
    failed = record("fedprox", status="failed").model_copy(update={"reason": "Error: NaN"})
    board = board_of(
        [record("fedavg", 1, 0.6), record("fedavg", 0, 0.5), failed],
        skipped=[record("b")],
        missing=[record("c", ipc=1)],
    )
    found = lines(runs_csv(board))
    assert [(line["method"], line["seed"], line["status"]) for line in found] == [
        ("fedavg", "0", "ok"),
        ("fedavg", "1", "ok"),
        ("fedprox", "0", "failed"),
        ("c", "0", "missing"),
        ("b", "0", "skipped"),
    ]
    assert [line["reason"] for line in found[2:]] == ["Error: NaN", "", "cannot run"]
    assert found[0]["accuracy"] == "0.500000"
    assert found[2]["accuracy"] == ""
    assert {line["commit"] for line in found[:3]} == {CLEAN["commit"]}
    assert found[0]["dirty"] == "false"


def test_cells_without_a_result_are_told_apart_by_their_settings():
    def cell(mu, **other):
        return record("fedprox", options={"mu": mu}, cell_id=f"{mu}{other}", **other)

    board = board_of(
        [cell(0.1, status="failed"), record("a", status="failed")],
        skipped=[cell(0.2)],
        missing=[cell(0.3, recipe={"epochs": 5})],
    )
    found = {line["status"] + line["method"]: line for line in lines(runs_csv(board))}
    assert {name: line["settings"] for name, line in found.items()} == {
        "faileda": "recipe.epochs=20",  # the default, which its record does not name
        "failedfedprox": "recipe.epochs=20 mu=0.1",
        "skippedfedprox": "recipe.epochs=20 mu=0.2",
        "missingfedprox": "recipe.epochs=5",
    }


def test_all_settings_can_be_read_back():
    (line,) = lines(runs_csv(board_of([record("a", options={"mu": 0.1})])))
    found = json.loads(line["all_settings"])
    assert found["method.mu"] == 0.1
    assert found["models"][0]["width"] == 32
    assert "seed" not in found
    assert line["seed"] == "0"


def test_only_times_depend_on_the_machine():
    gpu = {"environment": {**CLEAN, "device": "cuda:0"}}
    made = [record(method, seed, **gpu) for method in ("a", "b") for seed in range(2)]
    fast, slow = board_of(made), board_of([slower(one) for one in made])
    assert runs_csv(fast) == runs_csv(slow)
    assert runs.times_csv(fast.views) != runs.times_csv(slow.views)
    (first, *_) = lines(runs.times_csv(slow.views))
    assert first["client_seconds"] == "50.000"
    assert first["wall_seconds"] == "99.000"
    assert first["device_name"] == "slow"


def test_times_are_of_good_records_only():
    board = board_of([record("a"), record("b", status="failed")])
    assert [line["method"] for line in lines(runs.times_csv(board.views))] == ["a"]


@pytest.mark.parametrize("text", ["=1+1", "+a", "-1+1", "@x", "\tx"])
def test_text_is_no_formula_of_a_spreadsheet(text):
    made = to_csv(["method", "accuracy", "n"], [{"method": text, "accuracy": -0.5, "n": "-3"}])
    assert made == f"method,accuracy,n\n'{text},-0.500000,-3\n"
