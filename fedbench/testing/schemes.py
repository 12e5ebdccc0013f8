"""What every partition scheme promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fedbench.config import parse
from fedbench.data.partition import ClientSplit, split
from fedbench.data.schemes import SCHEMES
from fedbench.data.settings import Partition
from fedbench.errors import PartitionError
from fedbench.testing.tiny import Properties, broken, hold

_PAGE = "docs/partitions.md"


class SchemeProperties(Properties):
    """Inherit from this and name your scheme.

    Attributes:
        scheme: Its name.
        settings: Of the scheme.
        clients: Numbers of clients to try.
        labels: (N,) of the images that are spread: fifty in each of six classes by default.
        drawn: Whether another seed gives another partition.
    """

    scheme: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {}
    clients: ClassVar[tuple[int, ...]] = (2, 3, 5)
    labels: ClassVar[np.ndarray] = np.tile(np.arange(6), 50)
    drawn: ClassVar[bool] = True

    def test_every_image_has_one_owner_at_most(self) -> None:
        """And exactly one, where the scheme leaves no image unassigned."""
        for clients in self.clients:
            for seed in range(3):
                every_image_once(self.labels, self._partition(clients), seed)

    def test_equal_seeds_give_equal_partitions_and_others_do_not(self) -> None:
        """The generator that the function is given decides everything."""
        for clients in self.clients:
            settings = self._partition(clients, validation=0.2)
            first, again, other = (self._split(settings, seed) for seed in (5, 5, 6))
            hold(
                first.digest == again.digest,
                "equal seeds give equal partitions",
                f"{self.scheme!r} gives {first.digest[:8]} and {again.digest[:8]} for seed 5 and "
                f"{clients} clients",
                "draw from the `rng` that the function is given, and from nothing else",
            )
            hold(
                not self.drawn or first.digest != other.digest,
                "another seed gives another partition",
                f"{self.scheme!r} gives {first.digest[:8]} for seeds 5 and 6 and {clients} clients",
                "draw from `rng`; or set `drawn = False` here if nothing is drawn",
            )

    def test_labels_are_only_read(self) -> None:
        """The function is given the labels of all images, and leaves them as they are."""
        labels = self.labels.copy()
        split(labels, self._partition(self.clients[0]), 0, _classes(labels))
        changed = int((labels != self.labels).sum())
        hold(
            not changed,
            "labels are only read",
            f"{self.scheme!r} changes {changed} of {len(labels)}",
            "copy them before you change them",
        )

    def test_no_client_is_smaller_than_min_size(self) -> None:
        """Where the scheme takes a `min_size`; others give every client an image."""
        if "min_size" not in SCHEMES.get(self.scheme).parameters:
            for clients in self.clients:
                sizes = self._sizes(self._partition(clients))
                hold(
                    min(sizes) > 0,
                    "every client has an image",
                    f"{self.scheme!r} gives sizes {sizes}",
                    "give everybody one, or take a `min_size`",
                )
            return
        for clients in self.clients:
            bound = len(self.labels) // (4 * clients)
            try:
                sizes = self._sizes(self._partition(clients, min_size=bound))
            except PartitionError:
                continue  # it says that it found none
            hold(
                min(sizes) >= bound,
                "no client is smaller than `min_size`",
                f"{self.scheme!r} gives sizes {sizes} at min_size = {bound}",
                "draw again, or give up with a PartitionError",
            )

    def test_it_describes_itself_and_its_settings_are_read_back(self) -> None:
        """Lists show its title and source; a record's settings make the same cell."""
        scheme = SCHEMES.get(self.scheme)
        for name in ("title", "source"):
            words = str(getattr(scheme, name))
            hold(
                bool(words.strip()) and "\n" not in words,
                f"a scheme has a `{name}` of one line",
                f"that of {self.scheme!r} is {words!r}",
                f"write one ({_PAGE})",
            )
        default = scheme.settings.model_fields["scheme"].default
        hold(
            default == self.scheme,
            "the settings' `scheme` has the scheme's name as its default",
            f"it is {default!r} for {self.scheme!r}",
            f'write `scheme: Literal["{self.scheme}"] = "{self.scheme}"`',
        )
        hold(
            bool(scheme.load().__doc__),
            "a scheme's function has a docstring",
            f"that of {self.scheme!r} has none",
            "say what it does",
        )
        cell = parse({"method": "local", "partition": self._tree(self.clients[0])})
        back = parse(cell.model_dump(mode="json"))
        hold(
            back.cell_id == cell.cell_id,
            "settings are read back as they were written",
            f"{cell.partition} becomes {back.partition}",
            "use types that JSON has: numbers, text, lists",
        )

    def _tree(self, clients: int, **more: object) -> dict[str, Any]:
        return {"scheme": self.scheme, "clients": clients, **self.settings, **more}

    def _partition(self, clients: int, **more: object) -> Partition:
        return parse({"method": "local", "partition": self._tree(clients, **more)}).partition

    def _split(self, settings: Partition, seed: int) -> ClientSplit:
        return split(self.labels, settings, seed, _classes(self.labels))

    def _sizes(self, settings: Partition) -> list[int]:
        return [int(row.sum()) for row in self._split(settings, 0).histogram]


def every_image_once(labels: np.ndarray, settings: Partition, seed: int) -> None:
    """Fail unless a partition gives no image twice, and all where the scheme says so.

    Args:
        labels: (N,) integers from 0, each class among them.
        settings: The scheme with its parameters, without hold-outs.
        seed: The cell's.
    """
    name = settings.scheme
    try:
        parts = split(labels, settings, seed, _classes(labels)).train
    except PartitionError as error:
        broken(
            "every image has one owner",
            f"{name!r} with {settings.clients} clients and seed {seed}: {error}",
            f"return one array of indices for each client ({_PAGE}), or try other `clients` here",
        )
    joined = np.concatenate(parts)
    fix = "return every index once; set `exact_union=False` if images may stay unassigned"
    hold(
        len(parts) == settings.clients and len(np.unique(joined)) == len(joined),
        "every image has one owner at most",
        f"{name!r} gives {len(parts)} parts to {settings.clients} clients, and "
        f"{len(joined) - len(np.unique(joined))} images twice",
        fix,
    )
    hold(
        joined.min() >= 0 and joined.max() < len(labels),
        "owners are of images that there are",
        f"{name!r} gives indices in [{joined.min()}, {joined.max()}] of {len(labels)} images",
        fix,
    )
    hold(
        len(joined) == len(labels) or not SCHEMES.get(name).exact_union,
        "every image has an owner",
        f"{name!r} gives {len(joined)} of {len(labels)} images away",
        fix,
    )


def _classes(labels: np.ndarray) -> int:
    return int(labels.max()) + 1
