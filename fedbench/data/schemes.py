"""The partition schemes by name: what each is called, takes and cites, without its code.

`Dirichlet` alone means five different things in the field, so every variant has a name of its own
(docs/partitions.md compares them). The functions are imported when a partition is drawn.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import numpy as np

    from fedbench.config import Partition
    from fedbench.data.partitioners.common import Indices, Rng

    Partitioner = Callable[[np.ndarray, Partition, Rng, int], list[Indices]]


@dataclass(frozen=True)
class Scheme:
    """One way to spread labelled images over clients.

    Attributes:
        name: The name in settings and tables.
        title: One line for lists.
        parameters: Fields of ``config.Partition`` that it uses, besides the number of clients and
            the validation share.
        function: ``module:function``, called as ``(labels, settings, rng, classes)``; it returns
            one array of indices for each client.
        source: Where it comes from.
        exact_union: Whether every image goes to some client; otherwise some may stay unassigned.
        version: Raised when the same seed gives another partition; part of the cell's id.
    """

    name: str
    title: str
    parameters: frozenset[str]
    function: str
    source: str
    exact_union: bool = True
    version: int = 1

    def load(self) -> Partitioner:
        """Import and return the function."""
        module, _, attribute = self.function.partition(":")
        return cast("Partitioner", getattr(importlib.import_module(module), attribute))


_HERE = "fedbench.data.partitioners"

IID = Scheme(
    name="iid",
    title="A random permutation cut into equal parts",
    parameters=frozenset(),
    function=f"{_HERE}.iid:iid",
    source="FedAvg, https://arxiv.org/abs/1602.05629",
)
DIRICHLET = Scheme(
    name="dirichlet",
    title="Each class spread by Dir(beta) over the clients, without a cap",
    parameters=frozenset({"beta", "min_size", "max_tries"}),
    function=f"{_HERE}.dirichlet:dirichlet",
    source="FL-bench, https://github.com/KarhouTam/FL-bench",
)
DIRICHLET_CAPPED = Scheme(
    name="dirichlet_capped",
    title="As dirichlet, but a client that holds N/K images gets none of later classes",
    parameters=frozenset({"beta", "min_size", "max_tries"}),
    function=f"{_HERE}.dirichlet:dirichlet_capped",
    source="NIID-Bench, https://arxiv.org/abs/2102.02079; DENSE, https://arxiv.org/abs/2112.12371",
)
DIRICHLET_PER_CLIENT = Scheme(
    name="dirichlet_per_client",
    title="Each client draws its own class mix from Dir(beta); equal or log-normal sizes",
    parameters=frozenset({"beta", "sigma", "filling"}),
    function=f"{_HERE}.per_client:dirichlet_per_client",
    source="Flower's create_lda_partitions after https://arxiv.org/abs/1909.06335; sizes and "
    "interleaved filling: Co-Boosting, https://github.com/rong-dai/Co-Boosting",
)
DIRICHLET_GROUPS = Scheme(
    name="dirichlet_groups",
    title="dirichlet_capped inside groups of 10 clients, then re-cut into equal parts",
    parameters=frozenset({"beta", "max_tries"}),
    function=f"{_HERE}.dirichlet:dirichlet_groups",
    source="FedDF, https://arxiv.org/abs/2006.07242",
)
FLOOR_PER_CLASS = Scheme(
    name="floor_per_class",
    title="Some images of every class to every client, the rest by dirichlet_capped",
    parameters=frozenset({"floor", "beta", "min_size", "max_tries"}),
    function=f"{_HERE}.dirichlet:floor_per_class",
    source="CollabDM, https://arxiv.org/abs/2408.02266",
)
SHARDS_WINDOW = Scheme(
    name="shards_window",
    title="Random windows cut out of the list of images sorted by label",
    parameters=frozenset({"shards"}),
    function=f"{_HERE}.shards:shards_window",
    source="decentralizepy's KShardDataPartitioner, https://github.com/sacs-epfl/decentralizepy",
    exact_union=False,
)
SHARDS_FIXED = Scheme(
    name="shards_fixed",
    title="Equal shards of the list sorted by label, drawn without replacement",
    parameters=frozenset({"shards"}),
    function=f"{_HERE}.shards:shards_fixed",
    source="FedAvg, https://arxiv.org/abs/1602.05629; as in FL-bench",
    exact_union=False,
)
CLASSES_EXACT = Scheme(
    name="classes_exact",
    title="Exactly S classes for each client, owners spread evenly over the classes",
    parameters=frozenset({"classes_per_client"}),
    function=f"{_HERE}.classes:classes_exact",
    source="EPFL report 'On the Efficiency of Sharing Distilled Data' (its text, not its code)",
    exact_union=False,
)
CLASSES_ROUND_ROBIN = Scheme(
    name="classes_round_robin",
    title="Client i owns classes i, i+1, ... (mod C); owners share a class evenly",
    parameters=frozenset({"classes_per_client"}),
    function=f"{_HERE}.classes:classes_round_robin",
    source="FedD3, https://arxiv.org/abs/2208.11311",
    exact_union=False,
)
HALF_IID_HALF_CLASS = Scheme(
    name="half_iid_half_class",
    title="A random share spread evenly, the rest cut in order of its labels",
    parameters=frozenset({"iid_share"}),
    function=f"{_HERE}.iid:half_iid_half_class",
    source="EPFL report 'Dataset Distillation for One-Shot FL', section IV-D",
)
DISJOINT_CLASSES = Scheme(
    name="disjoint_classes",
    title="Whole classes, each to one client, in order and balanced by size",
    parameters=frozenset(),
    function=f"{_HERE}.classes:disjoint_classes",
    source="EPFL report 'Dataset Distillation for One-Shot FL'; whole classes: fedbench",
)
