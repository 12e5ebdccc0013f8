"""One shared image: client models distilled on crops of it, the most useful ones selected.

Soni, Saeed, Asano 2024 (S1), https://arxiv.org/abs/2406.12658. Both sides make the same bank of
crops from the image and a seed, so that messages name crops by number. S1 is a method of many
rounds; one shot is its first round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedbench.config import Cell
from fedbench.data.patches import CropSettings, bank_digest, crop_bank, crop_outlines
from fedbench.data.pictures import picture_size, too_small
from fedbench.errors import DataError, StoreError
from fedbench.federation.artefacts import tensors_digest
from fedbench.federation.budget import budget_pixels
from fedbench.federation.client import Client, ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import Course, Upload
from fedbench.federation.server import Server
from fedbench.federation.state import part, prefixed
from fedbench.federation.work import Work
from fedbench.files import data_root
from fedbench.seeding import derive
from fedbench.synthesis.public import mirrors
from fedbench.synthesis.public.crops import SelectionSettings, acts, crops_needed, fault, select
from fedbench.synthesis.public.distillation import (
    PublicConfig,
    PublicMethod,
    answer,
    distil,
    gather,
    starts,
    task,
    teach,
)
from fedbench.synthesis.teachers import Teachers
from fedbench.training.recipe import Augment

#: Crops of which each round keeps features, for the maps of `fedbench show patches`.
_SAMPLE = 1000
#: Largest number of float16.
_HALF = 65504.0
#: How names of what the rounds keep begin in the server's state.
_ROUNDS = "selection/"


class SingleImageConfig(PublicConfig):
    """Settings of the single shared image."""

    image: str = "china"  # fedbench: S1's street photo has no licence
    """`china` or `flower` (scikit-learn's), `noise`, or a file below the data root."""
    crops: int | None = Field(None, ge=1)  # S1: 50,000
    """Crops in the bank, N; None makes as many as the selection needs without clusters."""
    selected: int = Field(5000, ge=1)  # S1's headline runs
    """Crops that a round distils on, about; without clusters, all of the bank but the pruned."""
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"  # S1's code; its text flips
    """Random flips of crops."""
    augment: Augment = "none"  # S1
    """Of the crops, which are varied already."""
    select_with: Literal["mirror", "ensemble"] = "ensemble"  # fedbench: S1 has the mirror
    """What tells crops apart: the mirror as it is before the round, untrained in the first one;
    or the clients' models once they are there, which needs `exchange: weights`."""
    selection: SelectionSettings = SelectionSettings()
    """Which crops are selected."""


@dataclass(frozen=True)
class Crops:
    """Which crops a cell makes of its picture: the same at every client, at the server and later.

    Attributes:
        settings: How they are made.
        count: N.
        size: Height and width of one in pixels.
        seed: Of the crops.
    """

    settings: CropSettings
    count: int
    size: int
    seed: int

    def bank(self, picture: Tensor) -> Tensor:
        """Return the crops, (N, C, S, S) uint8, of a (C, H, W) uint8 picture."""
        return crop_bank(picture, self.settings, count=self.count, size=self.size, seed=self.seed)

    def outlines(self, picture: Tensor, indices: Tensor) -> Tensor:
        """Return where (n,) crops lie in the picture, (n, 4, 2) (see ``crop_outlines``)."""
        height, width = picture.shape[1:]
        return crop_outlines(
            (height, width), self.settings, indices=indices, size=self.size, seed=self.seed
        )


def crops_of(config: SingleImageConfig, *, size: int, seed: int) -> Crops:
    """Return which crops a cell makes.

    Args:
        config: The method's settings.
        size: Height and width of the cell's images in pixels.
        seed: The cell's.
    """
    return Crops(CropSettings(flip=config.flip), _count(config), size, derive(seed, "crops"))


def _count(config: SingleImageConfig) -> int:
    return config.crops or crops_needed(config.selection, config.selected)


class SingleImage(PublicMethod):
    """Client models distilled on selected crops of one shared image."""

    name = "single_image"
    version = 2
    course = Course(
        down="a seed, then weights; with logits the image, once, and crop numbers",
        client="trains from its architecture's model",
        up="weights, or logits",
        server="selects crops of one image and distils what clients say of them",
        leaves="one model for each architecture",
    )
    Config = SingleImageConfig
    config: SingleImageConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # What we recommend, after measuring on images that are in no test set: the defaults.
        "fedbench": {},
        # S1's headline runs as their code behaves: `jump`, `batches`, k-means that keeps every
        # crop, and a first round that selects with an untrained network. One round; `rounds: 30`
        # gives the published numbers' protocol, with `validation: pooled` and 10 % hold-outs.
        "reference": {
            "exchange": "logits",
            "objective": "avg_logits",
            "weighting": "batches",
            "batch_size": 32,
            "lr": 5e-3,
            "schedule": "constant",
            "clip_norm": None,
            "select_with": "mirror",
            "logit_length": 2.5,
            "logit_rule": "jump",
            "crops": 50_000,
            "initialisation": "single_image",
            "selection": {
                "cluster": "full",
                "clusters": 1000,
                "heuristic": "hard",
                "balance": 1.0,
                "easy_is_mixed": True,
                "prune": "top",
                "prune_share": 0.9,
                "random_with_replacement": True,
            },
        },
    }

    def skip(self, cell: Cell) -> str | None:
        """Refuse a picture that does not fit the budget or holds no crop."""
        config = self.config
        if config.select_with == "ensemble" and config.exchange != "weights":
            return "select_with: ensemble needs the clients' models: exchange: weights"
        reason = super().skip(cell) or fault(config.selection, _count(config))
        if reason is not None:
            return reason
        size = cell.data.size
        needed = crops_needed(config.selection, config.selected)
        if _count(config) < needed:
            return (
                f"{config.crops} crops leave fewer than selected = {config.selected}; make `crops` "
                f"at least {needed}, or `selected` smaller"
            )
        try:
            found = picture_size(config.image, data_root())
        except DataError as error:
            return str(error)
        return too_small(config.image, found, budget_pixels(cell), size)

    def warnings(self, cell: Cell) -> tuple[str, ...]:
        """Say where k-means is asked for and leaves out no crop, except where a preset means it."""
        config, selection = self.config, self.config.selection
        count = _count(config)
        meant = self.presets.get(config.preset or "", {}).get("selection", {}).get("cluster")
        if selection.cluster in ("none", meant) or acts(selection, count, config.selected):
            return ()
        needed = crops_needed(selection, config.selected)
        return (
            f"`cluster` {selection.cluster} does nothing: with selected = {config.selected} the "
            f"pruning needs {needed} crops, and the bank has {count}; set crops above {needed}, or "
            "cluster to none",
        )

    def resources(self, cell: Cell) -> tuple[str, ...]:
        """Return the picture, scaled down to the budget."""
        return (f"picture:{self.config.image}@{budget_pixels(cell)}",)

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message:
        """Send the client its mirror; if it answers with logits, which crops to ask it about.

        With its first task it is given the picture, and a digest that tells whether it makes the
        same crops of it.
        """
        tensors = task(server, to, round)
        if self.config.exchange == "logits":
            tensors["chosen"] = server.state["chosen"].int()
            if not server.state["reached"][to.id]:
                picture = self._picture(server)
                tensors["public/picture"] = picture
                tensors["public/digest"] = self._bank(server, picture)["digest"].clone()
        return Message("task", tensors)

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Train from the mirror, and send weights, or logits on the chosen crops.

        Raises:
            StoreError: The client's crops are not those that the server has.
        """
        assert received is not None
        config = self.config
        trained = client.train_classifier(
            config.local(client.cell),
            init=part(received.tensors, "model/") or None,
            logit_bound=config.bound,
        )
        if config.exchange == "weights":
            return Message.of_model(trained.state)
        client.state.update(part(received.tensors, "public/"))
        bank = self._bank(client, client.state["picture"])
        if not torch.equal(bank["digest"], client.state["digest"]):
            raise StoreError(
                "this client's crops differ from the server's, so their numbers mean other images; "
                "both sides have to run the same version of fedbench and torch"
            )
        chosen = bank["crops"][received.tensors["chosen"].long()]
        return answer(client, trained, chosen, with_weights=config.warm(round))

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Select crops, by the best mirror or by the clients, and distil every mirror on them.

        A mirror selects before the first upload is read, because clients are told which crops.
        """
        config, best = self.config, mirrors.best(server)
        crops = self._bank(server, self._picture(server))["crops"]
        if config.select_with == "mirror":
            features, logits = server.describe(mirrors.network(server, best), crops)
            self._select(server, features, logits, round)
        found = gather(server, uploads, config.exchange)
        begun = starts(server, config, found, round)
        if config.select_with == "ensemble":
            net = mirrors.network(server, best, begun[best.label])
            features = server.inference.features(net, crops)
            logits = Teachers(found.nets, server.inference).average(crops)
            self._select(server, features, logits, round)
        images = crops[server.state["chosen"].long()]
        teacher, shares = teach(server, config, found, images)
        distil(server, config, begun, images, teacher, shares, round)

    def _select(self, server: Server, features: Tensor, logits: Tensor, round: int) -> None:
        """Choose a round's crops, and keep what its pictures show."""
        config, count = self.config, len(logits)
        found = select(
            features,
            logits,
            config.selection,
            count=config.selected,
            seed=derive(server.cell.seed, "selection", round),
        )
        sample = torch.randperm(count, generator=server.generator("sample"))[:_SAMPLE]
        kept = {
            "balanced": found.balanced.int(),
            "chosen": found.chosen.int(),
            "predicted": found.predicted.short(),
            "confidence": found.confidence.half(),
            "sample": sample.int(),
            "features": features[sample.to(features.device)].float().clamp(-_HALF, _HALF).half(),
        }
        server.state.update(prefixed(kept, f"{_ROUNDS}{round}/"))
        server.state["chosen"] = found.chosen

    def outputs(self, server: Server) -> dict[str, dict[str, Tensor]]:
        """Return each round's selection, for `fedbench show patches`."""
        return {"selection": part(server.state, _ROUNDS)}

    def _picture(self, server: Server) -> Tensor:
        """Return the shared picture, (C, H, W) uint8."""
        (name,) = self.resources(server.cell)
        return server.resource(name).tensors["picture"]

    def _bank(self, worker: Work, picture: Tensor) -> Mapping[str, Tensor]:
        """Return the bank of crops and its digest, made once for all cells of a seed and picture.

        Returns:
            ``crops`` (N, C, S, S) uint8, and ``digest`` (32,) uint8.
        """
        crops = crops_of(self.config, size=worker.shape.size, seed=worker.cell.seed)

        def build() -> dict[str, Tensor]:
            bank = crops.bank(picture)
            digest = bytearray.fromhex(bank_digest(bank))
            return {"crops": bank, "digest": torch.frombuffer(digest, dtype=torch.uint8)}

        what = {
            "picture": [tensors_digest({"picture": picture}), *picture.shape],
            "settings": asdict(crops.settings),
            "crops": [crops.count, crops.size, crops.seed],
            "version": 1,
        }
        return worker.artefact("crops", what, build, public=True).tensors
