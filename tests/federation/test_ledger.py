import time

import pytest

from fedbench.federation.ledger import Clock, Ledger


def test_an_inner_side_stops_the_outer_one():
    ledger = Ledger()
    clock = Clock(ledger)
    with clock.side("server"):
        time.sleep(0.01)
        with clock.side("client"):
            time.sleep(0.05)
        time.sleep(0.01)
    assert ledger.seconds["client"] >= 0.05
    assert 0.02 <= ledger.seconds["server"] < ledger.seconds["client"]
    assert ledger.seconds["harness"] == 0


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
