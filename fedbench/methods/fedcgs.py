"""FedCGS: class statistics of a frozen extractor, and a head in closed form.

No image and no weight goes up: each client sends sums over its features, the server adds them and
solves for a linear head. Sums do not depend on who holds what, so the head is that of the pooled
data for every partition. The features are as good as the extractor: the cell's network at its
common initial weights (a seed goes down), or trained by the cell's recipe on a public data set
(its weights go down). The paper's own, a ResNet-18 of ImageNet, has no place here.

Source: Guan et al., "Capture Global Feature Statistics for One-Shot Federated Learning",
AAAI 2025, https://arxiv.org/abs/2503.06962, and its code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from fedbench.config import Cell, MethodConfig
from fedbench.data.dataset import Split
from fedbench.data.specs import DATASETS
from fedbench.errors import TrainingError
from fedbench.evaluation.accuracy import NEVER
from fedbench.federation.artefacts import tensors_digest
from fedbench.federation.client import Client, ClientInfo
from fedbench.federation.message import Message
from fedbench.federation.method import Course, Method, Upload, training_images
from fedbench.federation.server import Server
from fedbench.federation.state import part, prefixed
from fedbench.federation.work import load
from fedbench.models.factory import build
from fedbench.models.families import MODELS
from fedbench.seeding import derive
from fedbench.training.recipe import Recipe

Covariance = Literal["total", "within"]

_PUBLIC = "public:"
_HEAD = "head."
_BODY = "extractor/"
# Images whose features are held at once: 16 MB in float64 with 2,048 features.
_CHUNK = 1024


class FedCGSConfig(MethodConfig):
    """Settings of FedCGS."""

    extractor: str = "random"  # fedbench: no ImageNet weights at hand; needs no data at all
    """`random`: the cell's architecture at the common initial weights; `public:NAME`: trained by
    the cell's recipe on that data set's labelled training images, at the server."""
    covariance: Covariance = "total"  # FedCGS
    """Of all features around their mean, or `within` the classes (textbook LDA)."""
    ridge: float = Field(1e-3, ge=0)  # fedbench: random features are often dependent; FedCGS has 0
    """Added to the covariance's diagonal, as a multiple of its mean."""
    packing: Literal["full", "triangle"] = "triangle"  # fedbench: half the bytes, the same values
    """The matrix of second moments as it is (`full`, as FedCGS), or its upper triangle."""

    @field_validator("extractor")
    @classmethod
    def _known(cls, value: str) -> str:
        if value.startswith(_PUBLIC):
            DATASETS.get(value.removeprefix(_PUBLIC))
        elif value != "random":
            raise ValueError(
                f"extractor {value!r} is neither 'random' nor 'public:NAME' with a data set's name"
            )
        return value


