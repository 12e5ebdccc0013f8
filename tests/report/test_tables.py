"""Rows and tables from hand-made records; no training."""

import csv
import io
import random
import subprocess
import sys

import pytest

from fedbench.bench.records import Record
from fedbench.report import tables
from fedbench.report.frame import blocks, rows


def record(method, seed=0, accuracy=0.5, *, beta=0.1, ipc=None, control=False, status="ok"):
    budget = {"ipc": ipc, "pixels": None, "scope": "total"} if ipc else None
    return Record(
        cell_id=f"{method}-{beta}-{ipc}-{seed}",
        status=status,
        suite="toy",
        profile="quick",
        control=control,
        settings={
            "data": {"name": "digits"},
            "partition": {"scheme": "dirichlet_capped", "beta": beta, "clients": 5},
            "models": [{"name": "convnet", "width": 32, "depth": 3, "norm": None}],
            "method": {"name": method, "preset": None},
            "budget": budget,
            "seed": seed,
        },
        versions={},
        data={"classes": list("0123456789"), "size": 16},
        metrics={"accuracy": accuracy, "worst_client": accuracy / 2, "nll": 1.0, "ece": 0.05},
        ledger={
            "bytes_up_per_client": 1500.0,
            "bytes_down_per_client": 0.0,
            "bytes_total": 7500,
            "rounds": 1,
            "client_seconds": 2.0,
            "server_seconds": 1.0,
        },
        shared_pixels=2560 if ipc else 0,
    )


def values(found, method):
    return next(row.values for row in found if row.values["method"] == method)


def test_rows_have_mean_deviation_and_n_over_seeds():
    found = rows(record("fedavg", seed, acc) for seed, acc in enumerate([0.5, 0.6, 0.7]))
    assert len(found) == 1
    row = found[0].values
    assert row["n"] == 3
    assert row["accuracy_mean"] == pytest.approx(0.6)
    assert row["accuracy_std"] == pytest.approx(0.1)
    assert row["worst_client_mean"] == pytest.approx(0.3)
    assert row["record_ids"].split() == [f"fedavg-0.1-None-{seed}" for seed in range(3)]


def test_one_seed_has_no_deviation():
    assert rows([record("fedavg")])[0].values["accuracy_std"] is None
    assert "±" not in tables.to_markdown(rows([record("fedavg")]))


def test_failed_and_skipped_cells_are_no_rows():
    found = rows([record("fedavg"), record("local", status="failed")])
    assert [row.values["method"] for row in found] == ["fedavg"]


def test_the_gap_is_to_the_centralised_model_of_the_same_block():
    found = rows(
        [
            record("centralised", accuracy=0.9, control=True),
            record("fedavg", accuracy=0.6),
            record("fedavg", accuracy=0.7, beta=0.5),
        ]
    )
    assert values(found, "fedavg")["gap_to_centralised"] == pytest.approx(0.3)
    other = [row for row in found if row.values["beta"] == 0.5]
    assert other[0].values["gap_to_centralised"] is None


def test_order_does_not_depend_on_the_records_order():
    records = [
        record(method, seed, 0.1 * place + 0.01 * seed, beta=beta, control=method == "local")
        for place, method in enumerate(["local", "fedavg", "ensemble", "fedprox"])
        for seed in range(3)
        for beta in (0.1, 0.5)
    ]
    expected = tables.to_csv(rows(records))
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert tables.to_csv(rows(records)) == expected
    first = [row.values["method"] for row in rows(records)][:4]
    assert first == ["fedprox", "ensemble", "fedavg", "local"]  # controls come last


def test_each_budget_has_a_block_and_methods_without_one_stand_in_all():
    found = rows(
        [
            record("fedavg"),
            record("random_real", ipc=1, control=True),
            record("random_real", ipc=10, control=True),
        ]
    )
    heads = blocks(found)
    assert [head["budget_pixels"] for head, _ in heads] == [2560, 25600]
    assert all(
        [row.values["method"] for row in members] == ["fedavg", "random_real"]
        for _, members in heads
    )


def test_the_csv_has_the_defined_columns_and_numbers():
    text = tables.to_csv(rows([record("fedavg", accuracy=1 / 3)]))
    (row,) = csv.DictReader(io.StringIO(text))
    assert tuple(row) == tables.COLUMNS
    assert row["accuracy_mean"] == "0.3333"
    assert row["accuracy_std"] == ""
    assert row["bytes_up_per_client"] == "1500"


def test_every_column_is_defined_in_the_docs():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "records.md").read_text()
    for name in tables.COLUMNS:
        assert f"`{name}`" in text, name


def test_titles_name_the_split_and_controls_are_marked():
    text = tables.to_markdown(rows([record("fedavg"), record("local", control=True)]))
    assert "### digits · dirichlet_capped · β=0.1 · K=5" in text
    assert "| local † |" in text
    assert "| fedavg |" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e6, "2.5 MB"), (3e9, "3.0 GB")],
)
def test_sizes_are_read_by_people(count, text):
    assert tables.size(count) == text


def test_a_report_needs_no_torch(home, tmp_path):
    code = (
        "import sys\n"
        "from fedbench.report import tables, frame, heatmap\n"
        "import fedbench.bench.records\n"
        "assert not {'torch', 'lightning'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
