"""What a suite's plan and records say of where it stands, and of what is still to come."""

import json
import os
import platform
import subprocess
import sys
import time

import pytest

from fedbench.bench.cells.logs import log_path
from fedbench.bench.cells.running import InHand, running_path
from fedbench.bench.estimate import Sample, artefact_sizes, estimate
from fedbench.bench.records.record import Record, record_path, write_record
from fedbench.bench.suites.plan import arrange, cost_of, entry_of, expand, planned, to_file
from fedbench.bench.suites.planfile import Entry, plan_path, write_plan
from fedbench.bench.suites.suite import Suite
from fedbench.bench.survey import survey
from fedbench.settings import validate

SUITE = {
    "name": "small",
    "seeds": 2,
    "fixed": {
        "data": {"name": "digits", "train_size": 100},
        "clients": 2,
        "model": {"name": "convnet", "width": 8},
    },
    "axes": {
        "method": [
            "local",
            "ensemble",
            {"name": "fedavg", "rounds": 4, "epochs": None},
            "random_real",
        ],
        "beta": [0.1, 0.5],
    },
    "exclude": [{"when": {"beta": 0.1}, "reason": "too skewed"}],
    "profiles": {"quick": {}},
}


@pytest.fixture
def plan():
    suite = validate(Suite, SUITE).sized()
    found = expand(suite)
    return to_file(suite, found.cells, found.excluded)


def record(entry, status="ok", *, suite="small", wall=10.0, shared=0.0, client=8.0, rounds=1):
    return Record(
        cell_id=entry.cell_id,
        status=status,
        reason="the loss is not finite" if status == "failed" else None,
        suite=suite,
        settings=entry.settings,
        versions={},
        metrics={"accuracy": 0.5},
        data={"classes": ["a"]},
        partition={"histogram": [[1]]},
        wall_seconds=wall,
        ledger={"client_seconds": client, "shared_seconds": shared, "rounds": rounds},
        environment={"device": "cpu", "threads": 1},
    )


def keep(home, entry, *words, **values):
    made = record(entry, *words, **values)
    write_record(record_path(home, made.suite, made.cell_id), made)


def of(plan, method, seed=0):
    return next(
        entry
        for entry in plan.cells
        if (entry.settings["method"]["name"], entry.settings["seed"]) == (method, seed)
    )


