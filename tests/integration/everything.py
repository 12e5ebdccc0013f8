"""A method that uses every kind of durable work, on a clock that only its own steps move."""

import math
from functools import partialmethod

import torch

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.runtime import Runtime
from fedbench.config import parse
from fedbench.federation import journal, ledger
from fedbench.federation.averaging import average
from fedbench.federation.message import Message
from fedbench.federation.method import Method
from fedbench.federation.state import part, prefixed
from fedbench.federation.work import load
from fedbench.methods import METHODS
from fedbench.synthesis.matching.search import search
from fedbench.training.classifier import Classifier
from fedbench.training.pool import TrainerPool

NOW = [0.0]
#: What the longest stage takes: a client's whole work, of which nothing is saved on the way.
LONGEST = 9.0


def tick(seconds=1.0):
    NOW[0] += seconds


class Noisy(Classifier):
    """Draws noise in every step, and takes a tick an epoch."""

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return super().training_step((images + 0.1 * torch.randn_like(images), labels), batch_idx)

    def on_train_epoch_end(self):
        tick()


class Everything(Method):
    """Stages at both sides, in artefacts and in setup."""

    name = "everything"

    def rounds(self):
        return 2

    def setup(self, server):
        net = server.build(server.cell.models[0])
        module, images = self._module(server, net), self._images(server)
        kept = {"sum": torch.zeros(())}
        for step in server.stages("warm", 3, keep={"module": module, "kept": kept}):
            server.fit(module, images, name="warm", epochs=2, keep_optimizer=True)
            kept["sum"] = kept["sum"] + step
        server.state.update(prefixed(net.state_dict(), "net/"))
        server.state["sum"] = kept["sum"]

    def broadcast(self, server, to, round):
        return Message.of_model(part(server.state, "net/"))

    def client_update(self, client, received, round):
        def build():
            source, drawn = client.generator("samples"), client.trail()
            for _ in client.stages("sample", 3, keep={"source": source, "drawn": drawn}):
                tick()
                drawn.append({"x": torch.randn(3, generator=source)})
            drawn.drop(1)
            return {"samples": torch.stack([each["x"] for each in drawn])}

        samples = client.artefact("samples", {"version": 1}, build).tensors["samples"]
        recipe = client.cell.recipe
        expert = client.train_classifier(recipe, init="expert-1", snapshots=(0, 1, 3))
        tick()
        client.state["seen"] = client.state.get("seen", torch.zeros(())) + samples.sum()
        net = client.build(client.info.model)
        load(net, expert.snapshots[2])
        yield Message("samples", {"samples": samples})
        yield Message("score", {"score": torch.tensor(client.measure(net)), **client.state})
        yield Message.of_model(expert.state)

    def aggregate(self, server, uploads, round):
        states, scores = [], []
        for upload in uploads:
            samples, score, model = upload.chunks
            scores.append(score.tensors["score"] + samples.tensors["samples"].sum())
            states.append((model.tensors, 1.0))
        one, other = (server.build(server.cell.models[0]) for _ in range(2))
        load(one, average(states))
        load(other, part(server.state, "net/"))
        server.observe(one, 10 * round)
        first, second = self._module(server, one), self._module(server, other)
        images, pool, said = self._images(server), server.trail(), []
        keep = {"first": first, "second": second, "pool": pool, "said": said}
        for step in server.stages("epochs", 4, keep=keep):
            server.fit(first, images, name="first", epochs=1, keep_optimizer=True)
            server.fit(second, images, name="second", epochs=2)
            pool.append({"weights": one.head.weight})
            if len(pool) > 2:
                pool.drop(1)
            said.append(server.validate(one))
            server.observe(one, 10 * round + step + 1)

        def value(params):
            tick()
            return -((params["x"] - 0.3) ** 2)

        found = search(server, "tune", 4, lambda trial: trial.suggest_float("x", 0, 1), value)
        server.state.update(prefixed(one.state_dict(), "net/"))
        server.state["net/head.bias"] = one.head.bias.detach() + sum(said) + found[-1].value
        server.state["net/head.weight"] = sum(each["weights"] for each in pool) + sum(scores)

    def models(self, server):
        net = server.build(server.cell.models[0])
        load(net, part(server.state, "net/"))
        yield "global", net

    def _module(self, worker, net):
        return Noisy(net, worker.cell.recipe, steps_per_epoch=2)

    def _images(self, server):
        source = server.generator("images")
        images = torch.randint(0, 256, (20, 1, 16, 16), dtype=torch.uint8, generator=source)
        labels = torch.randint(0, 10, (20,), generator=source)
        return server.loader(Pair(images, labels), server.cell.recipe, "images")


class Pair:
    def __init__(self, images, labels):
        self.images, self.labels = images, labels


CELL = {
    "data": {"name": "digits", "train_size": 90, "test_size": 60},
    "partition": {"scheme": "iid", "clients": 3, "validation": 0.2},
    "models": {"name": "convnet", "width": 4, "depth": 2, "norm": "batch"},
    "recipe": {"epochs": 3, "batch_size": 10},
    "evaluation": {"curve_size": 30},
    "method": {"name": "everything", "validation": "poll"},
}


def work(home, cache):
    """Compute the cell; checkpoints of fits are written at every epoch's end."""
    torch.set_num_threads(1)
    (home / "cache").symlink_to(cache) if not (home / "cache").exists() else None
    ledger.time.perf_counter = lambda: NOW[0]
    journal._SHARE, journal._PACE = math.inf, 0.0  # its steps take no time at all
    TrainerPool.fit = partialmethod(TrainerPool.fit, checkpoint_every=0.0)
    METHODS.add(Everything.name, Everything)
    runtime = Runtime(home=home, data=home / "nowhere", device="cpu", threads=1, offline=True)
    record = run_cell(parse(CELL), runtime, suite="storm")
    assert record.status == "ok", record.traceback
