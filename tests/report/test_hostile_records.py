"""Whatever stands in one record, the report of all others is written."""

from __future__ import annotations

import csv
import json

from made_records import record, write_suite

from fedbench.report.build import build


def spoil(path, **over):
    path.write_text(json.dumps({**json.loads(path.read_text()), **over}))


def test_hostile_text_and_ill_typed_numbers_cost_their_own_rows_alone(tmp_path, caplog):
    good = [record("a", seed, 0.5 + seed / 10) for seed in range(2)]
    failed = record("f", status="failed")
    ill = [record(name) for name in ("text", "large", "split", "ledger", "dots")]
    suite = write_suite(tmp_path / "toy", [*good, failed, *ill])
    records = suite / "records"
    nasty = "first\rsecond\x1b[31m\x00\x0b\x85\u2028\ud800\u202e" + "x" * 200_000
    spoil(records / f"{failed.cell_id}.json", reason=nasty, traceback=nasty)
    text, large, split, ledger, dots = (records / f"{one.cell_id}.json" for one in ill)
    spoil(text, metrics={"accuracy": "0.5"})
    spoil(large, metrics={"accuracy": 1e308})
    spoil(split, partition={})
    spoil(ledger, ledger={"traffic": {"up/round": {"wire": "3"}}})
    spoil(dots, settings={"method": {"name": "dots", "a.b": {"c.d": 1}}, "seed": 0})
    made = build(suite, tmp_path / "out")
    assert [row.values["method"] for row in made.board.views] == ["a"]
    for name in ("text", "large", "split", "ledger", "dots"):
        assert caplog.text.count(f"{name}-0.1-None-0.json is not a record") == 1
    with (tmp_path / "out" / "runs.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert sorted(line["method"] for line in lines if line["status"] == "ok") == ["a", "a"]
    (other,) = [line for line in lines if line["status"] == "failed"]
    assert any(r"first\x0dsecond\x1b[31m\x00" in value for value in other.values())
    page = (tmp_path / "out" / "index.html").read_bytes()
    assert b"\r" not in page
    assert len(page) < 1_000_000
