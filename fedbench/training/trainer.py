"""One silent Lightning Trainer, and how to make it as good as new between two fits.

All private names of Lightning that fedbench relies on are in this file. They were checked in 2.6;
the tests compare a reused Trainer with a new one bit for bit, and pyproject pins the minor version.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loops.progress import (
    _BatchProgress,
    _OptimizationProgress,
    _ProcessedTracker,
    _Progress,
    _ReadyCompletedTracker,
    _SchedulerProgress,
)
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch import nn
from torch.optim import Optimizer

from fedbench.training.recipe import Precision

# What Lightning says of things that a pool does on purpose, or that only its authors can mend.
_HUSHED = (
    r"Found \d+ module\(s\) in eval mode at the start of training",  # frozen teachers
    r".*does not have many workers",  # tensors in memory need none
    r".*isinstance\(treespec, LeafSpec\)",  # Lightning 2.6 with torch 2.11 and later
    r".*configure_optimizers` returned `None`",  # modules that only collect statistics
)


def _manual_steps() -> _Progress:
    return _Progress.from_defaults(_ReadyCompletedTracker)


@dataclass
class Past:
    """How far a module's training has come: counters and optimisers, which a later fit may take up.

    Attributes:
        optimizers: Empty before the first fit.
        schedulers: Likewise.
        epochs: Lightning's counter of epochs; likewise the others.
        saved: State dictionaries of optimisers and schedules that the next fit makes anew and
            gives these states, after a kill; None where there are none.
    """

    optimizers: list[Optimizer] = field(default_factory=list)
    schedulers: list[LRSchedulerConfig] = field(default_factory=list)
    epochs: _Progress = field(default_factory=_Progress)
    batches: _BatchProgress = field(default_factory=_BatchProgress)
    scheduling: _SchedulerProgress = field(default_factory=_SchedulerProgress)
    automatic: _OptimizationProgress = field(default_factory=_OptimizationProgress)
    manual: _Progress = field(default_factory=_manual_steps)
    stepped: int = 0
    saved: dict[str, Any] | None = None

    @property
    def epochs_done(self) -> int:
        """Epochs of all fits so far."""
        return cast(_ProcessedTracker, self.epochs.current).processed

    @property
    def steps_done(self) -> int:
        """Batches of all fits so far."""
        return self.batches.total.ready


class _Station(SingleDeviceStrategy):
    """A device where modules stay after their fit, with the optimisers of an earlier one if any."""

    past: Past | None = None

    def setup_optimizers(self, trainer: Trainer) -> None:
        if self.past is None or not self.past.optimizers:
            super().setup_optimizers(trainer)
            if self.past is not None and self.past.saved is not None:
                self._load(self.past.saved)
            return
        self.optimizers = self.past.optimizers
        self.lr_scheduler_configs = self.past.schedulers

    def _load(self, saved: Mapping[str, Any]) -> None:
        """Give new optimisers and schedules the states of earlier ones."""
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        for config, state in zip(self.lr_scheduler_configs, saved["schedulers"], strict=True):
            config.scheduler.load_state_dict(state)

    def teardown(self) -> None:
        # Lightning's own moves module and optimisers to the CPU and empties the GPU's cache, which
        # costs more than a short fit.
        self.precision_plugin.teardown()
        self.checkpoint_io.teardown()


def make_trainer(device: torch.device, precision: Precision) -> Trainer:
    """Return a Trainer that logs, prints, saves and validates nothing."""
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        strategy=_Station(device),
        precision=precision,
        # One process, also inside a SLURM job, whose variables Lightning would follow.
        plugins=[LightningEnvironment()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_autolog_hparams=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        max_epochs=0,
    )


def prepare(trainer: Trainer, past: Past, callback: Callback, epochs: int | None) -> None:
    """Make a Trainer go on from a past; a new ``Past`` makes it as good as new.

    Args:
        trainer: One that ``release`` has had, or a new one.
        past: Taken over, and changed by the fit.
        callback: The only one, besides those that the module brings.
        epochs: Of this fit; None for as many as the callback lets pass.
    """
    cast(_Station, trainer.strategy).past = past
    # Callbacks are not declared in Lightning's class, and leak from fit to fit.
    trainer.callbacks = [callback]  # type: ignore[attr-defined]
    fit_loop = trainer.fit_loop
    fit_loop.max_epochs = -1 if epochs is None else past.epochs_done + epochs
    epoch_loop = fit_loop.epoch_loop
    fit_loop.epoch_progress = past.epochs
    epoch_loop.batch_progress = past.batches
    epoch_loop.scheduler_progress = past.scheduling
    epoch_loop.automatic_optimization.optim_progress = past.automatic
    epoch_loop.manual_optimization.optim_step_progress = past.manual
    epoch_loop._batches_that_stepped = past.stepped
    epoch_loop.val_loop.batch_progress = _BatchProgress()


def take_past(trainer: Trainer) -> Past:
    """Return how far the module of a finished fit has come."""
    fit_loop, strategy = trainer.fit_loop, trainer.strategy
    epoch_loop = fit_loop.epoch_loop
    return Past(
        strategy.optimizers,
        strategy.lr_scheduler_configs,
        fit_loop.epoch_progress,
        epoch_loop.batch_progress,
        epoch_loop.scheduler_progress,
        epoch_loop.automatic_optimization.optim_progress,
        epoch_loop.manual_optimization.optim_step_progress,
        epoch_loop._batches_that_stepped,
    )


_PAST = "_fedbench_past"
_COUNTERS = ("epochs", "batches", "scheduling", "automatic", "manual")


def past_of(module: LightningModule) -> Past | None:
    """Take a module's past away from it, because a fit that fails leaves one that fits nothing."""
    found: Past | None = module.__dict__.pop(_PAST, None)
    return found


