"""Published numbers: the files are sound, and a comparison names what differs."""

import csv
import io

import pytest
from made_records import board_of, record

from fedbench.config import Cell
from fedbench.data.schemes import SCHEMES
from fedbench.data.specs import DATASETS
from fedbench.errors import StoreError
from fedbench.methods import METHODS
from fedbench.report import published
from fedbench.report.comparisons import comparisons, to_published_csv
from fedbench.report.paper.build import choose, documents_of
from fedbench.report.paper.pool import group
from fedbench.report.paper.spec import read_sources
from fedbench.report.published import read_numbers

EVERY = [number for lines in read_numbers().values() for number in lines]
NUMBERS = [number for number in EVERY if number.metric == "accuracy"]
FACTS = {"model", "model.width", "model.depth", "model.norm", "local_epochs"}

HEAD = ",".join(published.FILE_COLUMNS[:-1])


def folder_with(tmp_path, *lines, head=HEAD):
    (tmp_path / "some.csv").write_text("\n".join([head, *lines]) + "\n")
    return tmp_path


def line(
    method="fedavg",
    *,
    preset="",
    accuracy="0.4",
    n="3",
    split="dirichlet_capped",
    selection="last",
    where="partition.beta=0.1",
    theirs="",
    note="",
):
    first = f"{method},{preset},digits,a setting,{accuracy},0.01,{n},{split},{selection}"
    return f"{first},Somebody 2020,{where},{theirs},{note}"


def compared(tmp_path, text, *records):
    (found,) = comparisons(board_of(records), folder_with(tmp_path, text))
    return found


def seeds(method="fedavg", accuracy=0.5, **settings):
    return [record(method, seed, accuracy, profile="paper", **settings) for seed in range(3)]


def test_the_headline_numbers_are_there():
    def values(method, dataset, **wanted):
        return {
            number.accuracy
            for number in NUMBERS
            if (number.method, number.dataset) == (method, dataset)
            and all(number.where.get(name.replace("_", ".")) == v for name, v in wanted.items())
        }

    assert {0.748, 0.764, 0.732, 0.686, 0.417} <= values("single_image", "cifar10")
    assert {0.732, 0.713, 0.665} <= values("feddf", "cifar10")
    assert values("collabdm", "svhn", partition_beta="0.1") == {0.8583}
    # DENSE with its rival Fed-DAFL, in its own paper, Co-Boosting's and FedLPA's.
    assert values("dense", "svhn", partition_beta="0.1") == {0.5534, 0.5323, 0.1943}
    cifar10 = values("dense", "cifar10", partition_beta="0.1")
    assert cifar10 == {0.5026, 0.4734, 0.478, 0.4632, 0.1993}
    assert {0.6661, 0.7648, 0.9582} <= values("dense", "mnist", partition_clients="5")
    assert values("co_boosting", "cifar10") == {0.472, 0.5709, 0.7024}
    assert values("ensemble", "cifar10", partition_beta="0.5") == {0.7181, 0.7991}
    assert {0.3093, 0.4367} <= values("fedavg", "cifar10", partition_beta="0.5", method_rounds="1")
    assert {0.2843, 0.4095, 0.3761, 0.4457, 0.5343} == values("trajectory_matching", "cifar10")
    assert {0.1654, 0.2157, 0.3136, 0.4006, 0.456} == values("base_images", "cifar10")
    assert {0.5662, 0.6626, 0.6908} == values("fedavg", "cifar10", method_rounds="20")
    assert {0.905, 0.639, 0.804, 0.683, 0.646, 0.558, 0.438} <= values("deep_inversion", "cifar10")


def test_numbers_that_were_recalled_and_not_seen_are_not_there():
    assert not [number for number in NUMBERS if "recall" in number.source + number.note]
    distilled = [number for number in NUMBERS if number.method == "trajectory_matching"]
    assert not [number for number in distilled if number.accuracy > 0.54]


def test_settings_that_a_source_does_not_state_are_not_its_settings():
    shards = [number for number in NUMBERS if "Epple" in number.source]
    assert len(shards) == 13
    for number in shards:
        assert "partition.validation" not in number.theirs
        expected = "inferred" if number.method == "fedavg" else "of unknown size"
        assert expected in number.note


