"""The page over all boards says where each best contender is best."""

from __future__ import annotations

from figure_boards import board, record

from fedbench.report import overview


def best(*records):
    return overview.entry("toy", board(records)).best


def test_blocks_are_named_by_data_and_axes_as_people_write_them():
    made = [record("dense", beta=b, dataset=name) for name in ("a", "b") for b in (0.5, 1.0)]
    assert best(*made) == (
        "a β=0.5: dense 50.00",
        "a β=1: dense 50.00",
        "b β=0.5: dense 50.00",
        "b β=1: dense 50.00",
    )


def test_blocks_that_no_axis_tells_apart_are_named_by_what_does():
    made = [record("dense", epochs=epochs) for epochs in (5, 9)]
    assert best(*made) == ("recipe.epochs=5: dense 50.00", "recipe.epochs=9: dense 50.00")
    made = [record("dense", epochs=epochs, beta=epochs / 10) for epochs in (5, 9)]
    assert best(*made) == ("β=0.5: dense 50.00", "β=0.9: dense 50.00")


def test_networks_are_named_as_one_says_them():
    made = [record("dense", width=width) for width in (4, 8)]
    assert best(*made) == ("convnet-w4-d3: dense 50.00", "convnet-w8-d3: dense 50.00")


def test_rows_of_the_very_same_mean_are_all_named_the_cheapest_first():
    made = [record("dense", sent=2000), record("union", sent=1000), record("local", accuracy=0.9)]
    assert best(*made) == ("union and dense 50.00",)


def test_rows_that_lack_seeds_are_not_the_best_and_on_no_front():
    made = [record("dense", seed=seed) for seed in (0, 1, 2)]
    made += [record("union", seed=seed, accuracy=0.4) for seed in (0, 1, 2)]
    made.append(record("lucky", seed=0, accuracy=0.9))
    assert best(*made) == ("dense 50.00",)
    shown = overview.fronts({"toy": board(made)}, "")
    assert "lucky" not in shown
    assert "dense 50.00" in shown


def test_eight_blocks_are_all_named_and_controls_alone_are_said():
    made = [
        record("dense", beta=beta, clients=clients, epochs=epochs)
        for beta in (0.1, 0.5)
        for clients in (5, 10)
        for epochs in (5, 9)
    ]
    assert len(best(*made)) == len(set(best(*made))) == 8
    assert best(*made, record("dense", beta=0.9))[8:] == ("and 1 more block",)
    assert best(record("local")) == ("no contender",)


def test_the_page_names_each_value_for_narrow_windows():
    entries = [overview.entry(name, board([record("<b>")])) for name in ("one", "two")]
    page = overview.page(entries)
    assert "2 boards of 2 records" in page
    assert page.count('data-name="Seeds"') == 2
    assert "<b>" not in page
