"""Rows and tables from hand-made records; no training."""

import csv
import io
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import CONVNET, RESNET, record

from fedbench.report import columns, paired, tables
from fedbench.report.frame import blocks, rows


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
    assert "| fedavg | **50.00** | 1 |" in tables.to_markdown(rows([record("fedavg")]))


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


def test_the_gap_is_over_shared_seeds():
    made = [record("centralised", seed, 0.9 - 0.1 * seed, control=True) for seed in range(2)]
    made += [record("a", 1, 0.6), record("a", 2, 0.1), record("b", 2, 0.5)]
    assert values(rows(made), "a")["gap_to_centralised"] == pytest.approx(0.2)
    assert values(rows(made), "b")["gap_to_centralised"] is None


def of(made, *, fingerprint="1" * 64, **versions):
    data = {**made.data, "fingerprint": fingerprint}
    return made.model_copy(update={"data": data, "versions": {"evaluation": 1, **versions}})


@pytest.mark.parametrize(
    ("other", "title"),
    [({"fingerprint": "2" * 64}, "fingerprint=222222222222"), ({"evaluation": 9}, "evaluation=9")],
)
def test_other_data_files_or_versions_stand_in_another_block(other, title):
    made = [
        of(record("centralised", accuracy=0.9)),
        of(record("a", 0)),
        of(record("a", 1), **other),
    ]
    found = rows(made)
    assert [len(members) for _, members in blocks(found)] == [2, 1]
    assert blocks(found)[1][0]["settings"].endswith(title)
    assert found[2].values["gap_to_centralised"] is None
    assert [row.values["n"] for row in found] == [1, 1, 1]


def test_versions_of_a_method_part_rows_and_not_blocks():
    made = [of(record("a", 0), method=1), of(record("a", 1), method=2), of(record("b"), method=5)]
    assert labels(rows(made)) == ["a (versions.method=1)", "a (versions.method=2)", "b"]
    assert len(blocks(rows(made))) == 1


def test_data_sets_have_other_fingerprints_and_no_title_says_so():
    made = [of(record("a")), of(record("a", data={"name": "mnist"}), fingerprint="2" * 64)]
    assert {head["settings"] for head, _ in blocks(rows(made))} == {None}


def test_no_seed_counts_twice():
    again = record("a", 0, 0.5, cell_id="z")
    (row,) = rows([record("a", 0, 0.5), record("a", 1, 0.8), again])
    assert row.values["n"] == 2
    assert row.values["accuracy_mean"] == pytest.approx(0.65)
    assert len(row.values["record_ids"].split()) == 3


def test_a_method_is_a_control_where_any_record_says_so(caplog):
    made = [record("a", 0, control=True), record("a", 1), record("b")]
    for order in (made, made[::-1]):
        assert {row.values["method"]: row.control for row in rows(order)} == {"a": True, "b": False}
    assert "disagree whether a is a control" in caplog.text


def test_the_gap_is_to_the_same_model():
    found = rows(
        record(method, accuracy=accuracy, model=model)
        for method, accuracy, model in [
            ("fedavg", 0.6, CONVNET),
            ("fedavg", 0.6, RESNET),
            ("centralised", 0.9, CONVNET),
            ("centralised", 0.7, RESNET),
        ]
    )
    gaps = {
        row.values["model"]: row.values["gap_to_centralised"]
        for row in found
        if row.values["method"] == "fedavg"
    }
    assert gaps == {"convnet-w32-d3": pytest.approx(0.3), "resnet8-w16": pytest.approx(0.1)}


@pytest.mark.parametrize(
    "other",
    [
        {"data": {"name": "digits", "train_size": 100}},
        {"partition": {"min_size": 1}},
        {"partition": {"validation": 0.1}},
        {"recipe": {"epochs": 1}},
        {"participation": 0.5},
        {"precision": "bf16-mixed"},
    ],
)
def test_no_gap_to_a_centralised_model_of_other_settings(other):
    found = rows([record("fedavg"), record("centralised", accuracy=0.9, **other)])
    assert values(found, "fedavg")["gap_to_centralised"] is None
    assert len(blocks(found)) == 2


@pytest.mark.parametrize("preset", [None, "some"])
def test_of_several_centralised_models_the_one_trained_as_long_counts(preset):
    records = [
        record("fedavg", accuracy=0.5),
        record("centralised", accuracy=0.8, preset=preset, options={"epoch_factor": 1.0}),
        record("centralised", accuracy=0.9, options={"epoch_factor": 3.0}),
        record("centralised", accuracy=0.7, options={"epoch_factor": 0.5}),
    ]
    for order in (records, records[::-1]):
        gap = values(rows(order), "fedavg")["gap_to_centralised"]
        assert gap == pytest.approx(0.3)


def test_the_students_recipe_stands_in_labels_and_parts_no_blocks():
    found = rows(
        [
            record("random_real", accuracy=0.5, ipc=1, student={"epochs": 300}),
            record("random_real", accuracy=0.4, ipc=1, student={"epochs": 100}),
        ]
    )
    assert len(blocks(found)) == 1
    assert [row.values["label"] for row in found] == [
        "random_real (student.epochs=300)",
        "random_real (student.epochs=100)",
    ]