def test_the_learning_rate_of_logged_runs_is_theirs():
    logged = [n for n in NUMBERS if "run logs" in n.source and "local_epochs" in n.theirs]
    rates = {n.theirs.get("recipe.lr") for n in logged if n.method in ("feddf", "single_image")}
    assert rates == {"0.01"}
    assert {n.theirs["recipe.lr"] for n in logged if "rate .001" in n.setting} == {"0.001"}


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number.method}-{number.dataset}")
def test_a_number_can_be_matched_and_cited(number):
    parts = Cell.model_fields
    for name in [*number.where, *number.theirs]:
        part, _, option = name.partition(".")
        if part == "method":
            known = [m for m in METHODS.names() if m == number.method]
            fields = {f for m in known for f in METHODS.get(m).Config.model_fields}
            assert option.partition(".")[0] in (fields or {"rounds", "epochs"}), name
        elif name not in FACTS:
            assert part in parts, name
            if option:
                kind = parts[part].annotation
                kind = kind if hasattr(kind, "model_fields") else kind.__args__[0]
                schemes = [SCHEMES.get(s).settings for s in SCHEMES.names()]
                kinds = schemes if part == "partition" else [kind]
                assert any(option in kind.model_fields for kind in kinds), name
    if "partition.beta" in number.where and number.split in SCHEMES.names():
        assert "beta" in SCHEMES.get(number.split).parameters
    if number.dataset in DATASETS.names() and number.split not in SCHEMES.names():
        assert number.split == published.NOT_SPLIT or " " in number.split
    assert number.std is None or number.std < 0.05
    assert number.source.count(" ") >= 2


def test_no_number_stands_twice():
    keys = [(n.method, n.dataset, n.setting, n.split, n.source, str(n.where)) for n in NUMBERS]
    assert len(set(keys)) == len(keys)


def test_a_comparable_row_has_the_difference_and_no_reason_where_nothing_differs(tmp_path):
    found = compared(tmp_path, line(), *seeds())
    assert found.row.values["method"] == "fedavg"
    assert found.difference == pytest.approx(0.1)
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("number", "settings", "reason"),
    [
        ({"split": "floor_per_class"}, {}, "split dirichlet_capped (paper: floor_per_class)"),
        ({"selection": "best"}, {}, "accuracy of the last step (paper: best on test)"),
        (
            {"selection": "unknown"},
            {},
            "accuracy of the last step (paper: best or last: not stated)",
        ),
        ({"n": "2"}, {}, "n 3 (paper: 2)"),
        ({"n": ""}, {}, "n 3 (paper: not stated)"),
        ({"theirs": "model=resnet8"}, {}, "model convnet (paper: resnet8)"),
        ({"theirs": "model.width=128"}, {}, "width 32 (paper: 128)"),
        (
            {"theirs": "local_epochs=400"},
            {"recipe": {"epochs": 20}, "options": {"epochs": None}},
            "local epochs 20 (paper: 400)",
        ),
        (
            {"theirs": "local_epochs=400"},
            {"recipe": {"epochs": 20}, "options": {"epochs": 2}},
            "local epochs 2 (paper: 400)",
        ),
        (
            {"theirs": "participation=0.4"},
            {"participation": 1.0},
            "participation 1.0 (paper: 0.4)",
        ),
        ({"theirs": "participation=0.4"}, {}, "participation 1.0 (paper: 0.4)"),
        (
            {},
            {"data": {"name": "digits", "train_size": 100}},
            "training images 100 (paper: all)",
        ),
        ({"note": "the code differs"}, {}, "the code differs"),
    ],
)
def test_each_thing_that_differs_is_a_reason(tmp_path, number, settings, reason):
    assert compared(tmp_path, line(**number), *seeds(**settings)).reasons == (reason,)


@pytest.mark.parametrize(
    ("preset", "reasons"),
    [
        ("reference", ()),
        ("fedbench", ("preset fedbench (paper: reference)",)),
        (None, ("preset none (paper: reference)",)),
    ],
)
def test_another_preset_is_a_reason(tmp_path, preset, reasons):
    found = compared(tmp_path, line(preset="reference"), *seeds(preset=preset))
    assert found.reasons == reasons


def test_withheld_images_are_a_reason_where_the_paper_trains_on_all(tmp_path):
    made = seeds(partition={"validation": 0.1})
    found = compared(tmp_path, line(split="not split"), *made)
    assert found.reasons == ("share held out 0.1 (paper: 0)",)
    folder = tmp_path / "divided"
    folder.mkdir()
    assert compared(folder, line(), *made).reasons == ()


