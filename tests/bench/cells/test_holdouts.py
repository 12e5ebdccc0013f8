"""A method that measures itself on hold-outs nobody has is refused before anybody trains."""

from dataclasses import replace

import numpy as np
import pytest

import fedbench.bench.cells.cell as module
from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.holdouts import check_hold_outs
from fedbench.bench.suites.plan import planned
from fedbench.data.partition import ClientSplit
from fedbench.errors import PartitionError
from fedbench.federation.client import Client

ONE_EACH = {
    "data": {"train_size": 30},
    "partition": {"scheme": "iid", "clients": 30, "validation": 0.2},
}
WORDS = ["needs a hold-out", "none of the 30 clients", "share 30 images", "0.2", "at most 15"]


def fedavg(validation):
    return {"name": "fedavg", "rounds": 1, "validation": validation}


@pytest.mark.parametrize("validation", ["poll", "pooled"])
def test_where_settings_tell_the_plan_says_so(tiny, validation):
    reason = planned(tiny(fedavg(validation), **ONE_EACH)).skip
    for word in [*WORDS, repr(validation)]:
        assert word in reason


def test_what_may_have_a_hold_out_is_planned(tiny):
    for over in (
        {"partition": {**ONE_EACH["partition"], "clients": 29}, "data": {"train_size": 30}},
        {  # one client may get two images
            "data": {"train_size": 30},
            "partition": {"scheme": "dirichlet", "clients": 30, "min_size": 0, "validation": 0.2},
        },
        {**ONE_EACH, "data": {"train_size": 31}},
    ):
        assert planned(tiny(fedavg("poll"), **over)).skip is None
    assert planned(tiny(fedavg("none"), **ONE_EACH)).skip is None


@pytest.mark.parametrize("validation", ["poll", "pooled"])
def test_where_the_draw_tells_the_cell_fails_before_anybody_trains(
    tiny, runtime, monkeypatch, validation
):
    drawn = module.split

    def without(*args):
        """Return the draw as if every client had a single image."""
        return replace(drawn(*args), validation=(np.empty(0, np.int64),) * 3)

    def train(self, *args, **options):
        pytest.fail("a client trains")

    monkeypatch.setattr(module, "split", without)
    monkeypatch.setattr(Client, "train_classifier", train)
    cell = tiny(fedavg(validation), partition={"validation": 0.2})
    record = run_cell(cell, runtime, suite="test")
    assert record.status == "failed"
    assert record.reason.startswith("PartitionError: validation")
    for word in ("none of the 3 clients", "120 images", "0.2", "at most 60", repr(validation)):
        assert word in record.reason


def test_one_hold_out_is_enough_and_without_validation_none_is_needed(tiny):
    empty, one = np.empty(0, np.int64), np.zeros(1, np.int64)
    histogram = np.ones((3, 10), np.int64)
    held = {"partition": {"validation": 0.2}}
    some = ClientSplit((one,) * 3, (empty, one, empty), histogram, "")
    none = replace(some, validation=(empty,) * 3)
    check_hold_outs(tiny(fedavg("poll"), **held), some)
    check_hold_outs(tiny(fedavg("none")), none)
    with pytest.raises(PartitionError, match="share 30 images"):
        check_hold_outs(tiny(fedavg("poll"), **held), none)


def test_a_cell_in_which_some_have_none_runs(compute):
    """Of 45 images for 30 clients half the clients have two, of which they hold out one."""
    over = {"data": {"train_size": 45}, "recipe": {"epochs": 1}}
    partition = {"scheme": "iid", "clients": 30, "validation": 0.2}
    record = compute(fedavg("poll"), partition=partition, **over)
    assert sorted(set(record.partition["hold_outs"])) == [0, 1]
