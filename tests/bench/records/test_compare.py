"""Two records, or the records of two suites."""

import math

import pytest

from fedbench.bench.records.compare import compare, diff_cells, diff_records
from fedbench.bench.records.record import Record


def made(accuracy=0.5, **over):
    values = {
        "cell_id": "a",
        "status": "ok",
        "suite": "toy",
        "settings": {"partition": {"beta": 0.1}, "seed": 0},
        "versions": {"method": 1},
        "metrics": {"accuracy": accuracy, "per_class": [0.1, 0.2]},
        "ledger": {"bytes_up": 10, "client_seconds": 1.0},
        "wall_seconds": 3.0,
        "environment": {"commit": "x"},
    }
    return Record(**{**values, **over})


def test_a_record_equals_itself():
    found = diff_records(made(), made())
    assert found.equal
    assert not [*found.times, *found.environment]


@pytest.mark.parametrize(
    ("over", "section", "difference"),
    [
        (
            {"settings": {"partition": {"beta": 0.5}, "seed": 0}},
            "settings",
            ("partition.beta", 0.1, 0.5),
        ),
        ({"versions": {"method": 2}}, "settings", ("versions.method", 1, 2)),
        (
            {"metrics": {"accuracy": 0.5, "per_class": [0.1, 0.3]}},
            "numbers",
            ("metrics.per_class[1]", 0.2, 0.3),
        ),
        (
            {"ledger": {"bytes_up": 11, "client_seconds": 1.0}},
            "numbers",
            ("ledger.bytes_up", 10, 11),
        ),
        ({"status": "failed"}, "numbers", ("status", "ok", "failed")),
        ({"resources": ["x"]}, "numbers", ("resources", [], ["x"])),
        ({"privileges": ["x"]}, "numbers", ("privileges", [], ["x"])),
        ({"control": True}, "numbers", ("control", False, True)),
        (
            {"ledger": {"bytes_up": 10, "client_seconds": 1.0, "bytes_busiest_client": 7}},
            "numbers",
            ("ledger.bytes_busiest_client", None, 7),
        ),
        ({"wall_seconds": 4.0}, "times", ("wall_seconds", 3.0, 4.0)),
        (
            {"ledger": {"bytes_up": 10, "client_seconds": 2.0}},
            "times",
            ("ledger.client_seconds", 1.0, 2.0),
        ),
        ({"peak_memory_bytes": 5}, "times", ("peak_memory_bytes", 0, 5)),
        ({"environment": {"commit": "y"}}, "environment", ("commit", "x", "y")),
    ],
)
def test_each_difference_stands_in_its_section(over, section, difference):
    found = diff_records(made(), made(**over))
    assert {name: value for name, value in vars(found).items() if value} == {section: [difference]}
    assert found.equal == (section in ("times", "environment"))


def test_suites_are_compared_cell_by_cell():
    one = {"a": made(), "b": made(0.6), "c": made()}
    other = {"b": made(0.7), "c": made(wall_seconds=9.0), "d": made()}
    found = diff_cells(one, other)
    assert (found.only_one, found.only_other, found.common) == (["a"], ["d"], 2)
    assert found.differing == {"b": [("metrics.accuracy", 0.6, 0.7)]}


LOOSE = {"deterministic": False, "metrics": {"accuracy": 0.5, "nll": 1.0}, "outputs": {"a": "0"}}


@pytest.mark.parametrize(
    ("over", "places"),
    [
        ({}, []),
        ({"outputs": {"a": "1"}}, []),
        ({"metrics": {"accuracy": 0.519, "nll": 1.09}}, []),
        ({"metrics": {"accuracy": 0.479, "nll": 1.0}}, ["metrics.accuracy"]),
        ({"metrics": {"accuracy": 0.5, "nll": 1.11}}, ["metrics.nll"]),
        ({"metrics": {"accuracy": math.nan, "nll": 1.0}}, ["metrics.accuracy"]),
        ({"outputs": {}}, ["outputs.a"]),
        ({"ledger": {"bytes_up": 11}}, ["ledger.bytes_up"]),
        ({"partition": {"digest": "x"}}, ["partition.digest"]),
    ],
)
def test_where_no_bits_are_promised_only_measurements_may_differ(over, places):
    found = compare(made(**LOOSE), made(**{**LOOSE, **over}))
    assert [place for place, *_ in found] == places


def test_a_promise_that_is_gone_is_a_difference():
    assert compare(made(), made(deterministic=False))
