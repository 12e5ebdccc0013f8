"""Your own partition scheme: one client holds most images, the others share the rest.

fedbench partition --plugin examples/own_scheme.py --scheme one_large --set partition.share=0.8
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from fedbench.data.partitioners.common import Indices, Rng
from fedbench.data.schemes import Scheme
from fedbench.data.settings import Partition


class OneLarge(Partition):
    """Settings of `one_large`; `clients` and `validation` come with every scheme."""

    scheme: Literal["one_large"] = "one_large"
    share: float = Field(0.5, gt=0, lt=1)


def one_large(labels: np.ndarray, settings: OneLarge, rng: Rng, classes: int) -> list[Indices]:
    """Return the indices of each client's images; what comes back is checked."""
    order = rng.permutation(len(labels)).astype(np.int64)
    border = round(settings.share * len(labels))
    return [order[:border], *np.array_split(order[border:], settings.clients - 1)]


ONE_LARGE = Scheme(
    name="one_large",
    title="One client holds a share of all images, the others the rest in equal parts",
    settings=OneLarge,
    function=one_large,
    source="an example",
)
