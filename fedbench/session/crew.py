"""Who computes a sweep: an executor, its devices, and how many cells at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fedbench.bench.cells.environment import available_cores, resolve_device
from fedbench.bench.cells.gpus import Seen, look, workers_each
from fedbench.errors import SettingsError, did_you_mean

if TYPE_CHECKING:
    from fedbench.bench.estimate import Estimate
    from fedbench.bench.executors import Executor


@dataclass(frozen=True)
class Crew:
    """Who computes.

    Attributes:
        executor: `local` or `ray`.
        address: Of the Ray cluster.
        devices: Of local workers, in turn; none where Ray finds them.
        workers: As asked for; 0 leaves it to Ray.
        gpus_per_cell: The share of a GPU that a cell takes on a Ray cluster.
        gpus: The GPUs of local workers.
        fixed: Whether the user has said how many workers there are to be.
    """

    executor: Executor
    address: str | None
    devices: tuple[str, ...]
    workers: int
    gpus_per_cell: float = 1.0
    gpus: tuple[Seen, ...] = ()
    fixed: bool = False

    @property
    def size(self) -> int:
        """How many cells are computed at once, as far as this machine can tell."""
        return self.workers or available_cores()

    @property
    def device(self) -> str | None:
        """The type of device, for estimates; None where Ray finds one."""
        return self.devices[0].partition(":")[0] if self.devices else None

    @property
    def gpu(self) -> str | None:
        """The name of the GPUs, for estimates; None where it is not known or they differ."""
        names = {gpu.name for gpu in self.gpus}
        return names.pop() if len(names) == 1 else None

    def shared(self, estimate: Estimate) -> Crew:
        """Return this crew with as many workers on each GPU as it has room for.

        Args:
            estimate: Of the cells to compute: what they take of a GPU's memory.
        """
        if self.fixed or not self.gpus:
            return self
        known = bool(estimate.memory) and estimate.sizes_known
        each = workers_each(self.gpus, estimate.memory, known=known, cores=available_cores())
        return replace(self, workers=each * len(self.gpus))


def crew_of(
    executor: str,
    address: str | None,
    device: str,
    workers: int,
    gpus_per_cell: float | None = None,
    threads: int = 1,
) -> Crew:
    """Return who computes.

    Args:
        executor: As the user wrote it.
        address: Of the Ray cluster, or None.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        workers: 0 is one a core, or as many on each GPU as it has room for (see ``Crew.shared``).
        gpus_per_cell: Of a Ray cluster's cell, above 0 and at most 1; a whole one where None.
        threads: Of each cell on a CPU: so many fewer cells at once, unless ``workers`` says.

    Raises:
        SettingsError: There is no such executor or device, or an option has no use.
    """
    if workers < 0:
        raise SettingsError(f"workers = {workers}; name a number, or 0 for one a core")
    if executor == "ray" and threads > 1:
        raise SettingsError(f"--threads {threads} is for local workers; Ray gives a cell one CPU")
    if executor == "ray":
        # Its nodes may have other devices than this machine, so only they can tell.
        devices = () if device == "auto" else (device,)
        return Crew("ray", address, devices, workers, gpus_per_cell or 1.0)
    if executor != "local":
        raise SettingsError(
            f"there is no executor {executor!r}{did_you_mean(executor, ('local', 'ray'))}; "
            "choose local or ray"
        )
    if address is not None:
        raise SettingsError(f"--address {address} is for a Ray cluster; give --executor ray, too")
    if gpus_per_cell is not None:
        raise SettingsError(
            f"--gpus-per-cell {gpus_per_cell:g} is for a Ray cluster; local workers share a GPU "
            "by --workers"
        )
    found = tuple(devices_of(device))
    if found == ("cpu",):
        return Crew("local", None, found, workers or max(available_cores() // threads, 1))
    gpus = tuple(look(found))
    return Crew("local", None, found, workers or len(found), gpus=gpus, fixed=workers > 0)


def devices_of(asked: str) -> list[str]:
    """Return what the workers are to use in turn: every GPU, or the one device that was named.

    Raises:
        SettingsError: The device is not here.
    """
    if asked == "cpu":
        return [asked]  # without importing torch
    if asked in ("auto", "cuda"):
        import torch

        # Counted only: this process computes nothing, so it takes no memory of a GPU.
        if every := [f"cuda:{number}" for number in range(torch.cuda.device_count())]:
            return every
    return [resolve_device(asked)]