@pytest.mark.parametrize(("pixels", "matches"), [(10 * 16 * 16 * 2, True), (5000, False)])
def test_a_budget_in_pixels_is_one_in_images_per_class(tmp_path, pixels, matches):
    made = [record("random_real", seed, ipc=2, profile="paper") for seed in range(3)]
    for one in made:
        one.settings["budget"] = {"ipc": None, "pixels": pixels, "scope": "total"}
    text = line("random_real", where="budget.ipc=2 budget.scope=total")
    assert (compared(tmp_path, text, *made).row is not None) == matches


def board_with(cells):
    """Return the board of one record for each of several cells of CIFAR-10's tables."""
    made = []
    for place, (method, preset, options) in enumerate(cells):
        one = record(method, preset=preset, options=options, cell_id=str(place))
        one.settings["data"] = {"name": "cifar10", "train_size": 5000}
        made.append(one)
    return board_of(made)


def test_a_number_of_a_table_has_the_row_and_the_deviations_of_its_cell():
    """Clients, networks and steps are the table's own words; the preset is the released code's."""
    board = board_with([("dense", "fedbench", {"epochs": 12, "steps": 15})])
    groups, sources = group("toy", board.good), choose(read_sources(), "dense")
    found = {(c.published.source, c.published.setting): c for c in comparisons(board) if c.row}
    cells = [
        (number, filled)
        for sheet in documents_of(sources, groups)[0].sheets
        for filled in sheet.cells
        for number in filled.numbers
        if filled.ours
    ]
    assert cells
    for number, filled in cells:
        own = found[number.source, number.setting]
        assert own.reasons[: len(filled.deviations)] == tuple(map(str, filled.deviations))
        paper = "preset" if number.source.startswith("FedLPA") else "paper"  # states no steps
        assert f"steps 15 ({paper}: 30)" in own.reasons


def test_why_nothing_stands_beside_a_number_of_a_table_is_told():
    several = [("single_image", None, {"rounds": 1})]
    missing = {c.reasons[0] for c in comparisons(board_with(several)) if c.row is None}
    assert "not run: no dense (fed_dafl) with partition.beta=0.1" in missing


def test_that_a_setting_is_unset_is_told_only_where_rows_have_it_set():
    """DENSE's table is not of the split that its code draws with a seed."""

    def told(**partition):
        split = {"scheme": "dirichlet_capped", "clients": 5, "beta": 0.3, **partition}
        of_mnist = {"data": {"name": "mnist"}, "partition": split}
        own = record("fedavg", preset="one_shot", options={"rounds": 1}, **of_mnist)
        found = comparisons(board_of([own]))
        (one,) = [c for c in found if c.published.setting == "one-shot FedAvg: 5 clients, α=0.3"]
        return one

    assert told().row is not None
    wanted = "not run: no fedavg (one_shot) with method.rounds=1 partition.beta=0.3"
    assert told(beta=0.1).reasons == (wanted,)
    unset = "partition.legacy_seed=unset method.rounds=1 partition.beta=0.3"
    assert told(legacy_seed=1).reasons == (wanted.split(" with ")[0] + f" with {unset}",)


@pytest.mark.parametrize(
    "records",
    [
        [],
        seeds(beta=0.5),
        seeds("local"),
        seeds(data={"name": "mnist"}),
    ],
)
def test_what_is_not_comparable_is_not_run(tmp_path, records):
    found = compared(tmp_path, line(), *records, record("ensemble"))
    assert (found.row, found.difference) == (None, None)
    assert found.reasons == ("not run: no fedavg with partition.beta=0.1",)


def test_a_line_with_more_values_than_columns_is_refused(tmp_path):
    """As of a note with a comma that nobody put in quotes."""
    folder = folder_with(tmp_path, line(note="one, two"))
    with pytest.raises(StoreError, match="line 2: more values than columns"):
        read_numbers(folder)


def test_a_line_with_fewer_values_than_columns_is_refused(tmp_path):
    folder = folder_with(tmp_path, line().removesuffix(","))
    with pytest.raises(StoreError, match="line 2: fewer values than columns"):
        read_numbers(folder)


def test_equal_numbers_are_equal_however_they_are_written(tmp_path):
    found = compared(tmp_path, line(where="partition.beta=1e-1 partition.clients=5.0"), *seeds())
    assert found.row is not None


