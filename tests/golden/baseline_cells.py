"""Cells that learn something: a few seconds of digits for every method in each of its presets.

Golden cells are as small as their code paths allow and are compared bit for bit, so they tell that
something moved and not whether it matters. These are large enough for an accuracy that means
something, on a GPU as well.
"""

from __future__ import annotations

from fedbench.bench.suites.suite import merge
from fedbench.config import Cell, parse
from fedbench.methods import METHODS

#: What all cells share: 900 of the digits, in three clients with uneven classes.
BASE = {
    "data": {"name": "digits", "train_size": 900},
    "partition": {"scheme": "dirichlet_capped", "beta": 0.5, "clients": 3},
    "models": {"name": "convnet", "width": 8, "depth": 2},
    "recipe": {"epochs": 6, "batch_size": 32},
    "student": {"epochs": 40, "batch_size": 32},
    "budget": {"ipc": 5},
}
DISTIL = {"steps": 100, "batch_size": 32}
CROPS = {**DISTIL, "crops": 600, "selected": 300}
MATCHING = {"iterations": 30, "samples": 40}
PUBLIC = {"budget": {"ipc": 30}}
INVERSION = {
    "parameters": "short",
    "steps": 30,
    "initial_batches": 3,
    "batches_per_epoch": 1,
    "student_epochs": 8,
    "steps_per_epoch": 15,
    "batch_size": 32,
}
GENERATORS = {
    "epochs": 4,
    "steps": 10,
    "batch_size": 32,
    "noise": 32,
    "width": 8,
    "student_batch_size": 32,
    "student_passes": 8,
    "lr": 0.05,
}
GUIDED = {
    "prior_steps": 30,
    "images_per_class": 6,
    "batch_size": 32,
    "steps": 5,
    "edits": 0,
    "epochs": 20,
    "student_batch_size": 32,
    "lr": 0.05,
}
TRAJECTORIES = {
    "experts": 2,
    "start_epochs": 2,
    "inner_steps": 5,
    "iterations": 20,
    "evaluate_every": 10,
    "judge_epochs": 10,
}
SEARCH = {"trials": 2, "search_epochs": 10}
HELD_OUT = {"partition": {"validation": 0.2}}
#: Inversion needs BatchNorm.
BATCH_NORM = {"models": {"name": "convnet", "width": 8, "depth": 2, "norm": "batch"}}

#: What keeps a method short, and what it needs of the cell, for those that are not short by nature.
SHORT: dict[tuple[str, str | None], tuple[dict[str, object], dict[str, object]]] = {
    # As many local images as are asked for: few clients hold few images of some classes.
    ("collabdm", "reference"): (
        {**MATCHING, "local_iterations": 10, "local_samples": 20, "local_images": "ipc"},
        {},
    ),
    ("collabdm", "fedbench"): ({"iterations": 30, "local_iterations": 10}, {}),
    ("base_images", "reference"): (SEARCH, HELD_OUT),
    ("co_boosting", "fedbench"): (GENERATORS, BATCH_NORM),
    ("co_boosting", "reference"): (GENERATORS, BATCH_NORM),
    ("dense", "fedbench"): (GENERATORS, BATCH_NORM),
    ("dense", "reference"): (GENERATORS, BATCH_NORM),
    ("dense", "fed_dafl"): (GENERATORS, BATCH_NORM),
    ("deep_inversion", "fedbench"): (INVERSION, BATCH_NORM),
    ("deep_inversion", "reference"): (INVERSION, BATCH_NORM),
    ("deep_inversion", "fed_adi"): (INVERSION, BATCH_NORM),
    ("fedlmg", "fedbench"): (GUIDED, BATCH_NORM),
    ("fedlmg", "reference"): ({**GUIDED, "edit_with": "both"}, BATCH_NORM),  # GUIDED edits nothing
    ("fedavg", None): ({"rounds": 4}, {}),
    ("fedprox", None): ({"rounds": 4}, {}),
    ("fedcgs", "reference"): ({"ridge": 1e-3}, {}),  # without, the covariance has no inverse
    ("feddf", "fedbench"): (DISTIL, PUBLIC),
    ("feddf", "reference"): ({**DISTIL, "rounds": 2}, {**PUBLIC, "partition": {"validation": 0.1}}),
    ("feddf", "single_image_rival"): (DISTIL, PUBLIC),
    ("local_dm", "reference"): (MATCHING, {}),
    ("local_dm", "fedbench"): ({"iterations": 30}, {}),
    ("local_kip", "reference"): ({"steps": 100}, {}),
    ("local_kip", "fedbench"): ({"steps": 30}, {}),
    ("single_image", "fedbench"): (CROPS, PUBLIC),
    ("trajectory_matching", "fedbench"): (TRAJECTORIES, {}),
    ("trajectory_matching", "reference"): (
        {**TRAJECTORIES, **SEARCH, "span": 1, "keep": "last", "lr_images": 10},
        HELD_OUT,
    ),
    ("single_image", "reference"): (
        {**CROPS, "selection": {"clusters": 20, "prune_share": 0.5}},
        PUBLIC,
    ),
}


def rows() -> list[tuple[str, str | None]]:
    """Return every method with each of its presets, and without where `fedbench` is none of them.

    From the table of methods, so that a new one is asked for its baseline.
    """
    found: list[tuple[str, str | None]] = []
    for name in METHODS.names():
        presets = METHODS.get(name).presets
        found += [(name, preset) for preset in presets]
        if "fedbench" not in presets:
            found.append((name, None))
    return found


def cell_of(method: str, preset: str | None, **over: object) -> Cell:
    """Return the cell of a row, with settings laid over it."""
    settings, needs = SHORT.get((method, preset), ({}, {}))
    named = {"name": method, **({"preset": preset} if preset else {}), **settings}
    return parse(merge(merge(merge(BASE, {"method": named}), needs), over))
