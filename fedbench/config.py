"""The settings of one cell: frozen, typed, and hashed into the cell's id.

A cell is one fully resolved configuration: which data, who holds it, which networks, how clients
train, which method with which budget, how it is evaluated, and the seed. Where a result runs
(executor, workers, device, folders) is not part of it.
"""

from __future__ import annotations

import hashlib
import json
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from fedbench.errors import SettingsError, did_you_mean
from fedbench.registry import DATASETS, METHODS, MODELS, SCHEMES, plugin_digest

Normalisation = Literal["dataset", "half", "none"]
Augment = Literal["standard", "none", "crop", "flip_crop"]
Precision = Literal["32-true", "bf16-mixed"]
Norm = Literal["instance", "group", "batch", "none"]
S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error that names the nearest one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    #: Part of the cell id; raised when a default or the meaning of a setting changes results.
    version: ClassVar[int] = 1

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: object) -> object:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    raise ValueError(
                        f"unknown key {key!r}{did_you_mean(str(key), cls.model_fields)}"
                        f"; {cls.__name__} takes: {', '.join(cls.model_fields)}"
                    )
                if isinstance(values[key], bool) and _is_number(cls.model_fields[key].annotation):
                    raise ValueError(
                        f"{key} is a number, not {str(values[key]).lower()}; YAML reads yes, no, "
                        "on and off as truth values"
                    )
        return values


def _is_number(kind: object) -> bool:
    """Return whether a field takes numbers, and no truth value."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return bool({int, float} & {*kinds}) and bool not in kinds


class Data(Settings):
    """Which images, how many of them, and in which form the networks see them."""

    name: str = "digits"
    """The data set's name; `fedbench datasets` lists them."""
    path: str | None = None
    """For `folder` and `nidd_5g`: its place below the data root, or an absolute path. Part of the
    cell's id."""
    train_size: int | None = Field(None, ge=1)
    """Training images to take, stratified by class; None takes all."""
    test_size: int | None = Field(None, ge=1)
    """Test images to take, stratified by class; None takes all."""
    subset_seed: int = 0
    """Seed of the two subsets: the same images for every seed of a cell, unless this is changed."""
    image_size: int | None = Field(None, ge=8, le=512)
    """Height and width in pixels that images are resized to; None keeps the data set's own."""
    normalisation: Normalisation = "dataset"
    """`dataset`: its published mean and standard deviation; `half`: .5 and .5; `none`: [0, 1]."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        spec = DATASETS.get(self.name)
        if spec.takes_path and self.path is None:
            raise ValueError(f"data set {self.name!r} needs `path`: the folder that holds it")
        if self.path is not None and not spec.takes_path:
            raise ValueError(
                f"data set {self.name!r} takes no `path`; it is looked for below the "
                "data root (FEDBENCH_DATA)"
            )
        return self

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return self.image_size or DATASETS.get(self.name).size


class Partition(Settings):
    """Who holds which training image. Which parameters count depends on the scheme."""

    scheme: str = "dirichlet_capped"
    """How labels are spread over clients; `fedbench partitions` lists the schemes."""
    clients: int = Field(5, ge=1)  # DENSE, CollabDM
    """Number of clients, K."""
    beta: float = Field(0.5, gt=0)  # DENSE README, CollabDM
    """Dirichlet concentration (β, α): small is skewed, large approaches IID."""
    min_size: int = Field(10, ge=0)  # DENSE, CollabDM
    """Smallest client that is accepted; the draw is repeated until it holds."""
    max_tries: int = Field(1000, ge=1)  # fedbench: the reference codes retry for ever
    """Draws before giving up with an error."""
    floor: int = Field(10, ge=1)  # fedbench: CollabDM uses its ipc (50 by default)
    """`floor_per_class`: images of every class that every client gets first."""
    sigma: float = Field(0.0, ge=0)  # Co-Boosting
    """`dirichlet_per_client`: spread of log-normal client sizes; 0 makes them equal."""
    filling: Literal["in_turn", "interleaved"] = "in_turn"  # Flower; Co-Boosting interleaves
    """`dirichlet_per_client`: client after client, or the next image to a random client."""
    shards: int = Field(2, ge=1)  # decentralizepy (S5)
    """`shards_window`, `shards_fixed`: shards for each client."""
    classes_per_client: int = Field(2, ge=1)  # FedD3
    """`classes_exact`, `classes_round_robin`: classes that each client holds."""
    iid_share: float = Field(0.5, ge=0, le=1)  # S3, IV-D
    """`half_iid_half_class`: share of the images that is spread at random (u)."""
    validation: float = Field(0.0, ge=0, lt=1)
    """Share of its images that each client holds out, withheld from every method."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        scheme = SCHEMES.get(self.scheme)
        always = {"scheme", "clients", "validation"}
        for name, field in type(self).model_fields.items():
            stray = name not in always and name not in scheme.parameters
            if stray and getattr(self, name) != field.default:
                takes = ", ".join(sorted(scheme.parameters)) or "no parameters"
                raise ValueError(f"scheme {self.scheme!r} takes no {name!r}; it takes {takes}")
        return self


