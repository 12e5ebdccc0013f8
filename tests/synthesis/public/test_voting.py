"""Steps over rounds, weights of clients, bad teachers, and the best snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedbench.federation.client import ClientInfo
from fedbench.models.settings import Model
from fedbench.synthesis.public.schedule import StepSchedule
from fedbench.synthesis.public.voting import Best, client_weights, keep_best_teachers

SAME = {"size": 10, "largest": 10}


def test_si_6_a_cosine_peaks_in_the_first_and_in_every_periods_round():
    schedule = StepSchedule(kind="cosine", fewest=100, period=5)
    steps = [schedule.steps(500, round, **SAME) for round in range(1, 11)]
    assert steps == [500, 300, 158, 100, 500, 441, 300, 158, 100, 500]


@given(period=st.integers(1, 6), round=st.integers(1, 40), most=st.integers(0, 600))
def test_si_6_steps_stay_between_fewest_and_most(period, round, most):
    schedule = StepSchedule(kind="cosine", fewest=100, period=period)
    assert min(100, most) <= schedule.steps(most, round, **SAME) <= most


def test_si_6_a_period_of_one_stays_at_the_peak():
    schedule = StepSchedule(kind="cosine", period=1)
    assert {schedule.steps(500, round, **SAME) for round in range(1, 9)} == {500}


@pytest.mark.parametrize("size", [78_042, 272_474, 2_748_890])
def test_the_largest_architecture_makes_all_steps(size):
    schedule = StepSchedule(by_size=True)
    assert [schedule.steps(most, 2, size=size, largest=size) for most in range(1, 1001)] == list(
        range(1, 1001)
    )


def test_larger_architectures_make_more_steps_where_size_counts():
    schedule = StepSchedule(by_size=True, fewest=100)
    sizes = (78_042, 272_474, 2_748_890)
    steps = [schedule.steps(500, 3, size=size, largest=sizes[-1]) for size in sizes]
    assert steps == sorted(steps)
    assert steps[-1] == 500
    assert 100 < steps[0] < 450
    assert StepSchedule().steps(500, 3, size=sizes[0], largest=sizes[-1]) == 500


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [("uniform", [1, 1]), ("samples", [130, 64]), ("batches", [3, 1])],
)
def test_weights_of_clients(weighting, expected):
    clients = [ClientInfo(0, 130, Model()), ClientInfo(1, 64, Model())]
    assert client_weights(clients, weighting, 64) == expected


@pytest.mark.parametrize(
    ("accuracies", "kept"),
    [
        ([0.6, 0.5, 0.11, 0.55], [0, 1, 3]),  # one is near chance
        ([0.6, 0.5, 0.52, 0.51, 0.2], [0, 1, 2, 3]),  # one lies far below the others
        ([0.6, 0.5, 0.55], [0, 1, 2]),
        ([0.05, 0.1, 0.08], [1]),  # the best stays, however bad
        ([0.3], [0]),
    ],
)
def test_bad_teachers_are_dropped(accuracies, kept):
    assert keep_best_teachers(accuracies, classes=10) == kept


class Judge:
    """A server that validates by a list of answers."""

    def __init__(self, answers):
        self.answers = list(answers)

    def validate(self, net):
        return self.answers.pop(0)


def judged(answers, *, every=5, steps=20, patience=None, rule="single_image", start=False):
    net = nn.Linear(1, 1, bias=False)
    best, stopped = Best(Judge(answers), net, every, steps, patience, rule), None
    if start:
        nn.init.constant_(net.weight, 0)
        best.measure(0)
    for step in range(1, steps + 1):
        nn.init.constant_(net.weight, step)
        if best(step):
            stopped = step
            break
    return best, stopped, best.state["weight"].item()


def test_the_best_snapshot_is_kept_and_ties_go_to_the_later_one():
    best, stopped, kept = judged([0.1, 0.5, 0.7, 0.7, 0.6])
    assert (best.accuracy, stopped, kept) == (0.7, None, 15)


def test_a_student_stops_when_patience_is_out():
    _, stopped, kept = judged([0.9, 0.5, 0.5, 0.5], patience=10)
    assert (stopped, kept) == (11, 1)


def test_the_last_step_is_validated_whatever_the_interval():
    assert judged([0.1, 0.2, 0.9], every=15, steps=17)[2] == 17


def test_feddf_validates_multiples_alone_and_keeps_the_first_of_equals():
    """Not the first step, whose student has hardly learnt, and not the last, 22."""
    best, stopped, kept = judged([0.5, 0.7, 0.7, 0.6], steps=22, rule="feddf")
    assert (best.accuracy, stopped, kept) == (0.7, None, 10)
    assert judged([0.5] * 4, steps=22, rule="feddf")[2] == 5
    assert judged([0.5] * 6, steps=22)[2] == 22


def test_feddf_stops_at_a_validation_only():
    assert judged([0.9, 0.5, 0.5, 0.5], patience=7, rule="feddf")[1:] == (15, 5)


def test_feddf_takes_its_start_only_where_that_is_better():
    assert judged([0.5, 0.5, 0.5, 0.5, 0.5], rule="feddf", start=True)[2] == 5
    assert judged([0.6, 0.5, 0.5, 0.5, 0.5], rule="feddf", start=True)[2] == 0
