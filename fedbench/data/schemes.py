"""The partition schemes by name: what each is called, takes and cites, without its code.

`Dirichlet` alone means five different things in the field, so every variant has a name of its own
(docs/partitions.md compares them), and a settings class of its own. The functions are imported
when a partition is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from fedbench.data.settings import Partition
from fedbench.errors import SettingsError
from fedbench.registry import Registry, imported
from fedbench.settings import validate

if TYPE_CHECKING:
    import numpy as np

    from fedbench.data.partitioners.common import Indices, Rng

    # The second argument has the type of the scheme's own settings.
    Partitioner = Callable[[np.ndarray, Any, Rng, int], list[Indices]]


@dataclass(frozen=True)
class Scheme:
    """One way to spread labelled images over clients.

    Attributes:
        name: The name in settings and tables.
        title: One line for lists.
        settings: Its settings. The default of their ``scheme`` is the scheme's name.
        function: The function, or ``module:function``, called as ``(labels, settings, rng,
            classes)`` with settings of that class; it returns one array of indices for each client.
        source: Where it comes from.
        exact_union: Whether every image goes to some client; otherwise some may stay unassigned.
        version: Raised when the same seed gives another partition; part of the cell's id.
    """

    name: str
    title: str
    settings: type[Partition]
    function: str | Partitioner
    source: str
    exact_union: bool = True
    version: int = 1

    @property
    def parameters(self) -> frozenset[str]:
        """Names of its own settings, those that not every scheme has."""
        return frozenset(self.settings.model_fields.keys() - Partition.model_fields.keys())

    def load(self) -> Partitioner:
        """Import and return the function."""
        return imported(self.function)


class Skewed(Partition):
    """What all Dirichlet schemes take."""

    beta: float = Field(0.5, gt=0)  # DENSE README, CollabDM
    """Dirichlet concentration (β, α): small is skewed, large approaches IID."""


class ClassWise(Skewed):
    """What the schemes take that spread each class over the clients, and draw until all fits."""

    max_tries: int = Field(1000, ge=1)  # fedbench: the reference codes retry for ever
    """Draws before giving up with an error."""


class ClassWiseSized(ClassWise):
    """What those of them take that bound the clients' sizes from below."""

    min_size: int = Field(10, ge=0)  # DENSE, CollabDM
    """Smallest client that is accepted; the draw is repeated until it holds."""


class Sharded(Partition):
    """What the shard schemes take."""

    shards: int = Field(2, ge=1)  # decentralizepy (S5)
    """Shards for each client."""


class FewClasses(Partition):
    """What the schemes take that give each client some classes only."""

    classes_per_client: int = Field(2, ge=1)  # FedD3
    """Classes that each client holds."""


class Iid(Partition):
    """Settings of `iid`."""

    scheme: Literal["iid"] = "iid"
    """The scheme's name."""


class Dirichlet(ClassWiseSized):
    """Settings of `dirichlet`."""

    scheme: Literal["dirichlet"] = "dirichlet"
    """The scheme's name."""


class DirichletCapped(ClassWiseSized):
    """Settings of `dirichlet_capped`, the scheme where none is named."""

    scheme: Literal["dirichlet_capped"] = "dirichlet_capped"
    """The scheme's name."""
    legacy_seed: int | None = Field(None, ge=0, lt=2**32)  # fedbench: a split for each cell's seed
    """Draw by NumPy's legacy generator with this seed, as DENSE's code does, whatever the cell's
    seed: all seeds share one partition. With 1, five clients and β=.5 that is the split of CIFAR-10
    that DENSE prints."""