class FedCGS(Method):
    """Class statistics and a closed-form head."""

    name = "fedcgs"
    course = Course(
        down="a seed, or the extractor's weights",
        client="sums up its features by class",
        up="sums and covariance in float64",
        server="solves for a linear head",
    )
    Config = FedCGSConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # FedCGS' code, but for its extractor of ImageNet.
        "reference": {"covariance": "total", "ridge": 0.0, "packing": "full"},
        # What we recommend: the defaults, written out.
        "fedbench": {"covariance": "total", "ridge": 1e-3, "packing": "triangle"},
    }
    config: FedCGSConfig

    @property
    def _public(self) -> str:
        """The public data set's name, or nothing."""
        return self.config.extractor.removeprefix(_PUBLIC) if self._trains else ""

    @property
    def _trains(self) -> bool:
        return self.config.extractor.startswith(_PUBLIC)

    def resources(self, cell: Cell) -> tuple[str, ...]:
        """Name the public data set, if there is one."""
        return (f"dataset:{self._public}",) if self._trains else ()

    def skip(self, cell: Cell) -> str | None:
        """Ask for one architecture, and for public images that are not the clients' own."""
        if len(set(cell.models)) > 1:
            return "fedcgs shares one extractor, so it takes one architecture"
        if not self._trains:
            return None
        own, public = DATASETS.get(cell.data.name), DATASETS.get(self._public)
        if public.name == own.name:
            return f"{own.name} is the clients' own data set; a public one has to be another"
        if public.takes_path:
            return f"data set {public.name!r} needs a path, which an extractor cannot give"
        return None

    def passes(self, cell: Cell) -> float | None:
        """Return one pass over the images, and the epochs on the public ones."""
        images = training_images(cell)
        if images is None or not self._trains:
            return images
        return images + float(DATASETS.get(self._public).train_size or 0) * cell.recipe.epochs

    def setup(self, server: Server) -> None:
        """Train the extractor, if it is a public one."""
        if self._trains:
            body = _train_extractor(server, f"dataset:{self._public}")
            server.state.update(prefixed(body, _BODY))

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message:
        """Send the extractor's weights without a head, or the seed that gives them."""
        if not self._trains:
            return server.seed()
        return Message("extractor", part(server.state, _BODY))

    def client_update(self, client: Client, received: Message | None, round: int) -> Message:
        """Send sums over the features of all own images."""
        assert received is not None
        net = client.build(client.info.model)
        if received.kind == "extractor":
            load(net, {**net.state_dict(), **received.tensors})
        sums = statistics(
            (
                (client.forward(net, images, "features"), labels)
                for images, labels in _chunks(client.data)
            ),
            client.shape.classes,
        )
        if self.config.packing == "triangle":
            sums["second"] = pack(sums["second"])
        return Message("statistics", sums)

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Add the sums up and solve for the head."""
        total: dict[str, Tensor] = {}
        for upload in uploads:
            for name, value in upload.message.tensors.items():
                total[name] = total[name] + value if name in total else value
        if self.config.packing == "triangle":
            total["second"] = unpack(total["second"], len(total["first"]))
        weight, bias = solve(
            total, covariance=self.config.covariance, ridge=self.config.ridge, absent=NEVER
        )
        server.state.update({"head.weight": weight.float(), "head.bias": bias.float()})

    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the extractor with its head."""
        net = server.build(server.cell.models[0])
        head = {name: value for name, value in server.state.items() if name.startswith(_HEAD)}
        load(net, {**net.state_dict(), **part(server.state, _BODY), **head})
        yield "global", net


def statistics(parts: Iterable[tuple[Tensor, Tensor]], classes: int) -> dict[str, Tensor]:
    """Sum over samples: all that is ever known of them.

    Args:
        parts: Features (n, d) and their labels (n,) int64, at least one part.
        classes: C.

    Returns:
        In float64, on the features' device: ``first`` (d,), the sum of the features; ``second``
        (d, d), the sum of their outer products; ``sums`` (C, d) and ``counts`` (C,), by class.
    """
    found: dict[str, Tensor] = {}
    for features, labels in parts:
        values, targets = features.double(), labels.to(features.device)
        sums = values.new_zeros(classes, values.shape[1]).index_add_(0, targets, values)
        counts = torch.bincount(targets, minlength=classes).double()
        new = {
            "first": values.sum(0),
            "second": values.T @ values,
            "sums": sums,
            "counts": counts,
        }
        found = {name: found[name] + value if found else value for name, value in new.items()}
    return found


def scatter(total: Mapping[str, Tensor], covariance: Covariance) -> Tensor:
    """Return the covariance of the samples behind some sums, (d, d) float64.

    Args:
        total: As ``statistics`` returns it, of at least two samples.
        covariance: ``total`` divides by N-1; ``within`` by N minus the classes that are there.

    Raises:
        TrainingError: There are too few samples for it.
    """
    counts, first = total["counts"], total["first"]
    count = counts.sum()
    if covariance == "total":
        centre, freedom = torch.outer(first, first) / count, count - 1
    else:
        sums = total["sums"][counts > 0]
        means = sums / counts[counts > 0, None]
        centre, freedom = means.T @ sums, count - len(means)
    if freedom < 1:
        raise TrainingError(
            f"{int(count)} images leave no freedom for the {covariance} covariance; give the "
            "clients more images than there are classes"
        )
    return (total["second"] - centre) / freedom


