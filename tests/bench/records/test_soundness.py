"""Hostile and broken content of records: cleaned where it is text, refused where it is a number."""

from __future__ import annotations

import json

import pytest

from fedbench.bench.records.record import Record, read_record, read_records, write_record
from fedbench.bench.records.soundness import cleaned, is_name
from fedbench.errors import StoreError

GOOD = Record(
    cell_id="abc",
    status="ok",
    suite="s",
    settings={"method": {"name": "x"}, "data": {"name": "digits"}, "seed": 0},
    versions={},
    metrics={"accuracy": 0.5, "nll": 1.0, "per_class": [0.5, None]},
    ledger={"bytes_up": 3, "traffic": {"up/round": {"messages": 1, "wire": 3}}},
    data={"classes": ["cat", "dog"], "size": 16},
    partition={"histogram": [[1, 2]]},
    curves=[{"name": "global", "step": 1, "accuracy": 0.2}],
    outputs={"model": "0" * 64},
)


@pytest.fixture
def read(tmp_path):
    """Write a record with other values and read it."""

    def run(**over):
        path = tmp_path / "abc.json"
        path.write_text(json.dumps({**GOOD.model_dump(mode="json"), **over}))
        return read_record(path)

    return run


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\rb", r"a\x0db"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\ud800", r"\ud800"),
        ("a\u2028b", r"a\u2028b"),
        ("\u202eabc", r"\u202eabc"),
        ("two\nlines\tand a tab, é, β, 中", "two\nlines\tand a tab, é, β, 中"),
    ],
)
def test_text_is_cleaned_wherever_it_stands(text, shown, read):
    assert cleaned({"k": [text]}) == {"k": [shown]}
    found = read(
        status="failed",
        reason=text,
        settings={"method": {"name": text}, "data": {"name": "digits"}},
    )
    assert (found.reason, found.settings["method"]["name"]) == (shown, shown)


