"""The single shared image: its crops, messages, selections and budgets."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import fedbench.methods.single_image as module
from fedbench.bench.cells.cell import run_cell
from fedbench.bench.suites.plan import planned
from fedbench.federation.ledger import Clock
from fedbench.federation.message import Message
from fedbench.methods import METHODS

SHARED = {"budget": {"pixels": 64 * 96}}
FEW = {"cluster": "full", "clusters": 5, "prune_share": 0.5}


def image(**over):
    settings = {"crops": 60, "selected": 20, "steps": 6, "batch_size": 8, "selection": FEW}
    messages = {"exchange": "logits", "select_with": "mirror", "objective": "avg_logits"}
    return {"name": "single_image", "image": "noise", **messages, **settings, **over}


def by_weights(**over):
    return image(exchange="weights", **over)


def selection(runtime, record):
    return load_file(
        runtime.home / "test" / "outputs" / f"{record.outputs['selection']}.safetensors"
    )


def test_the_picture_counts_and_not_its_crops(compute):
    record = compute(image(), **SHARED)
    assert record.resources == ["picture:noise@6144"]
    assert record.shared_pixels == 64 * 96
    assert record.privileges == []


def test_si_8_after_the_first_message_no_pixels_are_sent(compute, monkeypatch):
    found, serialise = [], Message.serialise

    def listen(message):
        found.append(message.tensors)
        return serialise(message)

    monkeypatch.setattr(Message, "serialise", listen)
    compute(image(rounds=3), **SHARED)
    # Each of three clients is sent a task and answers, in each of three rounds.
    given = ["public/picture" in message for message in found]
    assert given == [True, False] * 3 + [False] * 12
    names = {name for message in found for name in message if not name.startswith("model/")}
    assert names == {"seed", "public/picture", "public/digest", "chosen", "logits"}


def test_weights_alone_pass_where_the_server_computes_the_logits(compute, runtime):
    record = compute(by_weights(), **SHARED)
    plain = compute({"name": "fedavg", "preset": "one_shot"})
    assert record.ledger["payload_up"] == plain.ledger["payload_up"]
    assert record.ledger["payload_down"] == plain.ledger["payload_down"]


def test_both_exchanges_give_the_same_student(compute):
    assert compute(image(), **SHARED).outputs == compute(by_weights(), **SHARED).outputs


def test_every_round_leaves_its_selection(compute, runtime):
    record = compute(image(rounds=2), **SHARED)
    found = selection(runtime, record)
    for round in range(2):
        chosen, balanced = (found[f"{round}/{name}"] for name in ("chosen", "balanced"))
        assert set(chosen.tolist()) <= set(balanced.tolist()) <= set(range(60))
        assert len(balanced) == 40
        assert 20 <= len(chosen) <= 30
        assert found[f"{round}/predicted"].shape == (60,)
        assert len(found[f"{round}/sample"]) == len(found[f"{round}/features"]) == 60
    assert not torch.equal(found["0/chosen"], found["1/chosen"])


def test_the_clients_models_can_select(compute, runtime):
    early, late = (
        selection(runtime, compute(by_weights(select_with=which), **SHARED))
        for which in ("mirror", "ensemble")
    )
    assert not torch.equal(early["0/predicted"], late["0/predicted"])


def test_si_4_with_both_stages_off_the_whole_bank_is_used(compute, runtime):
    off = {"cluster": "none", "prune": "none"}
    record = compute(image(crops=None, selection=off), **SHARED)
    assert selection(runtime, record)["0/chosen"].tolist() == list(range(20))


def test_a_picture_is_a_method_of_its_own(compute):
    shares = {compute(image(image=name), **SHARED).outputs["global"] for name in ("noise", "china")}
    assert len(shares) == 2


def test_si_1_banks_are_made_once_for_all_cells_of_a_seed(compute, runtime):
    compute(image(), **SHARED)
    compute(image(steps=7), **SHARED)
    folder = runtime.home / "artefacts" / "crops"
    assert len(list(folder.glob("*.safetensors"))) == 1
    compute(image(flip="horizontal"), **SHARED)
    compute(image(), **SHARED, seed=1)
    assert len(list(folder.glob("*.safetensors"))) == 3


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_bank_is_charged_to_each_worker_once(compute, monkeypatch, rounds):
    compute(image(rounds=rounds), **SHARED)
    sides = []
    monkeypatch.setattr(Clock, "add_shared", lambda clock, side, *_, **__: sides.append(side))
    compute(image(rounds=rounds, steps=7), **SHARED)
    # Three clients take their first training and the bank from the store, the server the bank.
    assert sorted(sides) == ["client"] * 6 + ["server"]


def test_another_picture_after_a_kill_starts_the_cell_over(tiny, runtime, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBENCH_DATA", str(tmp_path))
    means, source = dataclasses.replace(runtime, data=tmp_path), np.random.default_rng(0)

    def draw():
        pixels = source.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "some.png")

    draw()
    cell = tiny(image(image="some.png", rounds=2), **SHARED)
    whole = METHODS.get("single_image").aggregate

    def die(self, server, uploads, round):
        if round == 1:
            raise KeyboardInterrupt
        whole(self, server, uploads, round)

    monkeypatch.setattr(METHODS.get("single_image"), "aggregate", die)
    with pytest.raises(KeyboardInterrupt):
        run_cell(cell, means, suite="killed")
    monkeypatch.setattr(METHODS.get("single_image"), "aggregate", whole)
    draw()
    after, fresh = (run_cell(cell, means, suite=suite) for suite in ("killed", "fresh"))
    assert after.outputs == fresh.outputs
    assert after.ledger["bytes_total"] == fresh.ledger["bytes_total"]


def test_a_client_with_other_crops_stops_the_cell(tiny, runtime, monkeypatch):
    send = METHODS.get("single_image").broadcast

    def other(self, server, to, round):
        message = send(self, server, to, round)
        return Message(
            message.kind,
            {**message.tensors, "public/digest": message.tensors["public/digest"] ^ 1},
        )

    monkeypatch.setattr(METHODS.get("single_image"), "broadcast", other)
    record = run_cell(tiny(image(), **SHARED), runtime, suite="test")
    assert record.status == "failed"
    assert "same version of fedbench" in record.reason


def test_crops_come_in_the_size_of_the_cells_images(compute, monkeypatch):
    sizes = []
    whole = module.crop_bank

    def bank(picture, settings, **how):
        sizes.append((tuple(picture.shape), how["size"], how["count"]))
        return whole(picture, settings, **how)

    monkeypatch.setattr(module, "crop_bank", bank)
    compute(image(crops=40, selected=10), **SHARED)
    assert sizes == [((1, 64, 96), 16, 40)]


@pytest.mark.parametrize(
    ("over", "cell", "reason"),
    [
        ({}, {}, "needs a budget"),
        ({}, {"budget": {"pixels": 255}}, "crop"),
        ({"image": "china"}, {"budget": {"pixels": 5_000_000}}, "enlarg"),
        ({"crops": 4}, SHARED, "4 crops are fewer than 5 clusters"),
        ({"crops": 39}, SHARED, "make `crops` at least 40"),
        ({}, {"budget": {"pixels": 6144, "scope": "per_client"}}, "set budget.scope to total"),
        ({"select_with": "ensemble"}, SHARED, "exchange: weights"),
        ({"augment": "crop"}, SHARED, "set augment to none"),
    ],
)
def test_what_cannot_run_is_skipped_with_its_reason(tiny, over, cell, reason):
    assert reason in planned(tiny(image(**over), **cell)).skip


@pytest.mark.parametrize("what", ["small", "text"])
def test_a_bad_file_is_a_clear_error(tiny, runtime, tmp_path, monkeypatch, what):
    monkeypatch.setenv("FEDBENCH_DATA", str(tmp_path))
    if what == "small":
        Image.new("RGB", (10, 400)).save(tmp_path / "some.png")
        entry = planned(tiny(image(image="some.png"), budget={"pixels": 4000}))
        assert "16" in entry.skip
    else:
        (tmp_path / "some.png").write_text("no picture")
        skip = planned(tiny(image(image="some.png"), **SHARED)).skip
        assert "cannot be read as an image" in skip


def test_a_part_of_a_presets_selection_can_be_changed(tiny):
    method = {"name": "single_image", "preset": "reference", "selection": {"clusters": 20}}
    selection = tiny(method).method.selection
    assert (selection.clusters, selection.prune_share, selection.cluster) == (20, 0.9, "full")


def test_presets_are_valid(tiny):
    for preset in METHODS.get("single_image").presets:
        cell = tiny({"name": "single_image", "preset": preset}, budget={"pixels": 100_000})
        assert planned(cell).skip is None
