"""What to call cells on the terminal: the method, and what tells a cell from the others at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fedbench.bench.records.about import STAR, method_label, overrides, preset_label
from fedbench.data.schemes import SCHEMES
from fedbench.report.labels import (
    Flat,
    dataset,
    flatten,
    model_label,
    starred,
    with_short_paths,
    written,
)

if TYPE_CHECKING:
    from fedbench.bench.survey import Survey

#: Settings that tell cells of one method apart.
_OWN = ("method.", "student.")
#: Parameters of partitions that a label shows only where they are not the default.
_MINOR = frozenset({"min_size", "max_tries", "sigma", "filling"})


def labels_of(survey: Survey) -> dict[str, str]:
    """Return what to call each cell of a survey's plan, by id."""
    return cell_labels({entry.cell_id: entry.settings for entry in survey.plan.cells})


def cell_labels(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Name cells so that no two of them are called the same.

    Args:
        cells: Settings by cell id.

    Returns:
        Labels by id, such as ``fedavg (one_shot) β=0.1 seed 3``.
    """
    flats = with_short_paths(map(flatten, cells.values()))
    flat = dict(zip(cells, flats, strict=True))
    families: dict[tuple[str, str | None], list[str]] = {}
    for name, settings in cells.items():
        method = settings["method"]
        preset = preset_label(method)
        family = method["name"], None if preset == STAR else preset
        families.setdefault(family, []).append(name)
    common = [name for name in _varying(flat.values()) if not name.startswith(_OWN)]
    labels = {}
    for members in families.values():
        varying = _varying(flat[name] for name in members)
        own = [name for name in varying if name.startswith(_OWN)]
        for name in members:
            labels[name] = _label(cells[name], flat[name], own, common)
    return labels


def _varying(several: Iterable[Flat]) -> list[str]:
    """Return the settings that differ among those that have them."""
    values: dict[str, set[object]] = {}
    for flat in several:
        for name, value in flat.items():
            values.setdefault(name, set()).add(value)
    return sorted(name for name, found in values.items() if len(found) > 1)


def _label(settings: Mapping[str, Any], flat: Flat, own: list[str], common: list[str]) -> str:
    """Return one cell's label.

    Args:
        settings: Of the cell.
        flat: The same, flattened, with short paths.
        own: The method's settings in which it differs from others of its method.
        common: Other settings in which the cells at hand differ.
    """
    method, partition = settings["method"], settings["partition"]
    scheme = SCHEMES.get(partition["scheme"])
    other = [f"method.{name}" for name in overrides(method)]
    preset = starred(preset_label(method), other, own)
    words = [method_label(method["name"], preset, written(flat, own))]
    for names, text in (
        ({"data.name", "data.path"}, dataset(flat)),
        ({"models"}, model_label(settings["models"])),
        ({"partition.scheme"}, scheme.name),
    ):
        words += [text] if names & {*common} else []
    own_parameters = {
        name
        for name in scheme.parameters
        if name not in _MINOR or partition[name] != scheme.settings.model_fields[name].default
    }
    shown = {*common, *(f"partition.{name}" for name in own_parameters)}
    shown -= {"data.name", "data.path", "models", "partition.scheme"}
    found = written(flat, sorted(shown))
    return " ".join(
        [*words, *(word.replace("beta=", "β=") for word in found), f"seed {settings['seed']}"]
    )