def test_of_several_rows_the_nearest_is_taken(tmp_path):
    far = seeds(accuracy=0.9, recipe={"epochs": 1})
    near = seeds(accuracy=0.3, recipe={"epochs": 400})
    for order in ((*far, *near), (*near, *far)):
        found = compared(tmp_path, line(theirs="recipe.epochs=400"), *order)
        assert found.row.values["accuracy_mean"] == pytest.approx(0.3)
    named = seeds(accuracy=0.2, preset="one_shot", options={"rounds": 1})
    found = compared(tmp_path, line(preset="one_shot"), *near, *named)
    assert found.row.values["accuracy_mean"] == pytest.approx(0.2)


def test_a_preset_that_is_another_thing_stands_beside_itself_alone(tmp_path):
    """DAFL in DENSE's loop is not DENSE, and one-shot FedAvg is not FedAvg of many rounds."""
    text = (line("dense", accuracy="0.6"), line("dense", preset="fed_dafl", accuracy="0.5"))
    folder = folder_with(tmp_path, *text)
    dense = seeds("dense", 0.4, preset="fedbench")
    dafl = seeds("dense", 0.3, preset="fed_dafl", options={"steps": 3})
    found = comparisons(board_of([*dafl, *dense]), folder)
    assert [one.row.values["accuracy_mean"] for one in found] == pytest.approx([0.4, 0.3])
    first, second = comparisons(board_of(dense), folder)
    assert (first.published.preset, second.published.preset) == (None, "fed_dafl")
    assert second.row is None
    assert second.reasons == ("not run: no dense (fed_dafl) with partition.beta=0.1",)
    (found,) = [one for one in comparisons(board_of(dafl), folder) if one.row]
    assert found.published.preset == "fed_dafl"


def test_only_numbers_of_the_boards_data_sets_and_those_with_a_row_first(tmp_path):
    text = (line("dense"), line(), line().replace("digits", "svhn"))
    found = comparisons(board_of(seeds()), folder_with(tmp_path, *text))
    assert [comparison.published.method for comparison in found] == ["fedavg", "dense"]


def test_the_csv_has_every_number_and_its_reasons(tmp_path):
    text = (line(selection="best", n="2"), line("dense"))
    found = comparisons(board_of(seeds()), folder_with(tmp_path, *text))
    ours, none = csv.DictReader(io.StringIO(to_published_csv(found)))
    assert (ours["published"], ours["ours"], ours["difference"]) == ("0.4", "0.5000", "0.1000")
    assert ours["reasons"] == "accuracy of the last step (paper: best on test); n 3 (paper: 2)"
    assert (none["method"], none["ours"], none["difference"]) == ("dense", "", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (line(accuracy="74.8"), r"line 2: accuracy 74.8 is not in \[0, 1\]"),
        (line(accuracy="much"), "line 2: could not convert"),
        (line(selection="mean"), "line 2: selection 'mean'"),
        (line(method=""), "line 2: method must not be empty"),
        (line(where="beta"), "line 2: 'beta' is not written name=value"),
        ("fedavg,,digits", "line 2: "),
    ],
)
def test_a_damaged_line_is_named(tmp_path, text, message):
    with pytest.raises(StoreError, match=message):
        read_numbers(folder_with(tmp_path, text))


def test_a_foreign_file_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(StoreError, match="no published numbers"):
        read_numbers(tmp_path)
    with pytest.raises(StoreError, match="head line"):
        read_numbers(folder_with(tmp_path, head="a,b"))


def test_numbers_of_other_metrics_stand_beside_no_row():
    others = [number for number in EVERY if number.metric != "accuracy"]
    assert {number.metric for number in others} == {"local_gain", "local_base", "local_distilled"}
    assert {0.1649, 0.1329, 0.216, 0.2038, 0.164} == {
        number.accuracy for number in others if number.metric == "local_gain"
    }


def test_what_a_suite_overrides_is_named_unless_the_source_states_it(tmp_path):
    settings = {"lr": 0.05, "width": 64, "steps": 15}
    ours = [record("dense", seed, preset="fedbench", options=settings) for seed in range(3)]
    found = compared(tmp_path, line("dense", theirs="method.steps=15"), *ours)
    assert [reason for reason in found.reasons if "preset" in reason] == ["lr 0.05 (preset: 0.005)"]
    found = compared(tmp_path, line("dense", theirs="method.steps=30 method.lr=0.05"), *ours)
    assert "steps 15 (paper: 30)" in found.reasons
    assert not any("preset" in reason for reason in found.reasons)