class DirichletPerClient(Skewed):
    """Settings of `dirichlet_per_client`."""

    scheme: Literal["dirichlet_per_client"] = "dirichlet_per_client"
    """The scheme's name."""
    sigma: float = Field(0.0, ge=0, le=100)  # Co-Boosting; beyond, a float64 overflows
    """Spread of log-normal client sizes; 0 makes them equal."""
    filling: Literal["in_turn", "interleaved"] = "in_turn"  # Flower; Co-Boosting interleaves
    """Client after client, or the next image to a random client."""
    legacy_seed: int | None = Field(None, ge=0, lt=2**32)  # fedbench: a split for each cell's seed
    """Draw by the generators of Flower's `create_lda_partitions` with this seed, whatever the
    cell's seed: all seeds share one partition. With 42 and 84 and 20 clients these are the splits
    of CIFAR-10 in the logs of the single shared image."""


class DirichletGroups(ClassWise):
    """Settings of `dirichlet_groups`."""

    scheme: Literal["dirichlet_groups"] = "dirichlet_groups"
    """The scheme's name."""


class FloorPerClass(ClassWiseSized):
    """Settings of `floor_per_class`."""

    scheme: Literal["floor_per_class"] = "floor_per_class"
    """The scheme's name."""
    floor: int = Field(10, ge=1)  # fedbench: CollabDM uses its ipc (50 by default)
    """Images of every class that every client gets first."""


class ShardsWindow(Sharded):
    """Settings of `shards_window`."""

    scheme: Literal["shards_window"] = "shards_window"
    """The scheme's name."""


class ShardsFixed(Sharded):
    """Settings of `shards_fixed`."""

    scheme: Literal["shards_fixed"] = "shards_fixed"
    """The scheme's name."""


class ClassesExact(FewClasses):
    """Settings of `classes_exact`."""

    scheme: Literal["classes_exact"] = "classes_exact"
    """The scheme's name."""


class ClassesRoundRobin(FewClasses):
    """Settings of `classes_round_robin`."""

    scheme: Literal["classes_round_robin"] = "classes_round_robin"
    """The scheme's name."""


class HalfIidHalfClass(Partition):
    """Settings of `half_iid_half_class`."""

    scheme: Literal["half_iid_half_class"] = "half_iid_half_class"
    """The scheme's name."""
    iid_share: float = Field(0.5, ge=0, le=1)  # S3, IV-D
    """Share of the images that is spread at random (u)."""


class DisjointClasses(Partition):
    """Settings of `disjoint_classes`."""

    scheme: Literal["disjoint_classes"] = "disjoint_classes"
    """The scheme's name."""


_HERE = "fedbench.data.partitioners"