def solve(
    total: Mapping[str, Tensor], *, covariance: Covariance, ridge: float, absent: float
) -> tuple[Tensor, Tensor]:
    """Return the head that linear discriminant analysis gives, in float64.

    Args:
        total: As ``statistics`` returns it.
        covariance: See ``scatter``. With ``total``, as in FedCGS' code, this is not textbook LDA.
        ridge: Added to the diagonal, as a multiple of its mean.
        absent: Bias of a class without samples; its weights are 0.

    Returns:
        Weight (C, d), with rows Σ⁻¹μ_c, and bias (C,), -½μ_cᵀΣ⁻¹μ_c + log(n_c/N).

    Raises:
        TrainingError: The covariance cannot be inverted.
    """
    counts = total["counts"]
    matrix, present = scatter(total, covariance), counts > 0
    matrix.diagonal().add_(ridge * matrix.diagonal().mean())
    means = total["sums"][present] / counts[present, None]
    rows = torch.cholesky_solve(means.T, _root(matrix, int(counts.sum()), ridge)).T
    weight = torch.zeros_like(total["sums"])
    bias = torch.full_like(counts, absent)
    weight[present] = rows
    bias[present] = (counts[present] / counts.sum()).log() - (rows * means).sum(1) / 2
    return weight, bias


def _root(matrix: Tensor, count: int, ridge: float) -> Tensor:
    """Return the Cholesky factor of a covariance."""
    root: Tensor
    root, fault = torch.linalg.cholesky_ex(matrix)
    pivots = root.diagonal().square()
    smallest = pivots.amax() * torch.finfo(matrix.dtype).eps * len(matrix)
    if int(fault) or not bool(pivots.amin() > smallest):
        raise TrainingError(
            f"the covariance of {len(matrix)} features over {count} images cannot be inverted "
            f"with a ridge of {ridge}; set the method's `ridge` to 1e-3, or take a narrower model"
        )
    return root


def pack(matrix: Tensor) -> Tensor:
    """Return the upper triangle of a symmetric (d, d) matrix, (d·(d+1)/2,), row by row."""
    rows, columns = torch.triu_indices(*matrix.shape, device=matrix.device)
    triangle: Tensor = matrix[rows, columns]
    return triangle


def unpack(triangle: Tensor, size: int) -> Tensor:
    """Return the symmetric (size, size) matrix that ``pack`` packed."""
    rows, columns = torch.triu_indices(size, size, device=triangle.device)
    matrix = triangle.new_empty(size, size)
    matrix[rows, columns] = triangle
    matrix[columns, rows] = triangle
    return matrix


def _train_extractor(server: Server, resource: str) -> Mapping[str, Tensor]:
    """Return the weights, without the head, of the cell's network trained on public images."""
    cell, shape, model = server.cell, server.shape, server.cell.models[0]
    public = server.resource(resource).tensors
    split = Split(public["images"], public["labels"])

    def train() -> dict[str, Tensor]:
        net = build(
            model,
            channels=shape.channels,
            size=shape.size,
            classes=int(split.labels.max()) + 1,
            seed=derive(cell.seed, "initialisation", model.label),
            device=server.device.type,
        )
        server.train(net, split, cell.recipe, name="extractor")
        return {k: v for k, v in net.state_dict().items() if not k.startswith(_HEAD)}

    settings = {
        "method": [FedCGS.name, FedCGS.version],
        "images": tensors_digest(public),
        "recipe": cell.recipe.model_dump(mode="json", exclude_defaults=True),
        "model": model.model_dump(mode="json", exclude_none=True),
        "versions": [Recipe.version, MODELS.get(model.name).version],
        "normalisation": list(shape.normalisation.to_json().values()),
        "augment": shape.augment,
        "seed": cell.seed,
    }
    return server.artefact("extractor", settings, train, public=True).tensors


def _chunks(data: Split) -> Iterable[tuple[Tensor, Tensor]]:
    for start in range(0, len(data), _CHUNK):
        yield data.images[start : start + _CHUNK], data.labels[start : start + _CHUNK]
