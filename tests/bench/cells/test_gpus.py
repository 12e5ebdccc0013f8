"""How many workers share a GPU."""

import pytest

from fedbench.bench.cells import gpus
from fedbench.bench.cells.gpus import MOST, Seen, look, workers_each
from fedbench.errors import SettingsError

GIB = 2**30


@pytest.mark.parametrize(
    ("free", "need", "known", "cores", "expected"),
    [
        ((80,), 1, True, 16, MOST),
        ((80,), 1, True, 2, 2),
        ((80, 80), 1, True, 6, 3),
        ((80, 80), 1, True, 1, 1),
        ((8,), 2, True, 16, 2),
        ((80, 8), 2, True, 16, 2),
        ((8,), 20, True, 16, 1),
        ((80,), 1, False, 16, MOST),
        ((24,), 1, False, 16, 2),
        ((24,), 16, False, 16, 1),
        ((0,), 1, True, 16, 1),
    ],
)
def test_memory_cores_and_what_pays_bound_the_workers_of_a_card(free, need, known, cores, expected):
    seen = [Seen("a GPU", each * GIB) for each in free]
    assert workers_each(seen, need * GIB, known=known, cores=cores) == expected


def test_cards_are_asked_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(
        gpus, "_ASK", "import json, sys; print(json.dumps([[name, 7] for name in sys.argv[1:]]))"
    )
    assert look(["cuda:0", "cuda:3"]) == [Seen("cuda:0", 7), Seen("cuda:3", 7)]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise RuntimeError('all busy')", "cuda:0 cannot be used: RuntimeError: all busy"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import time; time.sleep(60)", "no answer within 0.5 seconds"),
    ],
)
def test_cards_that_do_not_answer_are_an_error_that_says_why(monkeypatch, code, words):
    monkeypatch.setattr(gpus, "_ASK", code)
    monkeypatch.setattr(gpus, "_PATIENCE", 0.5 if "sleep" in code else 60.0)
    with pytest.raises(SettingsError, match=words):
        look(["cuda:0"])
