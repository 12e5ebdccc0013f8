"""What a GPU has to do as a CPU does: equal bits, resumes, exchange, failures, company.

`pytest -m cuda tests/cuda` runs on a GPU if there is one and on the CPU otherwise, so that the
bodies are not read for the first time by a GPU; `--device cpu` and `--device cuda` say which.
"""

import json
import subprocess
import sys

import pytest
import torch
from golden_cells import CELLS, compute
from torch import nn
from torch.nn import functional

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.environment import numerics
from fedbench.bench.executors import execute
from fedbench.bench.records.compare import ACCURACY, compare
from fedbench.bench.suites.plan import planned
from fedbench.data import dsa
from fedbench.federation import kept
from fedbench.federation.artefacts import ArtefactStore
from fedbench.federation.loop import Federation
from fedbench.federation.message import Message
from fedbench.methods import METHODS
from fedbench.methods.local import Local
from fedbench.models.factory import build
from fedbench.models.settings import Model
from fedbench.seeding import isolated
from fedbench.synthesis.expansion import enlarge
from fedbench.training.determinism import settle

pytestmark = pytest.mark.cuda

TWO_ROUNDS = {"name": "fedavg", "rounds": 2, "epochs": 1}


@pytest.fixture
def gpu(device):
    """Return the device, settled as a cell settles it."""
    found = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
    settle(found)
    yield found
    settle(torch.device("cpu"))


def test_a_cell_twice_has_equal_bits(each_cell, cache, device):
    one, two = (compute(each_cell, cache, device) for _ in range(2))
    if device == "cpu" or METHODS.get(CELLS[each_cell][0]["name"]).deterministic:
        assert one == two
    else:
        assert one["bytes"] == two["bytes"]
        assert one["accuracy"] == pytest.approx(two["accuracy"], abs=ACCURACY)


@pytest.mark.parametrize("method", [TWO_ROUNDS, {"name": "ensemble"}])
def test_a_cell_that_was_killed_goes_on_to_the_same_bits(runtime, tiny, monkeypatch, method):
    whole = run_cell(tiny(method), runtime, suite="whole")
    assert whole.status == "ok", whole.traceback
    work, left = Federation._let_work, [2]

    def killed(self, *args):
        if not left[0]:
            raise SystemExit(143)
        left[0] -= 1
        work(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Federation, "_let_work", killed)
        patch.setattr("fedbench.federation.journal._PACE", 0.0)
        patch.setattr("fedbench.federation.journal._SHARE", float("inf"))
        with pytest.raises(SystemExit):
            run_cell(tiny(method), runtime, suite="killed")
    found = run_cell(tiny(method), runtime, suite="killed")
    assert found.status == "ok", found.traceback
    assert compare(whole, found) == []


def test_messages_and_states_reach_the_other_side(gpu, tmp_path):
    net = build(Model(name="convnet", width=4, depth=2), channels=1, size=16, classes=3, seed=1)
    here = {name: value.clone() for name, value in net.state_dict().items()}
    net.to(gpu)
    sent = Message.parse(Message.of_model(net).serialise()).tensors
    assert all(value.device.type == "cpu" for value in sent.values())
    assert all(torch.equal(sent[name], here[name]) for name in here)
    net.load_state_dict(dict(sent))
    store = ArtefactStore(tmp_path, numerics(gpu, "32-true", 1))
    made = store.get("toy", {}, lambda: net.state_dict())
    read = store.get("toy", {}, lambda: {})
    assert read.shared
    for found in (made.tensors, read.tensors):
        assert all(torch.equal(found[name], here[name]) for name in here)
    held = {"images": torch.ones(2, device=gpu), "labels": torch.ones(2)}
    packed = kept.pack(held, "held")
    held["images"] = torch.zeros(2)
    kept.unpack(held, packed, gpu)
    assert held["images"].device == gpu
    assert held["labels"].device.type == "cpu"


def test_artefacts_of_another_device_are_others(gpu):
    known = numerics(gpu, "32-true", 1)
    assert ("gpu" in known) == (gpu.type == "cuda")
    assert (known == numerics(torch.device("cpu"), "32-true", 1)) == (gpu.type == "cpu")


def test_a_loss_that_is_no_number_is_a_clear_failure(runtime, tiny):
    found = run_cell(tiny("local", recipe={"lr": 1e30, "epochs": 2}), runtime, suite="test")
    assert found.status == "failed"
    assert "not finite" in found.reason or "training loss became" in found.reason
    assert "lower `" in found.reason


def test_want_of_memory_names_the_card_and_what_to_lower(registered, runtime, tiny, device):
    @registered
    class Greedy(Local):
        name = "greedy"

        def client_model(self, client):
            torch.zeros(2**46, device=client.device)

    found = run_cell(tiny("greedy"), runtime, suite="test")
    assert found.status == "failed"
    assert "`recipe.batch_size`" in found.reason
    assert "--workers" in found.reason
    if device == "cuda":
        assert torch.cuda.get_device_name(0) in found.reason
        assert "GiB" in found.reason
    assert run_cell(tiny("local"), runtime, suite="test").status == "ok"


