"""Differences over shared seeds."""

import csv
import dataclasses
import io
import math

import pytest
from made_records import record, row_of

from fedbench.errors import SettingsError
from fedbench.report import latex, tables
from fedbench.report.frame import rows
from fedbench.report.paired import Paired, check_reference, paired, to_paired_csv


def test_against_a_hand_computation():
    # Differences: .1, .2, .3 over seeds 0 to 2; mean .2, deviation .1.
    found = paired(row_of([0.5, 0.7, 0.9, 0.1]), row_of([0.4, 0.5, 0.6]))
    assert found.seeds == (0, 1, 2)
    assert found.mean == pytest.approx(0.2)
    assert found.std == pytest.approx(0.1)


def test_only_shared_seeds_count():
    ours = rows([record("a", seed, 0.1 * seed) for seed in (1, 2)])[0]
    theirs = rows([record("b", seed, 0.1) for seed in (2, 3)])[0]
    assert paired(ours, theirs) == Paired(pytest.approx(0.1), None, (2,))
    assert paired(ours, rows([record("b", 7)])[0]) is None


def test_a_seed_of_other_data_another_partition_or_no_accuracy_is_not_shared():
    ours, theirs = row_of([0.5, 0.6, 0.7, 0.8]), row_of([0.4, 0.4, 0.4, math.nan])
    odd = list(theirs.records)
    odd[0] = odd[0].model_copy(update={"partition": {"digest": "other"}})
    odd[1] = odd[1].model_copy(update={"data": {**odd[1].data, "fingerprint": "other"}})
    assert paired(ours, theirs).seeds == (0, 1, 2)
    assert paired(ours, dataclasses.replace(theirs, records=tuple(odd))).seeds == (2,)


@pytest.fixture
def found():
    once, often = {"rounds": 1}, {"rounds": 10}
    made = []
    for seed in range(3):
        made += [
            record("a", seed, 0.5 + 0.1 * seed),
            record("fedavg", seed, 0.4, control=True, preset="one_shot", options=once),
            record("fedavg", seed, 0.6, control=True, options=often),
            record("random_real", seed, 0.45, control=True, ipc=1),
            record("random_real", seed, 0.55, control=True, ipc=10),
        ]
    return rows(made)


def test_a_reference_is_a_label_or_a_method(found):
    check_reference(found, "fedavg (one_shot)")
    check_reference(found, "random_real")
    with pytest.raises(SettingsError, match=r"did you mean 'fedavg'.*there are: a, fedavg"):
        check_reference(found, "fedvag")
    assert "Δ to fedavg" in tables.to_markdown(found, "fedavg")  # the label goes before the method


def test_a_method_with_several_rows_in_a_block_needs_its_label(found):
    made = [record("b", options={"mu": mu}) for mu in (1, 2)]
    with pytest.raises(SettingsError, match=r"means 2 rows; say which: 'b \(mu=1\)', 'b \(mu=2\)'"):
        tables.to_markdown(rows(made), "b")


def test_each_budget_is_compared_with_its_own_reference(found):
    lines = list(csv.DictReader(io.StringIO(to_paired_csv(found, "random_real"))))
    ours = {line["budget_pixels"]: line for line in lines if line["method"] == "a"}
    assert {budget: line["paired_mean"] for budget, line in ours.items()} == {
        "2560": "0.1500",
        "25600": "0.0500",
    }
    assert {line["seeds"] for line in lines} == {"0 1 2"}
    assert all(
        line["paired_std"] == ("0.1000" if line["method"] == "a" else "0.0000") for line in lines
    )


def test_tables_have_the_column_only_on_request(found):
    text = tables.to_markdown(found, "fedavg (one_shot)")
    assert "| a | **60.00 ± 10.00** | +20.00 ± 10.00 (3) | 3 |" in text
    assert "| fedavg (one_shot) † | 40.00 ± 0.00 | – | 3 |" in text
    assert "Δ" not in tables.to_markdown(found)
    assert "Delta" not in latex.to_latex(found, "toy")
    assert r"$+$20.00 $\pm$ 10.00 (3)" in latex.to_latex(found, "toy", "fedavg (one_shot)")


def test_a_block_without_the_reference_has_dashes():
    made = [record("a"), record("b"), record("a", beta=0.5)]
    text = tables.to_markdown(rows(made), "b")
    assert "| a | **50.00** | – | 1 |" in text
    assert "| a | **50.00** | +0.00 (1) | 1 |" in text
