"""Every method passes what `fedbench.testing` asks of methods of one's own.

FD3-4, nobody reaches or sends what is not theirs, is among it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fedbench.methods import METHODS
from fedbench.testing import MethodProperties

DISTIL = {"steps": 2, "batch_size": 8}
IPC, EACH = {"budget": {"ipc": 1}}, {"budget": {"pixels": 6 * 256, "scope": "per_client"}}
IMAGES, PICTURE = {"budget": {"pixels": 24 * 256}}, {"budget": {"pixels": 64 * 96}}
LOGITS = {**DISTIL, "exchange": "logits", "augment": "none"}
MATCHING = {"iterations": 2}
MADE = {"epochs": 2, "steps": 2, "batch_size": 12, "noise": 4, "width": 2, "batch_norm": 0}
COLLAB = {**MATCHING, "local_iterations": 2}

#: Methods whose clients send real images: they say so, and pay for it.
SENDERS = {"base_images", "centralised", "random_real"}
#: One cell for each method, and more where clients send something else.
TRAJECTORIES = {
    "experts": 1,
    "start_epochs": 1,
    "inner_steps": 2,
    "iterations": 2,
    "evaluate_every": 1,
    "judge_epochs": 1,
}
SEARCH = {"student_recipe": "search", "validation": "pooled", "trials": 2, "search_epochs": 1}
INVERSION = {
    "steps": 2,
    "initial_batches": 1,
    "student_epochs": 1,
    "steps_per_epoch": 2,
    "batch_size": 8,
    "batch_norm": 0,
}
GUIDED = {
    "prior": "unused@20",
    "prior_steps": 1,
    "images_per_class": 1,
    "batch_size": 8,
    "batch_norm": 0,
    "steps": 2,
    "epochs": 1,
}
CELLS = {
    "base_images": ({"name": "base_images", **SEARCH}, IPC),
    "centralised": ({"name": "centralised"}, {}),
    "co_boosting": ({"name": "co_boosting", **MADE}, {}),
    "collabdm": ({"name": "collabdm", **COLLAB}, IPC),
    "collabdm-expanded": (
        {"name": "collabdm", "preset": "reference", **COLLAB, "samples": 5, "expand": 2},
        IPC,
    ),
    "deep_inversion": (
        {
            "name": "deep_inversion",
            **INVERSION,
            "label_weights": "absolute",
            "persist_moments": True,
        },
        {},
    ),
    "dense": ({"name": "dense", **MADE}, {}),
    "ensemble": ({"name": "ensemble"}, {}),
    "fedavg": ({"name": "fedavg", "rounds": 2, "epochs": 1}, {}),
    "fedavg-pooled": (
        {"name": "fedavg", "rounds": 1, "epochs": 1, "validation": "pooled"},
        {},
    ),
    "fedcgs": ({"name": "fedcgs"}, {}),
    "feddf": ({"name": "feddf", **DISTIL, "rounds": 2}, IMAGES),
    "feddf-logits": ({"name": "feddf", **LOGITS, "rounds": 2}, IMAGES),
    "fedlmg": ({"name": "fedlmg", **GUIDED}, {}),
    "fedprox": ({"name": "fedprox", "rounds": 1, "epochs": 1}, {}),
    "local": ({"name": "local"}, {}),
    "local_dm": ({"name": "local_dm", **MATCHING}, EACH),
    "local_dm-expanded": (
        {"name": "local_dm", "preset": "reference", **MATCHING, "samples": 5, "expand": 2},
        EACH,
    ),
    "local_kip": ({"name": "local_kip", "steps": 2}, EACH),
    "random_real": ({"name": "random_real"}, IPC),
    "single_image": ({"name": "single_image", **DISTIL, "crops": 30, "selected": 10}, PICTURE),
    "trajectory_matching": ({"name": "trajectory_matching", **TRAJECTORIES, **SEARCH}, IPC),
}


def _properties(name):
    """Return the test class of a cell; its tests share runs, so one worker has all of them."""
    settings, over = CELLS[name]
    words = name.replace("-", "_")
    body = {
        "method": settings["name"],
        "settings": {key: value for key, value in settings.items() if key != "name"},
        "cell": over,
        "page": f"../../docs/methods/{settings['name']}.md",
        "sends_images": settings["name"] in SENDERS,
        "kills": 3,
        "pytestmark": pytest.mark.xdist_group(f"properties of {name}"),
        "__module__": __name__,
    }
    return type(f"Test_{words}", (MethodProperties,), body)


globals().update({kind.__name__: kind for kind in map(_properties, CELLS)})


def test_every_method_is_looked_at():
    """Here, or in a file of its own, as `fedbench new-method` writes it."""
    for name in {*METHODS.names()} - {method["name"] for method, _ in CELLS.values()}:
        text = Path(__file__).with_name(f"test_{name}.py").read_text()
        assert f'(MethodProperties):\n    method = "{name}"' in text
