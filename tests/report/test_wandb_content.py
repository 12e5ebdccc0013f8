"""What a run in W&B holds: plain values, made without wandb."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from wandb_suite import CURVE, RECORDS, board, comparisons, figure, record

from fedbench.report import tables
from fedbench.report.tracking.content import Content, of_board, of_record

PARTS = ("mean", "std", "n")


def test_a_record_is_a_run_of_its_suite():
    run = of_record(record("fedavg", 2, preset="one_shot"))
    assert (run.id, run.group, run.job_type) == ("fedavg-None-2", "toy", "cell")
    assert run.name == (
        "fedavg (one_shot) · digits · dirichlet_capped beta=0.1 min_size=10 K=5 · seed 2"
    )
    assert list(run.tags) == ["digits", "fedavg", "one_shot", "quick"]
    assert (run.exit_code, run.notes) == (0, None)


def test_a_run_of_a_method_with_a_budget_is_named_with_it():
    assert "· budget ipc 10 total ·" in of_record(record("random_real", ipc=10)).name
    pixels = record("random_real")
    budget = {"ipc": None, "pixels": 4096, "scope": "per_client"}
    with_pixels = pixels.model_copy(update={"settings": {**pixels.settings, "budget": budget}})
    assert "· budget 4096 px per_client ·" in of_record(with_pixels).name


def test_the_config_has_all_settings_and_what_identifies_the_numbers():
    source = record("fedavg", 3)
    config = of_record(source).config
    for name in ("data", "partition", "method", "budget", "seed"):
        assert config[name] == source.settings[name]
    assert config["models"] == {"0": source.settings["models"][0]}
    assert config["model"] == "convnet-w32-d3"
    assert config["versions"] == source.versions
    assert config["data_used"]["fingerprint"] == "f00d"
    assert config["partition_digest"] == "d1ce"
    assert (config["suite"], config["profile"], config["control"]) == ("toy", "quick", False)
    assert config["environment"] == source.environment


def test_the_summary_has_metrics_by_class_and_the_ledger():
    source = record("fedavg", accuracy=0.25)
    summary = of_record(source).summary
    assert summary["status"] == "ok"
    assert summary["accuracy"] == 0.25
    assert summary["per_class"] == {"cat": 0.25, "dog": 1.0}
    assert summary["models"] == {"global": {"accuracy": 0.25, "nll": 1.0}}
    assert summary["ledger"] == source.ledger
    assert summary["outputs"] == {"global": "beef"}


def test_curves_of_several_names_keep_their_points_and_axes():
    history = of_record(record("fedavg")).history
    assert len(history) == len(CURVE)
    assert history[0] == {"step": 1, "round": 1, "bytes": 100, "curve/global/accuracy": 0.1}
    assert history[3] == {
        "step": 2,
        "round": 2,
        "bytes": 200,
        "curve/mirror/resnet8/accuracy": 0.2,
    }


def test_a_failed_record_is_a_failed_run_with_its_reason_and_traceback():
    run = of_record(record("dense", failed=True))
    assert run.exit_code == 1
    assert run.summary["status"] == "failed"
    assert run.summary["reason"] == "the loss is not finite"
    assert "not finite" in run.notes
    assert "1 / 0" in run.notes


def test_tags_are_short_enough_and_different():
    source = record("digits", profile="p" * 70)
    assert list(of_record(source).tags) == ["digits", "p" * 64]


@pytest.mark.parametrize(
    "change",
    [
        {"wall_seconds": 1.0},
        {"metrics": {"accuracy": 0.50001}},
        {"curves": CURVE[:-1]},
        {"status": "failed"},
        {"environment": {}},
    ],
)
def test_any_change_of_a_record_changes_the_digest(change):
    source = record("fedavg")
    assert of_record(source).digest() == of_record(record("fedavg")).digest()
    assert of_record(source.model_copy(update=change)).digest() != of_record(source).digest()


def test_contents_pass_through_json():
    found = board()
    for run in (of_record(RECORDS[0]), of_board(found, [figure()], comparisons(found))):
        again = Content.from_json(run.to_json())
        assert "\n" not in run.to_json()
        assert again.digest() == run.digest()
        assert again.sheets.keys() == run.sheets.keys()


def test_the_leaderboard_is_one_run_for_a_suite_and_profile():
    run = of_board(board())
    assert (run.id, run.group, run.job_type) == ("leaderboard-toy-quick", "toy", "leaderboard")
    assert run.summary == {"cells": 7, "ok": 5, "failed": 1, "skipped": 1}
    odd = board()
    odd = replace(odd, plan=replace(odd.plan, suite="a/b c"))
    assert of_board(odd).id == "leaderboard-a-b-c-quick"


def test_the_table_is_the_reports_with_every_digit():
    found = board()
    sheet = of_board(found).sheets["table"]
    assert tuple(sheet.columns) == tables.COLUMNS
    assert [dict(zip(sheet.columns, line, strict=True)) for line in sheet.data] == [
        {name: row.values[name] for name in tables.COLUMNS} for row in found.views
    ]


def test_the_pivot_has_a_line_a_method_and_a_column_a_setting():
    sheet = of_board(board()).sheets["pivot"]
    names = [f"{size} px {part}" for size in ("512", "5,120") for part in PARTS]
    assert sheet.columns == ["method", *names]  # what both blocks share is not said
    lines = {line[0]: list(line[1:]) for line in sheet.data}
    assert lines["fedavg"] == [60.0, 14.14, 2] * 2  # without a budget, in both
    assert lines["local †"] == [30.0, None, 1] * 2
    assert lines["random_real"] == [40.0, None, 1, None, None, None]
    assert lines["random_real (some)"] == [None, None, None, 60.0, None, 1]


def test_the_pivot_of_one_block_has_plain_columns():
    found = of_board(board([record("fedavg", 0, 0.5), record("local", 0, 0.3)]))
    assert found.sheets["pivot"].columns == ["method", *PARTS]


def test_the_table_tells_controls_and_overrides():
    sheet = of_board(board()).sheets["table"]
    lines = [dict(zip(sheet.columns, line, strict=True)) for line in sheet.data]
    assert {line["method"]: line["control"] for line in lines}["local"] is True
    assert {line["method"]: line["control"] for line in lines}["fedavg"] is False
    assert all("overrides" in line for line in lines)


def test_a_name_is_short_enough_for_wandb_and_keeps_its_seed():
    long = record("x" * 200, 7)
    name = of_record(long).name
    assert len(name) == 127
    assert name.endswith("… · seed 7")


def test_presets_and_overrides_are_tags():
    method = {"name": "feddf", "preset": "reference", "rounds": 1}
    source = record("feddf")
    found = source.model_copy(update={"settings": {**source.settings, "method": method}})
    run = of_record(found)
    assert {"reference", "overridden"} <= set(run.tags)
    assert run.name.startswith("feddf (reference*) · digits · ")
    assert run.config["overrides"] == "rounds=1 (100)"


def test_shared_sets_are_named_by_digest():
    found = of_record(record("x", outputs={"global": "a", "synthetic": "b", "synthetic/real": "c"}))
    assert found.sets == {"synthetic": "b", "synthetic/real": "c"}


def test_the_runs_are_in_the_tables_order_and_failed_ones_last():
    found = board()
    sheet = of_board(found).sheets["runs"]
    lines = [dict(zip(sheet.columns, line, strict=True)) for line in sheet.data]
    ids = " ".join(str(row.values["record_ids"]) for row in found.views).split()
    assert [line["cell_id"] for line in lines] == [*ids, "dense-None-0"]
    assert lines[-1]["reason"] == "the loss is not finite"
    assert lines[-1]["accuracy"] is None
    best = next(line for line in lines if line["cell_id"] == "fedavg-None-1")
    assert (best["accuracy"], best["seed"], best["bytes_total"]) == (0.7, 1, 1500)


def test_published_numbers_stand_beside_ours():
    found = board()
    sheet = of_board(found, [], comparisons(found)).sheets["published"]
    first, second = (dict(zip(sheet.columns, line, strict=True)) for line in sheet.data)
    assert first["published"] == 0.55
    assert first["ours"] == found.views[0].values["accuracy_mean"]
    assert (first["difference"], first["reasons"]) == (0.05, "another split; n 2, 3")
    assert first["source"] == "A paper, Table 1"
    assert (second["method"], second["ours"], second["difference"]) == ("dense", None, None)


def test_tables_without_a_line_are_left_out():
    assert "published" not in of_board(board()).sheets
    assert list(of_board(board((record("dense", failed=True),))).sheets) == ["runs"]


def test_figures_are_pages():
    (page,) = of_board(board(), [figure()]).pages.items()
    assert page[0] == "figures/bytes-digits"
    assert figure().svg in page[1]
    assert '<meta charset="utf-8">' in page[1]


def test_contents_need_neither_wandb_nor_torch():
    code = (
        "import json, sys\n"
        "from wandb_suite import RECORDS, board\n"
        "from fedbench.report.tracking import Mirror, content\n"
        "content.of_record(RECORDS[0]); content.of_board(board())\n"
        "print(json.dumps(sorted({'torch', 'lightning', 'wandb'} & set(sys.modules))))\n"
    )
    folder = __file__.rpartition("/")[0]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({folder!r})\n" + code],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == []
