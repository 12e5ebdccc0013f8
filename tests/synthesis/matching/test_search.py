"""Searches: what is tried, found, and what a trial that fails leaves."""

from __future__ import annotations

import math

from fedbench.federation.method import Method
from fedbench.synthesis.matching.search import search


class Searching(Method):
    """Looks for the top of a parabola at its server."""

    name = "searching"
    objective = staticmethod(lambda params: -((params["x"] - 0.3) ** 2))
    found: list = []  # noqa: RUF012

    def aggregate(self, server, uploads, round):
        list(uploads)

        def suggest(trial):
            trial.suggest_float("x", 0, 1)
            trial.suggest_categorical("optimizer", ["sgd", "adam"])

        type(self).found.append(search(server, "tune", 20, suggest, type(self).objective))

    def models(self, server):
        yield "global", server.build(server.cell.models[0])


def test_a_search_comes_near_and_tries_the_same_for_the_same_seed(registered, compute):
    registered(Searching)
    Searching.found = []
    for seed in (0, 0, 1):
        compute("searching", seed=seed, evaluation={"curve_size": 30 - len(Searching.found)})
    one, again, other = Searching.found
    assert one == again
    assert one != other
    assert len(one) == 20
    assert {each.params["optimizer"] for each in one} == {"sgd", "adam"}
    best = max(one, key=lambda each: each.value)
    assert abs(best.params["x"] - 0.3) < 0.1
    # After its first ten draws the sampler looks where it has found something.
    late = [abs(each.params["x"] - 0.3) for each in one[10:]]
    assert sum(late) < sum(abs(each.params["x"] - 0.3) for each in one[:10])


def test_a_trial_that_fails_is_kept_as_such(registered, compute, monkeypatch):
    registered(Searching)
    Searching.found = []
    tried = []

    def objective(params):
        tried.append(params)
        return math.nan if len(tried) % 2 else params["x"]

    monkeypatch.setattr(Searching, "objective", staticmethod(objective))
    compute("searching")
    (found,) = Searching.found
    assert [math.isnan(each.value) for each in found] == [True, False] * 10