def give_past(module: nn.Module, past: Past) -> None:
    """Let a module know how far its training has come."""
    module.__dict__[_PAST] = past


def past_state(module: nn.Module) -> dict[str, Any] | None:
    """Return how far a module's training has come, as plain values and tensors.

    Returns:
        What ``restore_past`` takes; None for a module that no fit has trained.
    """
    past: Past | None = module.__dict__.get(_PAST)
    if past is None:
        return None
    saved = past.saved or {
        "optimizers": [optimizer.state_dict() for optimizer in past.optimizers],
        "schedulers": [config.scheduler.state_dict() for config in past.schedulers],
    }
    counters = {name: getattr(past, name).state_dict() for name in _COUNTERS}
    return {**saved, **counters, "stepped": past.stepped}


def restore_past(module: nn.Module, state: dict[str, Any] | None) -> None:
    """Let a module's next fit go on from what ``past_state`` returned."""
    if state is None:
        module.__dict__.pop(_PAST, None)
        return
    past = Past(stepped=state["stepped"])
    past.saved = {name: state[name] for name in ("optimizers", "schedulers")}
    for name in _COUNTERS:
        getattr(past, name).load_state_dict(state[name])
    give_past(module, past)


def release(trainer: Trainer, module: LightningModule) -> None:
    """Make a Trainer and the module of its last fit forget each other."""
    strategy, fit_loop = cast(_Station, trainer.strategy), trainer.fit_loop
    strategy._lightning_module = strategy.model = strategy.past = None
    strategy.optimizers, strategy.lr_scheduler_configs = [], []
    fit_loop._combined_loader = fit_loop._data_fetcher = None
    others = (trainer.validate_loop, trainer.test_loop, trainer.predict_loop)
    for loop in (fit_loop, fit_loop.epoch_loop.val_loop, *others):
        loop._data_source.instance = None
    trainer._data_connector._datahook_selector = None
    trainer.callbacks = []  # type: ignore[attr-defined]
    module.trainer = None


class _Hush(logging.Filter):
    """Holds back notices while fits run. Changing levels would clear every logger's cache."""

    depth = 0

    def filter(self, record: logging.LogRecord) -> bool:
        return self.depth == 0 or record.levelno >= logging.WARNING


_HUSH = _Hush()
for _name in list(logging.root.manager.loggerDict):
    if _name.startswith("lightning."):  # a filter holds for its own logger alone
        logging.getLogger(_name).addFilter(_HUSH)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keep Lightning's tips and notices from the user; warnings of other kinds pass."""
    _HUSH.depth += 1
    with warnings.catch_warnings():
        for message in _HUSHED:
            warnings.filterwarnings("ignore", message)
        try:
            yield
        finally:
            _HUSH.depth -= 1
