"""Settings of an older form, as records and plans of that time hold them, brought to today's.

Cell ids are the same in both forms. Whoever reads a file calls this; settings classes know today's
form alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What the one bag of settings for all partition schemes held, and what each scheme took of it.
_EVERY = {"scheme", "clients", "validation"}
_OWN = {
    "iid": set(),
    "dirichlet": {"beta", "min_size", "max_tries"},
    "dirichlet_capped": {"beta", "min_size", "max_tries"},
    "dirichlet_per_client": {"beta", "sigma", "filling"},
    "dirichlet_groups": {"beta", "max_tries"},
    "floor_per_class": {"floor", "beta", "min_size", "max_tries"},
    "shards_window": {"shards"},
    "shards_fixed": {"shards"},
    "classes_exact": {"classes_per_client"},
    "classes_round_robin": {"classes_per_client"},
    "half_iid_half_class": {"iid_share"},
    "disjoint_classes": set(),
}
_BAG = _EVERY.union(*_OWN.values())


def of_today(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cell's settings without the parameters of other partition schemes than its own.

    Until each scheme had settings of its own, every cell was written with the parameters of all
    schemes; those of others were at their defaults and meant nothing. Anything else stays.

    Args:
        settings: The whole cell, of either form.
    """
    partition = settings.get("partition")
    if not isinstance(partition, Mapping) or partition.keys() != _BAG:
        return dict(settings)
    if (own := _OWN.get(partition["scheme"])) is None:
        return dict(settings)
    kept = {name: value for name, value in partition.items() if name in _EVERY | own}
    return {**settings, "partition": kept}
