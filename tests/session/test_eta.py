"""The time that is left, with cells of very different length; and how numbers are written."""

import pytest

from fedbench.errors import SettingsError
from fedbench.session.eta import Eta
from fedbench.session.words import count, duration, parse_duration, position, size


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_long_cells_count_for_what_they_are():
    clock = Clock()
    eta = Eta({"a": 100.0, "b": 1.0, "c": 1.0}, dict.fromkeys("abc", "m"), 1, clock)
    assert eta.seconds() == 102.0
    eta.finished("b", 1.0)
    assert eta.seconds() == pytest.approx(101.0)
    eta.begun("a")
    clock.now = 40.0
    assert eta.seconds() == pytest.approx(61.0)
    clock.now = 500.0  # later than expected, and never below nothing
    assert eta.seconds() == pytest.approx(1.0)


def test_several_workers_are_never_faster_than_the_longest_cell():
    eta = Eta({"a": 100.0, "b": 10.0, "c": 10.0}, dict.fromkeys("abc", "m"), 4, Clock())
    assert eta.seconds() == 100.0
    assert Eta({"a": 30.0, "b": 30.0}, {"a": "m", "b": "m"}, 2, Clock()).seconds() == 30.0


def test_estimates_that_turn_out_wrong_are_corrected():
    expected = {str(number): 10.0 for number in range(10)}
    eta = Eta(expected, dict.fromkeys(expected, "m"), 1, Clock())
    for number in range(5):
        eta.finished(str(number), 20.0)
    # (100 + 10) / (50 + 10): a tenth of the whole estimate speaks for itself.
    assert eta.seconds() == pytest.approx(50 * 110 / 60)


def test_what_is_unknown_takes_what_its_method_took():
    methods = {"a": "local", "b": "local", "c": "fedavg", "d": "fedavg", "e": "fedprox"}
    eta = Eta(dict.fromkeys("abcde"), methods, 1, Clock())
    assert eta.seconds() is None
    eta.finished("a", 5.0)
    assert eta.seconds() is None  # of four cells left, three may take anything
    eta.finished("c", 50.0)
    # b as a, d as c, and e as the mean of all that is known.
    assert eta.seconds() == pytest.approx(5 + 50 + (5 + 50 + 5 + 50) / 4)
    eta.finished("b", None)  # a failure says nothing
    eta.finished("e", 20.0)
    assert eta.seconds() == 50.0
    eta.finished("d", 1.0)
    assert eta.seconds() == 0.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("170m", 10200), ("2h", 7200), ("90s", 90), ("1h30m", 5400), ("1.5h", 5400)],
)
def test_a_length_of_time(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "1d", "m", "0s", "30m1h", "-3m"])
def test_what_is_no_length_of_time(text):
    with pytest.raises(SettingsError, match="write 170m, 2h, 90s or 1h30m"):
        parse_duration(text)


def test_numbers_as_people_read_them():
    assert [duration(value) for value in (0.4, 90, 100, 3600, 11_100)] == [
        "0 s",
        "90 s",
        "2 min",
        "60 min",
        "3 h 05 min",
    ]
    assert [size(value) for value in (0, 999, 1234, 35e6, 2.5e9, 3e12)] == [
        "0 B",
        "999 B",
        "1.2 kB",
        "35 MB",
        "2.5 GB",
        "3.0 TB",
    ]
    assert (count(1, "cell"), count(2, "cell")) == ("1 cell", "2 cells")
    assert position(2, 10, "client 3") == "round 2/10 · client 3"
    assert position(1, 1, "client 3") == position(0, 10, "client 3") == "client 3"