def labels(found):
    return sorted(str(row.values["label"]) for row in found)


def test_a_label_has_the_method_settings_that_vary():
    mus = rows(record("fedprox", options={"mu": mu, "rounds": 20}) for mu in (0.1, 0.001, 1.0))
    assert labels(mus) == ["fedprox (mu=0.001)", "fedprox (mu=0.1)", "fedprox (mu=1)"]
    assert {row.values["settings"] for row in mus} == {"mu=0.001", "mu=0.1", "mu=1"}
    presets = rows(
        [
            record("fedavg", options={"rounds": 10, "epochs": None}),
            record("fedavg", preset="one_shot", options={"rounds": 1, "epochs": None}),
            record("fedavg", preset="one_shot", options={"rounds": 1, "epochs": 5}),
        ]
    )
    assert labels(presets) == ["fedavg (one_shot)", "fedavg (one_shot*, epochs=5)", "fedavg*"]


def test_a_star_behind_a_method_says_that_a_setting_is_not_its_default():
    cut = rows(record("fedprox", options={"mu": mu, "rounds": 10}) for mu in (0.1, 1.0))
    assert labels(cut) == ["fedprox* (mu=0.1)", "fedprox* (mu=1)"]
    assert tables.overridden(cut)[0] == ("fedprox* (mu=0.1)", "mu=0.1 (0.01), rounds=10 (20)")
    said = rows(record("fedprox", options={"mu": mu, "rounds": 20}) for mu in (0.1, 1.0))
    assert tables.overridden(said) == []  # what the names say already
    assert {row.values["overrides"] for row in said} == {"mu=0.1 (0.01)", "mu=1 (0.01)"}
    assert paired.reference(cut, "fedprox (mu=1)") is cut[1]


def test_what_varies_between_blocks_alone_is_in_no_label():
    found = rows(record("fedprox", beta=beta, options={"mu": beta}) for beta in (0.1, 0.5))
    assert labels(found) == ["fedprox*", "fedprox*"]
    assert {row.values["settings"] for row in found} == {None}


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.1, 0.1000001]),
            st.sampled_from([None, 5]),
            st.sampled_from([None, "p"]),
            st.sampled_from([CONVNET, RESNET]),
            st.sampled_from([None, 1, 10]),
            st.sampled_from([1, 20]),
        ),
        unique_by=str,
        max_size=12,
    )
)
def test_no_two_rows_read_alike(cases):
    records = [
        record(
            "m",
            ipc=ipc,
            model=model,
            preset=preset,
            recipe={"epochs": recipe},
            options={"mu": mu, "epochs": epochs},
        )
        for mu, epochs, preset, model, ipc, recipe in cases
    ]
    found = rows(records)
    shown = [
        (tables.title(head), row.values["label"])
        for head, members in blocks(found)
        for row in members
    ]
    assert len(set(shown)) == len(shown)
    names = tables.COLUMNS[: tables.COLUMNS.index("n")]
    assert len({tuple(row.values[name] for name in names) for row in found}) == len(found)


def test_seeds_of_equal_settings_are_one_row_whatever_profile_or_preset():
    once = {"rounds": 1, "epochs": None}
    found = rows(
        [
            record("fedavg", 0, 0.5, profile="quick", preset="one_shot", options=once),
            record("fedavg", 1, 0.6, profile="full", options=once),
            record("fedavg", 2, 0.7, profile=None, options=once),
        ]
    )
    assert [row.values["n"] for row in found] == [3]
    assert found[0].values["profile"] == "full+quick"
    assert found[0].values["preset"] == "one_shot"


def test_a_row_with_fewer_seeds_stays():
    found = rows([record("fedavg", 0), record("fedavg", 1), record("local", 0)])
    assert {row.values["method"]: row.values["n"] for row in found} == {"fedavg": 2, "local": 1}


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


def test_equal_rows_of_several_budgets_keep_their_order():
    records = [record("random_real", ipc=ipc) for ipc in (10, 1)]
    assert tables.to_csv(rows(records)) == tables.to_csv(rows(records[::-1]))
    assert [head["budget_pixels"] for head, _ in blocks(rows(records))] == [2560, 25600]


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


def test_partitions_are_named_with_the_parameters_of_their_scheme():
    schemes = [
        ({}, "dirichlet_capped beta=0.1 min_size=10", 0.1),
        (
            {"scheme": "floor_per_class", "floor": 9},
            "floor_per_class beta=0.1 floor=9 min_size=10",
            0.1,
        ),
        (
            {"scheme": "classes_exact", "classes_per_client": 2},
            "classes_exact classes_per_client=2",
            None,
        ),
        (
            {"scheme": "half_iid_half_class", "iid_share": 0.5},
            "half_iid_half_class iid_share=0.5",
            None,
        ),
        ({"scheme": "iid"}, "iid", None),
    ]
    for partition, text, beta in schemes:
        (row,) = rows([record("fedavg", partition=partition)])
        assert row.values["partition"] == text
        assert row.values["beta"] == beta