class Model(Settings):
    """One network architecture. None takes the family's own value, which the cell then shows."""

    name: str = "convnet"  # DM, MTT, CollabDM
    """The family's name; `fedbench models` lists them."""
    width: int | None = Field(None, ge=1)
    """Channels of the (first) convolution."""
    depth: int | None = Field(None, ge=1)
    """Number of blocks, for families that have it as an option."""
    norm: Norm | None = None
    """Normalisation layer, for families that have it as an option."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: object) -> object:
        if isinstance(values, str):
            values = {"name": values}
        if not isinstance(values, dict):
            return values
        family = MODELS.get(values.get("name", cls.model_fields["name"].default))
        return {
            **values,
            **{key: default for key, default in family.options.items() if values.get(key) is None},
        }

    @model_validator(mode="after")
    def _check(self) -> Self:
        family = MODELS.get(self.name)
        for option in ("width", "depth", "norm"):
            if getattr(self, option) is not None and option not in family.options:
                takes = ", ".join(family.options) or "no options"
                raise ValueError(f"model {self.name!r} takes no {option!r}; it takes {takes}")
        return self

    @property
    def label(self) -> str:
        """A short name that tells architectures apart, such as ``convnet-w32``."""
        defaults = MODELS.get(self.name).options
        parts = [self.name]
        for option, letter in (("width", "w"), ("depth", "d"), ("norm", "")):
            value = getattr(self, option)
            if value is not None and value != defaults.get(option):
                parts.append(f"{letter}{value}")
        return "-".join(parts)


class Recipe(Settings):
    """How a classifier is trained."""

    optimizer: Literal["sgd", "adam"] = "sgd"  # DENSE, Co-Boosting, CollabDM
    """SGD with momentum, or Adam (which ignores `momentum`)."""
    lr: float = Field(0.01, gt=0)  # DENSE, Co-Boosting, CollabDM
    """Learning rate at the start."""
    momentum: float = Field(0.9, ge=0, lt=1)  # DENSE, Co-Boosting, CollabDM
    """Momentum of SGD."""
    weight_decay: float = Field(0.0, ge=0)  # DENSE
    """L2 penalty on all weights, as torch's optimisers define it."""
    batch_size: int = Field(64, ge=1)  # FedDF
    """Images in a step; a last batch of one image joins the one before it."""
    epochs: int = Field(20, ge=0)  # FedLMG
    """Passes over the training images."""
    schedule: Literal["constant", "cosine", "step"] = "constant"  # DENSE
    """`cosine` falls to 0 at the last epoch; `step` divides by 10 at each milestone."""
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5,)  # CollabDM, MTT
    """Shares of the epochs after which `step` divides the learning rate by 10."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of the gradient; None does not clip."""
    augment: Augment = "standard"
    """`standard` is the data set's own; `crop` pads by an eighth; `flip_crop` flips as well."""


class Student(Recipe):
    """How any model is trained on a shared or synthetic set."""

    weight_decay: float = Field(5e-4, ge=0)  # CollabDM, DM
    """L2 penalty on all weights."""
    batch_size: int = Field(256, ge=1)  # CollabDM, DM
    """Images in a step."""
    epochs: int = Field(300, ge=0)  # fedbench: CollabDM has 1001
    """Passes over the shared set."""
    schedule: Literal["constant", "cosine", "step"] = "step"  # CollabDM: x0.1 at half
    """`step` divides by 10 at each milestone."""
    model: Model | None = None  # CollabDM, DM: the network of the matching
    """Another architecture than the clients', to see whether the set serves it (cross-architecture
    evaluation); None takes the clients'."""


class Budget(Settings):
    """The storage that a shared or synthetic set may take. Exactly one of `ipc` and `pixels`."""

    ipc: int | None = Field(None, ge=1)
    """Images per class: short for ipc x classes x height x width pixels."""
    pixels: int | None = Field(None, ge=1)
    """Pixels; the channels of one pixel count once."""
    scope: Literal["total", "per_client"] = "total"
    """`total` at the server, or for each client."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.ipc is None) == (self.pixels is None):
            raise ValueError("a budget is given by either `ipc` or `pixels`, and not by both")
        return self


class Evaluation(Settings):
    """How final models are measured."""

    curve_size: int = Field(2000, ge=1)
    """Test images, stratified, on which points of curves are measured."""
    ece_bins: int = Field(15, ge=2)  # Guo et al. 2017
    """Equal-width confidence bins of the expected calibration error."""


class MethodConfig(Settings):
    """Base of every method's settings."""

    name: str
    """The method's name; `fedbench methods` lists them."""
    preset: str | None = None
    """The preset that the settings came from: a label, not part of the cell's id."""
    validation: Literal["none", "poll", "pooled"] = "none"
    """How the method may measure itself: not at all, by asking the clients (charged), or on
    their hold-outs uploaded to the server (charged, and named as a privilege)."""


