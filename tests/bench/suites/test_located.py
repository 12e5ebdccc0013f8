"""What suites' YAML means, and what is too much of it."""

import pytest
import yaml

from fedbench.bench.suites.located import read_located, read_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2E+4", -20000.0),
        ("1.e2", 100.0),
        ("5", 5),
        ("1e", "1e"),
        ("'1e-3'", "1e-3"),
        ("2026-11-26", "2026-11-26"),
        ("12:30:00", 45000),
        ("yes", True),
    ],
)
def test_scalars(text, value):
    found = read_value(text)
    assert found == value
    assert type(found) is type(value)


def test_a_bomb_of_anchors_is_refused():
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(yaml.YAMLError, match="more than 100,000 values"):
        read_located("\n".join(lines))


def test_a_number_of_too_many_digits_is_refused():
    with pytest.raises(yaml.YAMLError, match="more than 400 digits"):
        read_value("1" * 5000)