def test_long_text_is_cut_and_says_so():
    assert cleaned("x" * 100_003).endswith("x ... (3 characters left out)")


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"metrics": {"accuracy": "0.5"}}, r"metrics.accuracy: '0.5' is no number in \[0, 1\]"),
        ({"metrics": {"accuracy": 1e308}}, "metrics.accuracy"),
        ({"metrics": {"accuracy": True}}, "metrics.accuracy"),
        ({"metrics": {}}, "metrics.accuracy: missing"),
        ({"metrics": {"accuracy": 0.5, "per_class": [2]}}, "per_class: 2"),
        ({"ledger": {"bytes_up": -1}}, "ledger.bytes_up: -1"),
        ({"ledger": {"client_seconds": "3"}}, "ledger.client_seconds"),
        (
            {"ledger": {"traffic": {"up/round": {"messages": "1"}}}},
            r"ledger.traffic.up/round.messages: '1' is no number",
        ),
        ({"ledger": {"traffic": {"up": {"wire": {"a": -1}}}}}, "ledger.traffic.up.wire.a: -1"),
        ({"ledger": {"traffic": 3}}, "ledger.traffic: 3 are no counts"),
        ({"ledger": {"bytes_up": [1]}}, r"ledger.bytes_up: \[1\]"),
        (
            {"metrics": {"accuracy": 0.5, "models": {"global": {"accuracy": 2}}}},
            "metrics.models.global.accuracy: 2",
        ),
        (
            {"metrics": {"accuracy": 0.5, "models": {"a": {"accuracy": 1, "on_mixes": [-1]}}}},
            "metrics.models.a.on_mixes: -1",
        ),
        ({"metrics": {"accuracy": 0.5, "models": [1]}}, r"metrics.models: \[1\]"),
        ({"metrics": {"accuracy": 0.5, "models": {"a": 1}}}, "metrics.models.a: 1"),
        ({"metrics": {"accuracy": 0.5, "per_class": 1}}, "metrics.per_class: 1 is no list"),
        ({"metrics": {"accuracy": float("nan")}}, "metrics.accuracy: nan is no finite"),
        ({"data": {"classes": ["a"], "a": [1.0, float("inf")]}}, r"data.a\[1\]: inf"),
        ({"curves": [{"name": "m", "step": 0, "accuracy": 1, "nll": "9"}]}, "nll: '9'"),
        ({"settings": {"method": {"name": "x", "lr": float("inf")}}}, "settings.method.lr: inf"),
        ({"data": {"size": 3}}, "data.classes: None"),
        ({"data": {"classes": "cat"}}, "data.classes: 'cat'"),
        ({"data": {"classes": ["a"], "train": "7"}}, "data.train: '7' is no whole number"),
        ({"data": {"classes": ["a"], "resources": []}}, "data.resources"),
        ({"data": {"classes": ["a"], "notes": [1]}}, "data.notes"),
        ({"partition": {"histogram": [[1], [1, 2]]}}, "different numbers of classes"),
        ({"partition": {"histogram": [[True]]}}, "partition.histogram"),
        ({"partition": {"histogram": [[1]], "hold_outs": ["0"]}}, "partition.hold_outs"),
        ({"curves": [{"name": "m", "step": 0, "accuracy": 1, "bytes": "9"}]}, "bytes: '9'"),
        ({"partition": {}}, "partition.histogram"),
        ({"partition": {"histogram": [["1"]]}}, "partition.histogram"),
        ({"curves": [{"name": "m", "step": 0, "accuracy": "x"}]}, r"curves\[0\].accuracy"),
        ({"curves": [{"step": 0, "accuracy": 1}]}, r"curves\[0\].name"),
        ({"settings": {"method": "x"}}, "settings.method.name"),
        ({"settings": {"method": {"name": "x", "a.b": 1}}}, "'a.b' has a dot"),
        ({"settings": {"method": {"name": "x"}, "seed": "0"}}, "settings.seed"),
        ({"settings": {"method": {"name": "x"}}}, "settings.data.name"),
        ({"settings": {"method": {"name": "x"}, "data": {"name": 3}}}, "settings.data.name"),
        (
            {"settings": {"method": {"name": "x"}, "data": {"name": "x", "image_size": "a"}}},
            "settings.data.image_size: 'a'",
        ),
        ({"environment": {"threads": "4"}}, "environment.threads"),
        ({"environment": {"threads": 10**9}}, "environment.threads"),
        ({"environment": {"threads": True}}, "environment.threads"),
        ({"environment": {"device": 3}}, "environment.device"),
        ({"suite": "../../etc"}, "suite: '../../etc' cannot be part of a path"),
        ({"cell_id": "/abc"}, "cell_id"),
        ({"outputs": {"model": "../x"}}, "outputs.model"),
        ({"environment": {"k" * 100_000: 1}}, "a key has 100,000 characters"),
        ({"curves": [{}] * 100_001}, "100,001 points"),
    ],
)
def test_what_no_record_can_hold_is_refused_by_place(read, over, words):
    with pytest.raises(StoreError, match=f"not a record: .*{words}"):
        read(**over)


def test_what_diverged_on_its_way_may_stand_in_a_good_record(read):
    point = {"name": "m", "step": 1, "accuracy": 0.1, "nll": float("nan")}
    assert read(findings={"loss": [float("nan")]}, curves=[point]).status == "ok"


def test_a_failed_record_needs_no_numbers(read):
    assert read(status="failed", metrics={}, partition={}, ledger={}).status == "failed"


def test_one_bad_record_does_not_take_the_others(tmp_path, caplog):
    for name, accuracy in (("abc", 0.5), ("bad", 7.0)):
        made = GOOD.model_copy(update={"cell_id": name, "metrics": {"accuracy": accuracy}})
        write_record(tmp_path / f"{name}.json", made)
    assert [record.cell_id for _, record in read_records(tmp_path)] == ["abc"]
    assert "bad.json is not a record: metrics.accuracy: 7.0" in caplog.text


@pytest.mark.parametrize("text", ["", ".hidden", "a/b", "..", "a b", "x" * 151, "-rf"])
def test_names_that_are_no_part_of_a_path(text):
    assert not is_name(text)
