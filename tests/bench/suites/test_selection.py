"""--only: which cells one call computes."""

import pytest

from fedbench.bench.suites.selection import parse_only, select
from fedbench.errors import SettingsError

CELLS = [
    {
        "data": {"name": data},
        "partition": {"beta": beta, "clients": 5},
        "models": [{"name": "convnet", "width": 8}],
        "method": {"name": method, "preset": preset},
        "seed": seed,
    }
    for data, beta, method, preset, seed in [
        ("digits", 0.1, "fedavg", None, 0),
        ("digits", 0.1, "fedavg", "one_shot", 0),
        ("digits", 0.5, "local", None, 1),
        ("mnist", 0.5, "ensemble", None, 0),
    ]
]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["method=fedavg"], [0, 1]),
        (["method=fedavg,ensemble"], [0, 1, 3]),
        (["method=local", "method=ensemble"], [2, 3]),
        (["method=fedavg(one_shot)"], [1]),
        (["method=fedavg (one_shot)"], [1]),
        (["method.preset=one_shot"], [1]),
        (["method.preset=null"], [0, 2, 3]),
        (["beta=0.1"], [0, 1]),
        (["partition.beta=0.5", "dataset=digits"], [2]),
        (["data.name=mnist"], [3]),
        (["model=convnet", "seed=0,1"], [0, 1, 2, 3]),
        (["seed=1"], [2]),
        (["beta=1e-1"], [0, 1]),
        (["beta=.1"], [0, 1]),
        (["β=0.1", "K=5"], [0, 1]),
    ],
)
def test_cells_that_meet_all_wishes(words, chosen):
    found = select(CELLS, parse_only(words), suite="s")
    assert [number for number, wanted in enumerate(found) if wanted] == chosen


def test_cells_without_a_budget_stand_beside_those_of_any_where_asked():
    cells = [
        {**CELLS[0], "budget": None},
        {**CELLS[0], "budget": {"ipc": 1}},
        {**CELLS[0], "budget": {"ipc": 10}},
    ]
    wishes = parse_only(["ipc=10"])
    assert select(cells, wishes, suite="s") == [False, False, True]
    assert select(cells, wishes, suite="s", budgetless=True) == [True, False, True]
    with pytest.raises(SettingsError, match="there are: 1, 10"):
        select(cells, parse_only(["ipc=5"]), suite="s", budgetless=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["method=fedavgg"],
            r"did you mean 'fedavg'.*there are: fedavg, fedavg\(one_shot\), local",
        ),
        (["beta=0.2"], "no cell of suite 's' has that.*there are: 0.1, 0.5"),
        (["metod=local"], "no cell of suite 's' has such a setting.*did you mean 'method'"),
        (["method=local", "beta=0.1"], "no cell with all of: method=local beta=0.1"),
        (["beta=x: {"], "there are: 0.1, 0.5"),
    ],
)
def test_a_wish_that_nothing_meets_is_an_error(words, message):
    with pytest.raises(SettingsError, match=message):
        select(CELLS, parse_only(words), suite="s")


@pytest.mark.parametrize("word", ["method", "=x", "method=", "method=a,,b"])
def test_what_is_no_selection(word):
    with pytest.raises(SettingsError, match="selects nothing"):
        parse_only([word])


def test_spaces_are_part_of_a_value_and_a_preset_is_written_as_in_tables():
    wishes = parse_only(["data.path=photos (2), b c", "method=fedavg (one_shot)"])
    assert [wish.values for wish in wishes] == [
        ("photos (2)", "b c"),
        ("fedavg(one_shot)",),
    ]