def test_every_cell_is_in_one_state(home, plan):
    keep(home, of(plan, "local"))
    keep(home, of(plan, "ensemble"), "failed")
    now = time.time()
    for method, pid in (("fedavg", os.getpid()), ("ensemble", 2**22 + 1)):
        name = of(plan, method).cell_id
        path = running_path(home, "small", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        beat = InHand(name, pid, platform.node(), now - 50, now - 3, 2, 4, "client 1", 3, 20)
        path.write_text(json.dumps(vars(beat)))
    found = survey(home, plan)
    assert found.done == (of(plan, "local").cell_id,)
    assert [(item.cell_id, item.reason) for item in found.failed] == [
        (of(plan, "ensemble").cell_id, "the loss is not finite")
    ]
    assert [beat.cell_id for beat in found.running] == [of(plan, "fedavg").cell_id]
    assert [beat.cell_id for beat in found.gone] == [of(plan, "ensemble").cell_id]
    # The plan's order; random_real of both seeds has no budget.
    assert found.skipped == {"random_real needs a budget, such as budget.ipc = 10": 2}
    assert found.excluded == {"too skewed": 8}
    assert set(found.todo) == {
        entry.cell_id
        for entry in plan.cells
        if entry.skip is None and entry.cell_id not in (*found.done, found.running[0].cell_id)
    }
    assert len(found.todo) == 4
    narrow = survey(home, plan, chosen={of(plan, "ensemble").cell_id}, redo=set(found.done))
    assert narrow.todo == (of(plan, "ensemble").cell_id,)
    assert len(narrow.not_now) == 4
    assert narrow.done == ()


def test_client_trainings_are_counted_exactly(home, plan):
    empty = survey(home, plan).trainings
    # Two seeds x two clients, asked for by local, ensemble and the first round of FedAvg.
    assert (empty.distinct, empty.uses, empty.shared) == (4, 12, 4)
    assert (empty.trained, empty.to_do) == (0, 4)
    cell = of(plan, "ensemble", 1)
    keep(home, cell)
    copied = survey(home, plan).trainings  # from a published board: it left its weights elsewhere
    assert (copied.trained, copied.to_do) == (0, 4)
    log = log_path(home, plan.suite, cell.cell_id)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    later = survey(home, plan).trainings
    assert (later.trained, later.to_do) == (2, 2)
    alone = survey(home, plan, chosen={of(plan, "local", 1).cell_id}).trainings
    assert alone.to_do == 0


def test_what_is_counted_is_what_the_artefact_store_holds(runtime, tiny, compute):
    methods = [
        "centralised",
        "local",
        "ensemble",
        {"name": "fedavg", "preset": "one_shot"},
        {"name": "fedavg", "rounds": 2, "epochs": 2},
        {"name": "fedprox", "rounds": 2, "epochs": 1},
        {"name": "fedprox", "rounds": 1, "epochs": 1, "mu": 0},
    ]
    cells = [tiny(method) for method in methods]
    cells += [tiny("ensemble", participation=0.4), tiny("random_real", budget={"ipc": 1})]
    cells += [tiny("local", models=["convnet", "resnet8"], recipe={"epochs": 0})]
    names = {name for cell in cells for name in planned(cell).trainings}
    for cell in cells:
        compute(cell.method.model_dump(), **cell.model_dump(exclude={"method"}))
    kept = list((runtime.home / "artefacts" / "classifier").glob("*.safetensors"))
    assert len(kept) == len(names) == 3 * 3 + 3


def test_arranging_puts_a_producer_first_in_any_part_of_a_plan(plan):
    suite = validate(Suite, SUITE).sized()
    cells = [entry for entry in expand(suite, seeds=1).cells if entry.skip is None]
    some = [entry for entry in cells if entry.cell.method.name != "local"]
    assert [entry.cell.method.name for entry in arrange(reversed(some))] == ["ensemble", "fedavg"]
    assert [entry.cell.method.name for entry in cells] == ["local", "ensemble", "fedavg"]


def test_estimates_take_equal_cells_and_pay_for_trainings_once(home, plan):
    for method, seconds, client, rounds in (
        ("local", 10.0, 8.0, 0),
        ("ensemble", 3.0, 8.0, 1),
        ("fedavg", 40.0, 32.0, 4),
    ):
        shared = 8.0 if method == "ensemble" else 0.0
        entry = of(plan, method)
        keep(home, entry, wall=seconds, client=client, shared=shared, rounds=rounds)
    found = survey(home, plan).estimate
    # Seed 1: `local` trains the clients, the others take what is there.
    assert found.seconds == {
        of(plan, "local", 1).cell_id: 10.0,
        of(plan, "ensemble", 1).cell_id: 3.0,
        of(plan, "fedavg", 1).cell_id: 32.0,
    }
    assert found.records == 3
    assert found.wall(1) == 45.0
    assert found.wall(2) == 32.0
    # Without `local`, the ensemble has to train them.
    narrow = survey(home, plan, chosen={of(plan, "ensemble", 1).cell_id}).estimate
    assert list(narrow.seconds.values()) == [11.0]


def test_estimates_scale_by_passes_and_invent_nothing(plan):
    entry = of(plan, "fedavg")
    sample = Sample("r", "s", entry.settings, 40.0, 8.0, 100.0, 1000)
    longer = {**entry.settings, "method": {**entry.settings["method"], "rounds": 8}}

    def seconds(settings, passes):
        one = Entry("x", None, settings, (), passes)
        return estimate([one], [sample]).seconds["x"]

    assert seconds(longer, 300.0) == pytest.approx(120.0)
    assert seconds(longer, None) is None
    assert seconds({**entry.settings, "precision": "bf16-mixed"}, 100.0) is None
    assert seconds({**entry.settings, "seed": 9}, None) == 40.0
    # Small cells are mostly overhead, so the five that are nearest in size count.
    several = [
        Sample(str(number), "s", longer, passes * rate, 0.0, passes, 0)
        for number, (passes, rate) in enumerate(
            [(1.0, 90.0)] * 6 + [(100.0, 2.0)] * 3 + [(300.0, 1.0)] * 2 + [(1e4, 5.0)] * 6
        )
    ]
    found = estimate([Entry("x", None, entry.settings, (), 200.0)], several)
    assert found.seconds["x"] == pytest.approx(400.0)
    assert found.records == 5


def test_other_data_and_batch_sizes_give_a_rough_estimate_by_passes_and_pixels(plan):
    entry = of(plan, "fedavg")
    older = {**entry.settings, "models": [{**entry.settings["models"][0]}]}
    older["models"][0].pop("initialisation", None)  # a record of before that setting
    sample = Sample("r", "s", older, 40.0, 8.0, 100.0, 1000)
    data = {**entry.settings["data"], "name": "folder", "image_size": 32}
    found = estimate([Entry("x", None, {**entry.settings, "data": data}, (), 50.0)], [sample])
    assert found.seconds["x"] == pytest.approx(40.0 * 0.5 * (32 / 16) ** 2)
    assert found.rough == 1
    batch = {**entry.settings, "recipe": {**entry.settings["recipe"], "batch_size": 7}}
    found = estimate([Entry("x", None, batch, (), 100.0)], [sample])
    assert (found.seconds["x"], found.rough) == (40.0, 1)
    assert estimate([Entry("x", None, entry.settings, (), 100.0)], [sample]).rough == 0
    unknown = {**entry.settings, "data": {**data, "name": "of a plugin", "image_size": None}}
    assert estimate([Entry("x", None, unknown, (), 100.0)], [sample]).seconds["x"] is None


def test_other_networks_and_methods_are_scaled_by_cost_and_say_so(plan):
    entry, other = of(plan, "fedavg"), of(plan, "local")
    sample = Sample("r", "s", entry.settings, 40.0, 8.0, 100.0, 1000, 77)
    wider = {**entry.settings, "models": [{**entry.settings["models"][0], "width": 16}]}
    cells = [
        Entry("same", None, {**entry.settings, "seed": 9}, (), 100.0),
        Entry("wide", None, wider, (), 100.0),
        Entry("else", None, other.settings, (), 50.0),
    ]

    def cost(settings):
        return settings["models"][0]["width"] * 100_000.0

    found = estimate(cells, [sample], cost=cost)
    assert found.seconds == {
        "same": 40.0,
        "wide": pytest.approx(40.0 * (1_600_000 + 300_000) / (800_000 + 300_000)),
        "else": 20.0,
    }
    assert found.scaled == {"wide": "other networks", "else": "other methods on these data"}
    assert (found.records, found.suites, found.memory) == (1, ("s",), 77)
    assert (found.sizes_unknown, found.sizes_known) == (2, False)
    rough = found.seconds["wide"] + 20.0
    assert found.span(1) == pytest.approx((40.0 + rough / 4, 40.0 + 4 * rough))
    assert estimate(cells[:1], [sample]).sizes_known


def test_an_image_costs_what_its_network_multiplies(plan):
    width = of(plan, "fedavg").settings["models"][0]["width"]
    convolutions = 9 * (20**2 * width + 10**2 * width**2 + 5**2 * width**2)  # it pads by 3
    assert cost_of(of(plan, "fedavg").settings) == convolutions + 2**2 * width * 10


def test_estimates_leave_out_other_devices_and_faster_runs(home, plan):
    entry, other = of(plan, "local"), of(plan, "local", 1)
    for suite, environment in (
        ("gpu", {"device": "cuda", "threads": 1}),
        ("run", {"device": "cpu", "threads": 8}),
    ):
        made = record(entry, suite=suite).model_copy(update={"environment": environment})
        write_record(record_path(home, suite, made.cell_id), made)
    assert survey(home, plan, device="cpu").estimate.seconds[other.cell_id] is None
    assert survey(home, plan, device="cuda").estimate.seconds[other.cell_id] == 10.0
    keep(home, entry, suite="earlier", wall=5.0)
    assert survey(home, plan, device="cpu").estimate.seconds[other.cell_id] == 5.0


def test_a_failed_record_does_not_say_where_a_suite_is_computed(home, plan):
    entry, other = of(plan, "local"), of(plan, "local", 1)
    keep(home, entry, wall=5.0)
    assert survey(home, plan).estimate.seconds[other.cell_id] == 5.0
    failed = record(of(plan, "ensemble"), suite=plan.suite).model_copy(
        update={"status": "failed", "environment": {}}
    )
    path = record_path(home, plan.suite, failed.cell_id)
    write_record(path, failed)
    os.utime(path, (2**31, 2**31))
    assert survey(home, plan).estimate.seconds[other.cell_id] == 5.0


def test_estimates_of_a_card_are_of_that_card(home, plan):
    entry, other = of(plan, "local"), of(plan, "local", 1)
    where = {"device": "cuda", "device_name": "slow", "threads": 1}
    made = record(entry, suite="gpu").model_copy(
        update={"environment": where, "peak_device_memory_bytes": 7}
    )
    write_record(record_path(home, "gpu", made.cell_id), made)

    def seen(**over):
        return survey(home, plan, **over).estimate

    assert seen(device="cuda", gpu="fast").seconds[other.cell_id] is None
    assert seen(device="cuda", gpu="fast").memory == 0
    for found in (seen(device="cuda", gpu="slow"), seen(device="cuda"), seen()):
        assert found.seconds[other.cell_id] == 10.0
        assert found.memory == 7


def test_disk_is_records_outputs_and_new_artefacts(runtime, tiny, compute):
    compute("local")
    compute("ensemble")
    sizes = artefact_sizes(runtime.home / "artefacts" / "classifier")
    entry = entry_of(planned(tiny("ensemble", seed=1)))
    one = next((runtime.home / "artefacts" / "classifier").glob("*.safetensors")).stat().st_size
    assert sizes(entry) == one
    assert sizes(entry_of(planned(tiny("local", models={"name": "convnet", "width": 5})))) is None
    sample = Sample("r", "s", entry.settings, 1.0, 0.0, None, 5000)
    assert estimate([entry], [sample], artefact_size=sizes).size == 5000 + 3 * one
    assert estimate([entry], [sample], trained=entry.trainings, artefact_size=sizes).size == 5000
    (runtime.home / "artefacts" / "classifier" / "bad.safetensors").write_bytes(b"\xff" * 40)
    assert artefact_sizes(runtime.home / "artefacts" / "classifier")(entry) == one


def test_a_status_needs_no_torch_and_no_second(home, plan):
    for entry in plan.cells:
        keep(home, entry)
    write_plan(plan_path(home, "small"), plan)
    code = (
        "import sys, time\n"
        "sys.argv[1:] = ['status', 'small']\n"
        "from fedbench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print({'torch', 'lightning', 'pandas', 'matplotlib'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "set()"
    assert "8: 6 done, 2 skipped, 0 left; 8 combinations excluded" in done.stdout
