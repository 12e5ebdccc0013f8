"""The settings of one cell, put together from those of its parts, and hashed into the cell's id.

A cell is one fully resolved configuration: which data, who holds it, which networks, how clients
train, which method with which budget, how it is evaluated, and the seed. Where a result runs
(executor, workers, device, folders) is not part of it.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, Protocol, Self, cast

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from fedbench.data.schemes import SCHEMES, DirichletCapped, scheme_settings
from fedbench.data.settings import DOMAINS_VERSION, Data, Partition
from fedbench.data.specs import DATASETS
from fedbench.errors import SettingsError, did_you_mean
from fedbench.models.families import MODELS
from fedbench.models.settings import Model
from fedbench.registry import Registry, plugin_digest
from fedbench.settings import Settings, validate
from fedbench.training.recipe import Precision, Recipe, Student


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
    ece_bins: int = Field(15, ge=2, le=10_000)  # Guo et al. 2017
    """Equal-width confidence bins of the expected calibration error."""


class MethodConfig(Settings):
    """Base of every method's settings."""

    name: str
    """The method's name; `fedbench methods` lists them."""
    preset: str | None = None
    """The preset that the settings came from: a label, not part of the cell's id."""
    validation: Literal["none", "poll", "pooled"] = "none"  # fedbench: fixed steps
    """How the method may measure itself: not at all, by asking the clients (charged), or on
    their hold-outs uploaded to the server (charged, and named as a privilege)."""

    @classmethod
    def has_local_epochs(cls) -> bool:
        """Whether its `epochs` are those of clients in each round, as it has `rounds` as well."""
        return {"epochs", "rounds"} <= cls.model_fields.keys()

    def started(self, model: Model) -> Model:
        """Return an architecture with the initialisation that this method has it begin with."""
        return model

    def idle(self, models: Iterable[Model]) -> Iterator[str]:
        """Yield the settings that change nothing for these architectures.

        They are no part of the cell's id, so a preset may name what acts on some cells only.
        """
        yield from ()


class Declares(Protocol):
    """What a cell has to know of a method with its settings."""

    def plugins(self, cell: Cell) -> dict[str, str]:
        """Return the digests of the plugin files behind its resources."""


class MethodClass(Protocol):
    """What a cell has to know of a method's class (see ``federation.method.Method``)."""

    name: str
    version: int
    Config: type[MethodConfig]
    presets: Mapping[str, Mapping[str, Any]]
    uses_budget: bool
    uses_student: bool

    def __call__(self, config: MethodConfig) -> Declares:
        """Return the method with its settings."""


def methods_in(module: ModuleType) -> dict[str, type[object]]:
    """Return the methods that a module itself defines, by name."""
    return {
        vars(thing)["name"]: thing
        for thing in vars(module).values()
        if isinstance(thing, type)
        and issubclass(getattr(thing, "Config", object), MethodConfig)
        and thing.__module__ == module.__name__
        and "name" in vars(thing)
    }


def _of_its_file(module: ModuleType, name: str) -> MethodClass:
    """Return the method that a file of ``fedbench/methods/`` is named after."""
    found = methods_in(module)
    if name not in found:
        raise SettingsError(
            f"{module.__file__} defines {', '.join(found) or 'no method'}; a method's file has "
            f"its name, so name the class {name!r} or rename the file"
        )
    return cast(MethodClass, found[name])


#: All methods. Each file of ``fedbench/methods/`` is the method of its own name, and is imported
#: when it is asked for. ``fedbench.methods`` has the same table for those who run methods.
METHODS: Registry[MethodClass] = Registry(
    "method",
    "fedbench.methods",
    targets={
        module.name: f"fedbench.methods.{module.name}"
        for module in pkgutil.iter_modules([str(Path(__file__).parent / "methods")])
    },
    pick=_of_its_file,
)


