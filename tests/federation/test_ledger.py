import time

import pytest

from fedbench.federation.ledger import Clock, Ledger


def test_an_inner_side_stops_the_outer_one(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fedbench.federation.ledger.time.perf_counter", lambda: now[0])
    ledger = Ledger()
    clock = Clock(ledger)
    with clock.side("server"):
        now[0] += 1
        with clock.side("client"):
            now[0] += 5
        now[0] += 1
    now[0] += 9
    assert ledger.seconds == {"client": 5, "server": 2, "harness": 0}


def test_time_outside_all_sides_is_charged_to_nobody():
    ledger = Ledger()
    clock = Clock(ledger)
    with clock.side("server"):
        pass
    time.sleep(0.05)
    with clock.side("server"):
        pass
    assert sum(ledger.seconds.values()) < 0.05


def test_seconds_are_charged_when_work_fails():
    ledger = Ledger()
    clock = Clock(ledger)

    def fail():
        with clock.side("client"):
            time.sleep(0.02)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert ledger.seconds["client"] >= 0.02


def test_shared_seconds_are_part_of_a_sides_seconds():
    ledger = Ledger()
    Clock(ledger).add_shared("client", 7.0)
    assert ledger.seconds["client"] == ledger.shared_seconds == 7.0
