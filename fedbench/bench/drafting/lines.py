"""The methods of a first suite with settings of a size, and which of them do not fit, and why.

The sizes are those of ``benchmarks/digits.yaml``. A method without an entry here, such as a
plugin's, comes with its defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedbench.bench.drafting.choice import PROFILES, Choice, Size
from fedbench.bench.drafting.look import Look
from fedbench.bench.suites.plan import planned
from fedbench.bench.suites.suite import Tree, merge
from fedbench.config import parse
from fedbench.errors import SettingsError
from fedbench.methods import METHODS

#: Augmentations that mirror nothing: who knows whether a mirrored image keeps its class?
_NO_FLIP = "color_crop_cutout_scale_rotate"
_PICTURES = (
    "made for pictures, in which neighbouring pixels go together; those of a flow are neighbours "
    "in the file and nothing else"
)
_CROPS = "crops of a photograph look like no flow"
#: Methods that make or take pictures, which flows are not.
_PICTURES_ONLY = {
    "single_image": _CROPS,
    "dense": _PICTURES,
    "co_boosting": _PICTURES,
    "deep_inversion": _PICTURES,
    "fedlmg": _PICTURES,
}
_DATA_FREE: Tree = {
    "preset": "fedbench",
    "epochs": 12,
    "steps": 15,
    "batch_size": 64,
    "noise": 100,
    "width": 16,
    "student_batch_size": 64,
    "student_passes": 4,
    "lr": 0.05,
}
_DATA_FREE_SMOKE: Tree = {"epochs": 2, "steps": 3, "batch_size": 32, "noise": 32, "width": 8}
_OURS: Tree = {"preset": "fedbench"}
#: The networks of these suites have no BatchNorm, so its term is off.
_BLIND: Tree = {"batch_norm": 0}
#: For two cores, in the order in which people look for them. Several lines of one method are rows.
_QUICK: Mapping[str, tuple[Tree, ...]] = {
    "centralised": ({},),
    "local": ({},),
    "ensemble": ({},),
    "fedavg": ({"preset": "one_shot"}, {"rounds": 10, "epochs": 2}),
    "fedprox": ({"rounds": 10, "epochs": 2},),
    "random_real": ({},),
    "feddf": (_OURS,),
    "single_image": (_OURS | {"selected": 2000},),
    "collabdm": (_OURS | {"iterations": 100},),
    "local_dm": (_OURS | {"iterations": 100},),
    "local_kip": (_OURS,),
    "base_images": (_OURS,),
    "trajectory_matching": (_OURS | {"experts": 5, "iterations": 100},),
    "fedcgs": (_OURS,),
    "dense": (_DATA_FREE | _BLIND,),
    "co_boosting": (_DATA_FREE,),
    "deep_inversion": (
        _OURS
        | _BLIND
        | {"steps": 50, "initial_batches": 5, "student_epochs": 20, "steps_per_epoch": 20},
    ),
    "fedlmg": (_OURS | _BLIND | {"prior_steps": 400, "steps": 10, "images_per_class": 15},),
}
#: A few steps each, to see that they run.
_SMOKE: Mapping[str, tuple[Tree, ...]] = {
    "fedavg": ({"preset": "one_shot"}, {"rounds": 4, "epochs": 2}),
    "fedprox": ({"rounds": 4, "epochs": 2},),
    "feddf": ({"steps": 10},),
    "single_image": ({"steps": 10, "selected": 50},),
    "collabdm": ({"iterations": 10, "local_iterations": 10},),
    "local_dm": ({"iterations": 10},),
    "local_kip": ({"steps": 20, "target_batch": 50},),
    "trajectory_matching": ({"experts": 2, "start_epochs": 1, "iterations": 5, "inner_steps": 3},),
    "dense": (_DATA_FREE_SMOKE | _BLIND,),
    "co_boosting": (_DATA_FREE_SMOKE,),
    "deep_inversion": (
        {"steps": 2, "initial_batches": 2, "student_epochs": 2, "steps_per_epoch": 5} | _BLIND,
    ),
    "fedlmg": ({"prior_steps": 2, "steps": 2, "images_per_class": 1, "epochs": 2} | _BLIND,),
}
#: The methods' own lengths.
_PAPER: Mapping[str, tuple[Tree, ...]] = {
    "fedavg": ({"preset": "one_shot"}, {"rounds": 20, "epochs": 2}),
    "fedprox": ({"rounds": 20, "epochs": 2},),
    "feddf": (_OURS | {"steps": 10_000},),
    "single_image": (_OURS,),
    "collabdm": (_OURS,),
    "local_dm": (_OURS,),
    "trajectory_matching": (_OURS | {"iterations": 2000},),
    "dense": (_OURS | _BLIND,),
    "co_boosting": (_OURS,),
    "deep_inversion": (_OURS | _BLIND,),
    "fedlmg": (_OURS | _BLIND,),
}
#: Methods that augment what they match, by operations that may mirror.
_MATCHING = ("collabdm", "local_dm", "trajectory_matching")


@dataclass(frozen=True)
class Line:
    """One line of a suite's axis of methods.

    Attributes:
        settings: Of the method.
        why_not: Why it is left out, or None.
    """

    settings: Tree
    why_not: str | None = None


def lines(look: Look, choice: Choice, fixed: Mapping[str, Tree]) -> dict[str, list[Line]]:
    """Return the methods of each list that a suite needs: ``smoke``, ``quick`` and ``paper``.

    Args:
        look: The data.
        choice: What suits them.
        fixed: The settings of all cells, by profile.
    """
    return {
        name: [
            Line(settings, _why_not(settings, look, choice, fixed[name], choice.sizes[name]))
            for settings in _settings(name, look, choice)
        ]
        for name in PROFILES
        if name != "standard"
    }


def _settings(profile: str, look: Look, choice: Choice) -> Iterator[Tree]:
    """Yield every method, in the order in which people look for them."""
    table = {**_QUICK, **{"smoke": _SMOKE, "paper": _PAPER}.get(profile, {})}
    for name in (*table, *(name for name in METHODS.names() if name not in table)):
        for settings in table.get(name, ({},)):
            yield {"name": name, **settings, **_own(name, profile, look, choice)}


def _own(name: str, profile: str, look: Look, choice: Choice) -> Tree:
    """Return the settings of a method that depend on the data."""
    found: Tree = {}
    if name in _MATCHING:
        found["augment"] = "none" if look.flows else _NO_FLIP
    if name == "fedlmg" and choice.public:
        found["prior"] = f"unused@{choice.public}"
    size = choice.sizes[profile]
    if name == "collabdm" and size.rarest < max(size.ipc):
        # It starts from as many real images of each class as the budget has.
        found["initial"] = "noise"
    return found


def _why_not(settings: Tree, look: Look, choice: Choice, fixed: Tree, size: Size) -> str | None:
    """Say why a method does not fit, or return None."""
    name = settings["name"]
    if look.flows and name in _PICTURES_ONLY:
        return _PICTURES_ONLY[name]
    tree: dict[str, Any] = merge(fixed, {"method": settings})
    needed = max(size.ipc) * choice.classes
    if name in ("feddf", "fedlmg") and not choice.public:
        return (
            f"no public images: a budget of {needed:,} would be more than a fifth of the "
            f"{choice.images:,} training images; hold some back (`data.train_size`), or name "
            "another data set as `public`"
        )
    try:
        return planned(parse(tree)).skip
    except SettingsError as error:
        return str(error)