def _method(value: object) -> object:
    """Turn a name or a dictionary into the named method's own settings, its preset expanded."""
    if isinstance(value, MethodConfig):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or "name" not in value:
        raise ValueError("a method is a name, or a mapping with `name` and the method's settings")
    method = METHODS.get(value["name"])
    preset = value.get("preset")
    if preset is not None and preset not in method.presets:
        raise ValueError(
            f"method {method.name!r} has no preset {preset!r}"
            f"{did_you_mean(preset, method.presets)}; "
            f"it has: {', '.join(method.presets) or 'none'}"
        )
    settings = dict(method.presets.get(preset or "", {}))
    for key, given in value.items():
        ours = settings.get(key)
        if isinstance(ours, dict) and isinstance(given, dict):
            given = {**ours, **given}
        settings[key] = given
    return method.Config.model_validate(settings)


def _models(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


class Cell(Settings):
    """One fully resolved configuration."""

    data: Data = Data()
    partition: Partition = Partition()
    models: Annotated[tuple[Model, ...], BeforeValidator(_models)] = (Model(),)
    """One architecture for all clients, or several: client k of K takes number ⌊k·m/K⌋ of m."""
    participation: float = Field(1.0, gt=0, le=1)  # DENSE: all clients
    """Share of the clients that take part in each round, at least one."""
    recipe: Recipe = Recipe()
    """How clients (and a centralised model) train."""
    student: Student = Student()
    """How any model is trained on a shared or synthetic set."""
    method: Annotated[SerializeAsAny[MethodConfig], BeforeValidator(_method)]
    budget: Budget | None = None
    evaluation: Evaluation = Evaluation()
    precision: Precision = "32-true"
    """`bf16-mixed` computes convolutions and matrix products in bfloat16."""
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.models) > self.partition.clients:
            raise ValueError(
                f"{len(self.models)} models for {self.partition.clients} clients; "
                "give at most one for each client"
            )
        if not self.models:
            raise ValueError("a cell needs at least one model")
        if self.method.validation != "none" and self.partition.validation == 0:
            raise ValueError(
                f"validation {self.method.validation!r} needs hold-outs; set "
                "partition.validation to a share such as 0.1"
            )
        return self

    def client_model(self, client: int) -> Model:
        """Return the architecture of a client (0 to K-1)."""
        return self.models[client * len(self.models) // self.partition.clients]

    @property
    def student_model(self) -> Model:
        """The architecture that is trained on a shared or synthetic set."""
        return self.student.model or self.models[0]

    @property
    def cell_id(self) -> str:
        """The cell's identity: 16 hexadecimal digits (see ``identity``)."""
        text = json.dumps(identity(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity(cell: Cell) -> dict[str, Any]:
    """Return what the cell id hashes: settings that are not defaults, and versions of the parts.

    A budget or a student's recipe that the method does not use is left out. A default that is
    written out changes nothing; a changed default without a raised version is
    caught by the golden file in the tests.
    """
    settings = cell.model_dump(mode="json", exclude_defaults=True)
    settings["method"].pop("preset", None)
    settings["method"]["name"] = cell.method.name
    method = METHODS.get(cell.method.name)
    if not method.uses_budget:
        settings.pop("budget", None)
    if not method.uses_student:
        settings.pop("student", None)
    versions = {
        "reader": DATASETS.get(cell.data.name).version,
        "scheme": SCHEMES.get(cell.partition.scheme).version,
        "method": method.version,
        "models": [MODELS.get(model.name).version for model in cell.models],
        **{
            part.__name__.lower(): part.version
            for part in (Data, Partition, Model, Recipe, Student, Budget, Evaluation, Cell)
        },
    }
    if method.uses_student and (student := cell.student.model) is not None:
        # Left out while it is 1, so that tables put these rows beside those of the clients' model.
        later = MODELS.get(student.name).version
        versions |= {"student_model": later} if later > 1 else {}
    if (plugin := plugin_digest(method)) is not None:
        versions["plugin"] = plugin
    return {"settings": settings, "versions": versions}


def parse(values: dict[str, Any]) -> Cell:
    """Validate a cell.

    Raises:
        SettingsError: With one line for each fault: where it is, what is wrong, what would do.
    """
    return validate(Cell, values)


def validate(kind: type[S], values: object) -> S:
    """Validate settings of any kind, with readable errors (see ``parse``)."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(explain(error)) from error


def explain(error: ValidationError) -> str:
    """Return a validation error as lines ``place: what is wrong (got value)``."""
    lines = []
    for fault in error.errors(include_url=False):
        place = ".".join(str(part) for part in fault["loc"]) or "settings"
        message = fault["msg"].removeprefix("Value error, ")
        plain = fault["type"] in ("value_error", "missing")
        lines.append(
            f"{place}: {message}" if plain else f"{place}: {message} (got {fault['input']!r})"
        )
    return "\n".join(lines)