def test_titles_name_other_settings_only_where_they_vary():
    def titles(*epochs):
        found = rows(record("fedavg", recipe={"epochs": n, "lr": 0.1}) for n in epochs)
        return [tables.title(head) for head, _ in blocks(found)]

    split = "digits · dirichlet_capped · β=0.1 · min_size=10 · K=5 · convnet-w32-d3"
    models = blocks(rows(record("fedavg", model=model) for model in (CONVNET, RESNET)))
    assert [tables.title(head) for head, _ in models] == [
        split,
        split.replace("convnet-w32-d3", "resnet8-w16"),
    ]
    assert titles(5) == [split]
    assert titles(20, 5) == [f"{split} · recipe.epochs=5", f"{split} · recipe.epochs=20"]


def test_titles_name_the_split_and_controls_are_marked():
    text = tables.to_markdown(rows([record("fedavg"), record("local", control=True)]))
    assert "### digits · dirichlet_capped · β=0.1 · min_size=10 · K=5 · convnet-w32-d3\n" in text
    assert "| local † |" in text
    assert "| fedavg |" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (2.5e6, "2.5 MB"),
        (3e9, "3.0 GB"),
        (999_960, "1.0 MB"),
        (999_940, "999.9 kB"),
        (999_960e6, "1.0 TB"),
    ],
)
def test_sizes_are_read_by_people(count, text):
    assert columns.size(count) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("random_real", "random_real"),
        ("_a_ *b* `c`", r"\_a\_ \*b\* \`c\`"),
        ("a|b\nc", r"a\|b c"),
        ("<script>&", "&lt;script>&amp;"),
        (r"a\b [c](d)", r"a\\b \[c\](d)"),
    ],
)
def test_markdown_shows_names_as_they_are(text, shown):
    assert tables.escape_markdown(text) == shown


@settings(deadline=None, max_examples=25)
@given(st.text())
def test_a_name_cannot_break_out_of_its_cell(text):
    found = rows([record(f"x{text}"), record("b")])
    body = tables.to_markdown(found).splitlines()
    table = [line for line in body if line.startswith("|")]
    assert len(table) == 4
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table} == {11}


@pytest.mark.parametrize("width", [60, 100, 160, None])
def test_the_terminal_leaves_out_what_does_not_fit_and_says_so(width):
    from rich.console import Console

    found = rows(
        record(method, seed, 0.5, ipc=ipc, control=method == "local")
        for method in ("a_rather_long_name", "b", "local")
        for seed in range(2)
        for ipc in (1, 10)
    )
    made = tables.to_terminal(found, width)
    console = Console(width=width or 300, record=True, file=io.StringIO())
    for table in made:
        console.print(table)
    lines = console.export_text().splitlines()
    headings = next(line for line in lines if "method" in line)
    assert all(len(line) <= (width or 300) for line in lines)
    assert "…" not in "".join(lines)
    missing = [c.plain for c in tables.figures(found) if f" {c.plain} " not in headings]
    told = [line for line in lines if "left out for want of width" in line]
    assert len({line.index("┃") for line in lines if "┃" in line}) == 1
    assert len({len(line) for line in lines if line.startswith("│")}) == 1  # all tables alike
    assert bool(told) == bool(missing)
    if width is None or width >= 160:
        assert not missing


def test_the_least_important_columns_are_left_out_first():
    order = [
        "server s",
        "client s",
        "ECE %",
        "rounds",
        "shared px",
        "worst client %",
        "down/client",
        "up/client",
    ]
    found, counts = rows([record("a")]), set()
    for width in range(30, 160, 5):
        (table,) = tables.to_terminal(found, width)
        shown = {column.header for column in table.columns}
        missing = [name for name in order if name not in shown]
        assert missing == order[: len(missing)]
        counts.add(len(missing))
    assert counts == set(range(len(order) + 1))


def test_a_wide_name_folds_instead_of_hiding_the_numbers():
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    for table in tables.to_terminal(rows([record("m" * 100, accuracy=0.125)]), 80):
        console.print(table)
    text = console.export_text()
    assert "12.50" in text
    assert text.count("m") >= 100


def test_files_have_no_seconds():
    found = rows([record("a")])
    for row in found:
        row.values["client_seconds"] = 12345.0
    assert "12,345" not in tables.to_markdown(found)
    assert "12345" not in tables.to_csv(found)


def test_the_mean_over_clients_views_has_a_column_where_any_row_has_it():
    plain, skewed = record("fedavg"), [record("ensemble", seed=seed) for seed in (0, 1)]
    for one, views in zip(skewed, (0.25, 0.35), strict=True):
        one.metrics["domain_mean"] = views
    assert "domains %" not in tables.to_markdown(rows([plain]))
    found = rows([plain, *skewed])
    text = tables.to_markdown(found)
    assert "domains %" in text
    assert "30.00 ± 7.07" in next(line for line in text.splitlines() if "ensemble" in line)
    assert values(found, "fedavg")["domain_mean"] is None
    assert values(found, "ensemble")["domain_std"] == pytest.approx(0.0707, abs=1e-4)
    assert ",0.3000,0.0707," in tables.to_csv(found)
