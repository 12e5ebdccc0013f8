"""How the terminal names cells."""

import pytest

from fedbench.bench.suites.plan import planned
from fedbench.session.labels import cell_labels


@pytest.mark.parametrize(
    ("partition", "words"),
    [
        ({"scheme": "iid"}, ""),
        ({"scheme": "dirichlet", "beta": 0.1}, "β=0.1 "),
        ({"scheme": "dirichlet_per_client", "sigma": 0.5}, "β=0.5 sigma=0.5 "),
        ({"scheme": "floor_per_class", "beta": 1}, "β=1 floor=10 "),
        ({"scheme": "shards_fixed"}, "shards=2 "),
    ],
)
def test_a_label_has_what_its_scheme_uses(tiny, partition, words):
    cell = tiny({"name": "fedavg", "preset": "one_shot"}, partition=partition, seed=3)
    found = cell_labels({"x": cell.model_dump(mode="json")})
    assert found == {"x": f"fedavg (one_shot) {words}seed 3"}


def test_labels_have_what_tells_cells_apart(tiny):
    cells = [
        tiny("local"),
        tiny("local", data={"name": "mnist"}),
        tiny("random_real", budget={"ipc": 1}),
        tiny("random_real", budget={"ipc": 10}),
        tiny({"name": "fedavg", "rounds": 3}, partition={"clients": 4}),
        tiny({"name": "fedavg", "rounds": 5}, models="resnet8"),
    ]
    found = cell_labels({str(n): cell.model_dump(mode="json") for n, cell in enumerate(cells)})
    assert list(found.values()) == [
        "local digits convnet-w4-d2-instance clients=3 seed 0",
        "local mnist convnet-w4-d2-instance clients=3 seed 0",
        "random_real digits convnet-w4-d2-instance ipc=1 clients=3 seed 0",
        "random_real digits convnet-w4-d2-instance ipc=10 clients=3 seed 0",
        "fedavg (rounds=3) digits convnet-w4-d2-instance clients=4 seed 0",
        "fedavg (rounds=5) digits resnet8-w16 clients=3 seed 0",
    ]


def test_a_students_settings_are_named_for_those_that_have_one(tiny):
    cells = [
        planned(tiny("local", student={"epochs": 9})).cell,
        planned(tiny("random_real", budget={"ipc": 1}, student={"epochs": 3})).cell,
        planned(tiny("random_real", budget={"ipc": 1}, student={"epochs": 9})).cell,
    ]
    found = cell_labels({str(n): cell.model_dump(mode="json") for n, cell in enumerate(cells)})
    assert list(found.values()) == [
        "local seed 0",
        "random_real (student.epochs=3) seed 0",
        "random_real (student.epochs=9) seed 0",
    ]