def validate_method(value: object) -> MethodConfig:
    """Turn a name or a dictionary into the named method's own settings, its preset expanded.

    Raises:
        ValueError: It names no method or preset, or a setting is wrong.
    """
    if isinstance(value, MethodConfig):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("a method is a name, or a mapping with `name` and the method's settings")
    method = METHODS.get(value["name"])
    preset = value.get("preset")
    if preset is not None and not (isinstance(preset, str) and preset in method.presets):
        raise ValueError(
            f"method {method.name!r} has no preset {preset!r}"
            f"{did_you_mean(str(preset), method.presets)}; "
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
    partition: Annotated[SerializeAsAny[Partition], BeforeValidator(scheme_settings)] = (
        DirichletCapped()
    )
    """Who holds which training image; the settings are those of its scheme."""
    models: Annotated[tuple[Model, ...], BeforeValidator(_models)] = (Model(),)
    """One architecture for all clients, or several: client k of K takes number ⌊k·m/K⌋ of m."""
    participation: float = Field(1.0, gt=0, le=1)  # DENSE: all clients
    """Share of the clients that take part in each round, at least one."""
    recipe: Recipe = Recipe()
    """How clients (and a centralised model) train."""
    student: Student = Student()
    """How any model is trained on a shared or synthetic set."""
    method: Annotated[SerializeAsAny[MethodConfig], BeforeValidator(validate_method)]
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
        return address(identity(self))


def address(identity: Mapping[str, Any]) -> str:
    """Return the cell id, 16 hexadecimal digits, of what ``identity`` returns."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity(cell: Cell) -> dict[str, Any]:
    """Return what the cell id hashes: settings that are not defaults, and versions of the parts.

    A budget or a student's recipe that the method does not use is left out, and so is a method's
    setting that is idle. A default that is written out changes nothing; a changed default without
    a raised version is caught by the golden file in the tests. Of what comes from plugin files
    their digests count.
    """
    settings = cell.model_dump(mode="json", exclude_defaults=True)
    if cell.partition.scheme != DirichletCapped().scheme:
        settings.setdefault("partition", {})["scheme"] = cell.partition.scheme
    for name in ("preset", *cell.method.idle(cell.models)):
        settings["method"].pop(name, None)
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
    if cell.partition.domains and DOMAINS_VERSION > 1:
        versions |= {"domains": DOMAINS_VERSION}
    return {"settings": settings, "versions": versions | _plugin_versions(cell, method)}


def _plugin_versions(cell: Cell, method: MethodClass) -> dict[str, Any]:
    """Return the digests of the plugin files that a cell uses anything of; nothing for none.

    They are in two parts for tables: rows that are compared have the same data, partition and
    clients' models (``shared_plugins``), and may differ in what their methods bring.
    """
    shared = DATASETS.plugins(cell.data.name) | SCHEMES.plugins(cell.partition.scheme)
    for model in cell.models:
        shared |= MODELS.plugins(model.name)
    own = method(cell.method).plugins(cell)
    others = [*_models_in(cell.method), *(_models_in(cell.student) if method.uses_student else ())]
    for model in others:
        own |= {what: by for what, by in MODELS.plugins(model.name).items() if what not in shared}
    digest = plugin_digest(method)
    return {
        **({} if digest is None else {"plugin": digest}),
        **({"plugins": own} if own else {}),
        **({"shared_plugins": shared} if shared else {}),
    }


def _models_in(value: object) -> Iterator[Model]:
    """Yield the architectures anywhere in settings."""
    if isinstance(value, Model):
        yield value
    elif isinstance(value, Settings):
        yield from (model for _, inner in value for model in _models_in(inner))
    elif isinstance(value, tuple):
        yield from (model for inner in value for model in _models_in(inner))


def family_plugins(cell: Cell) -> dict[str, str]:
    """Return the digests of the plugin files that bring any of a cell's architectures.

    What is kept of trained networks is of these files; a cell without plugins has none.
    """
    models = [*cell.models, *_models_in(cell.method), *_models_in(cell.student)]
    return {what: by for model in models for what, by in MODELS.plugins(model.name).items()}


def parse(values: dict[str, Any]) -> Cell:
    """Validate a cell.

    Raises:
        SettingsError: With one line for each fault: where it is, what is wrong, what would do.
    """
    return validate(Cell, values)
