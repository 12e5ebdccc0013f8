"""The base of all settings: frozen, typed, and strict about names.

What there is to set lives beside what it sets: data and partitions in ``data``, networks in
``models``, training in ``training``; ``config`` puts a cell together.
"""

from __future__ import annotations

from collections.abc import Collection
from types import UnionType
from typing import ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from fedbench.errors import SettingsError, did_you_mean

S = TypeVar("S", bound="Settings")
#: What settings are called elsewhere.
OTHER_WORDS = {
    "learning_rate": "lr",
    "alpha": "beta",
    "concentration": "beta",
    "batch": "batch_size",
    "bs": "batch_size",
    "wd": "weight_decay",
    "num_clients": "clients",
    "n_clients": "clients",
    "local_epochs": "epochs",
    "num_epochs": "epochs",
    "num_rounds": "rounds",
    "images_per_class": "ipc",
    "dataset": "name",
}


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error that names the nearest one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    #: Part of the cell id; raised when a default or the meaning of a setting changes results.
    version: ClassVar[int] = 1

    @classmethod
    def _called(cls) -> str:
        """Return what errors call these settings."""
        return cls.__name__

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: object) -> object:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    raise ValueError(
                        f"unknown key {key!r}{near(str(key), cls.model_fields)}"
                        f"; {cls._called()} takes: {', '.join(cls.model_fields)}"
                    )
                if isinstance(values[key], bool) and _is_number(cls.model_fields[key].annotation):
                    raise ValueError(
                        f"{key} is a number, not {str(values[key]).lower()}; YAML reads yes, no, "
                        "on and off as truth values"
                    )
        return values


def near(name: str, known: Collection[str]) -> str:
    """Return ``did_you_mean``'s words, for what a setting is called elsewhere as well."""
    other = OTHER_WORDS.get(name)
    return f" (did you mean {other!r}?)" if other in known else did_you_mean(name, known)


def _is_number(kind: object) -> bool:
    """Return whether a field takes numbers, and no truth value."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return bool({int, float} & {*kinds}) and bool not in kinds


def validate(kind: type[S], values: object, at: str = "") -> S:
    """Validate settings of any kind.

    Args:
        kind: Of settings.
        values: What is to be one.
        at: Their place in a cell, such as ``data``, for the errors.

    Raises:
        SettingsError: With one line for each fault: where it is, what is wrong, what would do.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(explain(error, at)) from error


def explain(error: ValidationError, at: str = "") -> str:
    """Return a validation error as lines ``place: what is wrong (got value)``."""
    lines = []
    for fault in error.errors(include_url=False):
        steps = [*([at] if at else []), *map(str, fault["loc"])]
        place = ".".join(steps) or "settings"
        message = fault["msg"].removeprefix("Value error, ")
        plain = fault["type"] in ("value_error", "missing")
        lines.append(
            f"{place}: {message}" if plain else f"{place}: {message} (got {fault['input']!r})"
        )
    return "\n".join(lines)
