"""What a sweep is asked for: narrowed for one call, and never at the cost of the plan."""

import pytest
from PIL import Image

from fedbench.bench.records.record import Record, record_path, write_record
from fedbench.bench.suites.order import outdated, read_order
from fedbench.bench.suites.planfile import plan_path, write_plan
from fedbench.bench.suites.selection import parse_only
from fedbench.bench.suites.suite import nest
from fedbench.errors import SettingsError

SUITE = """
name: small
fixed: {dataset: digits, model: {name: convnet, width: 4}}
axes:
  beta: [0.1, 0.5]
  method: [local, ensemble]
profiles:
  quick: {seeds: 2}
  other: {seeds: 1, fixed: {recipe: {epochs: 3}}}
"""


@pytest.fixture
def ask(home, tmp_path):
    """Read an order as a sweep does, and write its plan."""
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)

    def run(profile=None, seeds=None, only=(), over=()):
        order = read_order(
            path,
            home,
            profile=profile,
            seeds=seeds,
            overrides=[nest(place, value) for place, value in over],
            wishes=parse_only(only),
        )
        write_plan(plan_path(home, "small"), order.plan)
        return order

    return run


def keep(home, entry, **data):
    record = Record(
        cell_id=entry.cell_id,
        status="ok",
        suite="small",
        settings=entry.settings,
        versions={},
        data={"classes": ["a"], **data},
        metrics={"accuracy": 0.5},
        partition={"histogram": [[1]]},
    )
    write_record(record_path(home, "small", entry.cell_id), record)


def seeds_of(order):
    return sorted({entry.settings["seed"] for entry in order.plan.cells})


def test_only_narrows_the_call_and_not_the_plan(ask):
    order = ask(only=["method=local", "beta=0.1"])
    assert len(order.plan.cells) == 8
    assert {order.cells[name].cell.method.name for name in order.chosen} == {"local"}
    assert len(order.chosen) == 2


def test_fewer_seeds_narrow_the_call_and_more_widen_the_plan(ask, home):
    one = ask(seeds=1)
    assert seeds_of(one) == [0, 1]
    assert {order.cell.seed for name, order in one.cells.items() if name in one.chosen} == {0}
    assert seeds_of(ask(seeds=4)) == [0, 1, 2, 3]
    for entry in one.plan.cells[:1]:
        keep(home, entry)
    more = ask(seeds=4)
    finished = next(entry for entry in more.plan.cells if entry.settings["seed"] == 3)
    keep(home, finished)
    # What is finished stays in the plan, what was never computed does not.
    back = ask()
    assert seeds_of(back) == [0, 1, 3]
    assert [entry for entry in back.plan.cells if entry.settings["seed"] == 3] == [finished]
    assert seeds_of(ask()) == [0, 1, 3]


def test_settings_laid_over_all_cells_make_another_plan_that_says_so(ask, home):
    first = ask(seeds=3)
    for entry in first.plan.cells[:3]:
        keep(home, entry)
    over = ask(over=[("recipe.epochs", 3)])
    assert over.plan.overrides == {"recipe": {"epochs": 3}}
    assert not {entry.cell_id for entry in over.plan.cells} & first.cells.keys()
    assert seeds_of(over) == [0, 1]
    assert len(over.forgotten) == 3
    again = ask()
    assert not again.forgotten
    assert len(ask(profile="other").forgotten) == 3


def test_a_plan_that_cannot_be_read_is_written_anew(ask, home):
    plan_path(home, "small").parent.mkdir(parents=True)
    plan_path(home, "small").write_text("{")
    assert len(ask().plan.cells) == 8


def test_records_of_other_data_files_are_outdated(ask, home, tmp_path):
    order = ask()
    first, second, third = order.plan.cells[:3]
    from fedbench.bench.cells.lookup import data_digest
    from fedbench.federation.resources import Folders

    now = data_digest(order.cells[first.cell_id].cell.data, Folders(tmp_path, home))
    keep(home, first, sources=now)
    keep(home, second, sources="others")
    keep(home, third)
    assert outdated(order, home, tmp_path) == {second.cell_id, third.cell_id}


def test_records_of_another_picture_are_outdated(ask, home, tmp_path):
    order = ask()
    first, second, third = order.plan.cells[:3]
    from fedbench.bench.cells.lookup import data_digest
    from fedbench.federation.resources import Folders, digests

    folders = Folders(tmp_path, home)
    now = data_digest(order.cells[first.cell_id].cell.data, folders)
    picture = tmp_path / "own.png"
    Image.new("RGB", (32, 32)).save(picture)
    name = f"picture:{picture}"
    gone = {
        f"picture:{tmp_path / 'gone.png'}": "of a file that is not here",
        "odd:x": "of a kind that nobody knows here",
        "dataset:nope": "of a data set that nobody knows here",
    }
    keep(home, first, sources=now, resources=digests([name], folders))
    keep(home, second, sources=now, resources={name: "of another picture"})
    keep(home, third, sources=now, resources=gone)
    assert outdated(order, home, tmp_path) == {second.cell_id}
    Image.new("RGB", (32, 32), "red").save(picture)
    assert outdated(order, home, tmp_path) == {first.cell_id, second.cell_id}


def test_a_sweep_of_no_seed_is_refused(ask):
    with pytest.raises(SettingsError, match="seeds = 0; ask for 1 at least"):
        ask(seeds=0)


def test_a_wrong_combination_is_said_with_its_line_and_a_wrong_override_without(ask, tmp_path):
    with pytest.raises(SettingsError, match='"lr": -1'):
        ask(over=[("recipe.lr", -1)])
    path = tmp_path / "small.yaml"
    path.write_text(SUITE.replace("epochs: 3", "epochs: -3"))
    assert ask().plan.profile == "quick"  # the other profile's fault is not in the way
    with pytest.raises(SettingsError, match=rf"^{path}:9:38: profiles.other.fixed.recipe.epochs: "):
        ask(profile="other")
    path.write_text(SUITE.replace("  beta: [0.1, 0.5]\n  method: [local, ensemble]", "  {}"))
    with pytest.raises(SettingsError, match="method: is needed"):
        ask()