IID = Scheme(
    name="iid",
    title="A random permutation cut into equal parts",
    settings=Iid,
    function=f"{_HERE}.iid:iid",
    source="FedAvg, https://arxiv.org/abs/1602.05629",
)
DIRICHLET = Scheme(
    name="dirichlet",
    title="Each class spread by Dir(beta) over the clients, without a cap",
    settings=Dirichlet,
    function=f"{_HERE}.dirichlet:dirichlet",
    source="FL-bench, https://github.com/KarhouTam/FL-bench",
)
DIRICHLET_CAPPED = Scheme(
    name="dirichlet_capped",
    title="As dirichlet, but a client that holds N/K images gets none of later classes",
    settings=DirichletCapped,
    function=f"{_HERE}.dirichlet:dirichlet_capped",
    source="NIID-Bench, https://arxiv.org/abs/2102.02079; DENSE, https://arxiv.org/abs/2112.12371",
)
DIRICHLET_PER_CLIENT = Scheme(
    name="dirichlet_per_client",
    title="Each client draws its own class mix from Dir(beta); equal or log-normal sizes",
    settings=DirichletPerClient,
    function=f"{_HERE}.per_client:dirichlet_per_client",
    source="Flower's create_lda_partitions after https://arxiv.org/abs/1909.06335; sizes and "
    "interleaved filling: Co-Boosting, https://github.com/rong-dai/Co-Boosting",
)
DIRICHLET_GROUPS = Scheme(
    name="dirichlet_groups",
    title="dirichlet_capped inside groups of 10 clients, then re-cut into equal parts",
    settings=DirichletGroups,
    function=f"{_HERE}.dirichlet:dirichlet_groups",
    source="FedDF, https://arxiv.org/abs/2006.07242",
)
FLOOR_PER_CLASS = Scheme(
    name="floor_per_class",
    title="Some images of every class to every client, the rest by dirichlet_capped",
    settings=FloorPerClass,
    function=f"{_HERE}.dirichlet:floor_per_class",
    source="CollabDM, https://arxiv.org/abs/2408.02266",
)
SHARDS_WINDOW = Scheme(
    name="shards_window",
    title="Random windows cut out of the list of images sorted by label",
    settings=ShardsWindow,
    function=f"{_HERE}.shards:shards_window",
    source="decentralizepy's KShardDataPartitioner, https://github.com/sacs-epfl/decentralizepy",
    exact_union=False,
)
SHARDS_FIXED = Scheme(
    name="shards_fixed",
    title="Equal shards of the list sorted by label, drawn without replacement",
    settings=ShardsFixed,
    function=f"{_HERE}.shards:shards_fixed",
    source="FedAvg, https://arxiv.org/abs/1602.05629; as in FL-bench",
    exact_union=False,
)
CLASSES_EXACT = Scheme(
    name="classes_exact",
    title="Exactly S classes for each client, owners spread evenly over the classes",
    settings=ClassesExact,
    function=f"{_HERE}.classes:classes_exact",
    source="EPFL report 'On the Efficiency of Sharing Distilled Data' (its text, not its code)",
    exact_union=False,
)
CLASSES_ROUND_ROBIN = Scheme(
    name="classes_round_robin",
    title="Client i owns classes i, i+1, ... (mod C); owners share a class evenly",
    settings=ClassesRoundRobin,
    function=f"{_HERE}.classes:classes_round_robin",
    source="FedD3, https://arxiv.org/abs/2208.11311",
    exact_union=False,
)
HALF_IID_HALF_CLASS = Scheme(
    name="half_iid_half_class",
    title="A random share spread evenly, the rest cut in order of its labels",
    settings=HalfIidHalfClass,
    function=f"{_HERE}.iid:half_iid_half_class",
    source="EPFL report 'Dataset Distillation for One-Shot FL', section IV-D",
)
DISJOINT_CLASSES = Scheme(
    name="disjoint_classes",
    title="Whole classes, each to one client, in order and balanced by size",
    settings=DisjointClasses,
    function=f"{_HERE}.classes:disjoint_classes",
    source="EPFL report 'Dataset Distillation for One-Shot FL'; whole classes: fedbench",
)

SCHEMES: Registry[Scheme] = Registry(
    "partition scheme",
    "fedbench.schemes",
    {
        scheme.name: scheme
        for scheme in (
            IID,
            DIRICHLET,
            DIRICHLET_CAPPED,
            DIRICHLET_PER_CLIENT,
            DIRICHLET_GROUPS,
            FLOOR_PER_CLASS,
            SHARDS_WINDOW,
            SHARDS_FIXED,
            CLASSES_EXACT,
            CLASSES_ROUND_ROBIN,
            HALF_IID_HALF_CLASS,
            DISJOINT_CLASSES,
        )
    },
)


def scheme_settings(value: object) -> object:
    """Turn a mapping into the settings of the scheme that it names: a validator of cells.

    Args:
        value: A mapping, where a missing `scheme` means `dirichlet_capped`; anything else is
            returned as it is.

    Raises:
        SettingsError: There is no such scheme.
        ValidationError: The scheme takes no such settings.
    """
    return _named(value).settings.model_validate(value) if isinstance(value, Mapping) else value


def partition_settings(values: Mapping[str, object]) -> Partition:
    """Return the settings of a partition by themselves, outside a cell.

    Raises:
        SettingsError: There is no such scheme, or it takes no such settings; with one line for
            each fault.
    """
    return validate(_named(values).settings, values)


def _named(values: Mapping[str, object]) -> Scheme:
    name = values.get("scheme", DIRICHLET_CAPPED.name)
    if not isinstance(name, str):
        raise SettingsError(f"partition.scheme is the name of a partition scheme, not {name!r}")
    return SCHEMES.get(name)