def test_the_peak_of_memory_is_recorded(runtime, tiny, device):
    found = run_cell(tiny("local"), runtime, suite="test")
    assert found.environment["device"] == device
    assert found.environment["device_name"]
    assert (found.peak_device_memory_bytes > 0) == (device == "cuda")
    assert found.deterministic


@pytest.mark.parametrize(
    "executor",
    [
        "local",
        pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.xdist_group("ray")]),
    ],
)
def test_two_workers_share_a_device_and_give_equal_bits(runtime, tiny, executor):
    if executor == "ray":
        if runtime.device == "cpu":
            pytest.skip("there is no GPU here, and tests/integration has it without one")
        pytest.importorskip("ray")
    cells = [tiny("local", seed=seed) for seed in range(2)]
    alone = {cell.cell_id: run_cell(cell, runtime, suite="alone") for cell in cells}
    found = execute(
        [planned(cell) for cell in cells],
        runtime,
        suite=executor,
        profile=None,
        workers=2,
        executor=executor,
        gpus_per_cell=0.5,
    )
    records = {record.cell_id: record for record in found}
    assert records.keys() == alone.keys()
    for name, record in records.items():
        assert record.status == "ok", record.traceback
        assert record.environment["device"] == runtime.device
        assert compare(alone[name], record) == []


def _forms(gpu):
    """Yield what our code does with gradients, by name: a function of (4, 3, 16, 16) images."""
    source = torch.Generator().manual_seed(0)
    for op in dsa.OPS:
        draw = dsa.draw((op,), 16, source)
        yield f"dsa {op}", lambda seen, draw=draw: dsa.apply(seen, draw)
        each = dsa.draw((op,), 16, source, 4)
        yield f"dsa {op} each", lambda seen, each=each: dsa.apply(seen, each)
    yield "canvases", lambda seen: enlarge(seen, 2)
    places = torch.randint(4, (64,), generator=source).to(gpu)
    yield "picked rows", lambda seen: seen.index_select(0, places)
    yield "indexed rows", lambda seen: seen[places]
    for layer in (
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ConvTranspose2d(3, 8, 4, stride=2),
        nn.Upsample(scale_factor=2),
        nn.MaxPool2d(2, 2, ceil_mode=True),
        nn.MaxPool2d(3, 2),
        nn.AvgPool2d(2),
        nn.GroupNorm(3, 3),
        nn.BatchNorm2d(3),
    ):
        with isolated(1):
            layer.to(gpu)
        yield str(layer), layer
    yield (
        "cross entropy",
        lambda seen: functional.cross_entropy(
            seen.mean((2, 3)), torch.zeros(4, dtype=torch.long, device=seen.device)
        ),
    )


def test_every_form_repeats_itself_with_its_gradient(gpu):
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)).to(gpu)
    for name, form in _forms(gpu):
        found = []
        for _ in range(5):
            learnt = images.clone().requires_grad_()
            made = form(learnt)
            made.square().sum().backward()
            found.append((made.detach(), learnt.grad))
        for made, slope in found[1:]:
            assert torch.equal(made, found[0][0]), name
            assert torch.equal(slope, found[0][1]), name


def test_what_a_card_cannot_repeat_is_an_error_that_names_the_way_out(
    registered, runtime, tiny, device
):
    class Unrepeatable(Local):
        name = "unrepeatable"

        def client_model(self, client):
            images = torch.ones(1, 1, 4, 4, device=client.device, requires_grad=True)
            grid = torch.zeros(1, 4, 4, 2, device=client.device)
            functional.grid_sample(images, grid, align_corners=False).sum().backward()
            return super().client_model(client)

    class Withdrawn(Unrepeatable):
        name = "withdrawn"
        deterministic = False

    registered(Unrepeatable)
    registered(Withdrawn)
    strict = run_cell(tiny("unrepeatable"), runtime, suite="test")
    loose = run_cell(tiny("withdrawn"), runtime, suite="test")
    assert loose.status == "ok"
    assert loose.deterministic == (device == "cpu")
    if device == "cuda":
        assert strict.status == "failed"
        assert "deterministic = False" in strict.reason
    else:
        assert strict.status == "ok"


def test_random_numbers_of_the_device_are_put_back(gpu):
    def drawn():
        return torch.rand(3, device=gpu)

    before = drawn()
    with isolated(5):
        inside = drawn()
    after = drawn()
    with isolated(5):
        assert torch.equal(drawn(), inside)
    assert not torch.equal(before, after)


def test_who_plans_a_sweep_takes_no_memory_of_a_card(device):
    code = (
        "import json, torch\n"
        "from fedbench.session.crew import crew_of\n"
        f"crew = crew_of('local', None, {device!r}, 0)\n"
        "print(json.dumps([crew.size, torch.cuda.is_initialized()]))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    size, awake = json.loads(said.stdout)
    assert size >= 1
    assert not awake
