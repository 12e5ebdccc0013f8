"""A search over settings by Optuna that a kill does not set back by more than a trial.

Trials are kept as plain values and handed to a new study for each next one, whose sampler has a
seed of its own, so that an interrupted search asks what an undisturbed one asks.

Source: Akiba et al., "Optuna", KDD 2019, https://arxiv.org/abs/1907.10902; tree-structured Parzen
estimator: Bergstra et al., NeurIPS 2011.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedbench.federation.work import Work

if TYPE_CHECKING:
    import optuna

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Tried:
    """One trial.

    Attributes:
        params: What was suggested, by name.
        value: What the objective said of it.
    """

    params: dict[str, Value]
    value: float


def search(
    worker: Work,
    name: str,
    count: int,
    suggest: Callable[[optuna.Trial], None],
    objective: Callable[[dict[str, Value]], float],
) -> list[Tried]:
    """Look for the settings with the largest value; every trial is a stage.

    Args:
        worker: Who searches; its cell's seed decides what is tried.
        name: Tells searches apart.
        count: Trials.
        suggest: Asks a trial for each setting, such as ``trial.suggest_float("lr", ...)``.
        objective: Returns the value of some settings, by name; NaN for a trial that has failed.

    Returns:
        All trials in their order.
    """
    import optuna
    from optuna.distributions import distribution_to_json, json_to_distribution
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # progress is shown by the stages
    kept: list[dict[str, Any]] = []
    for step in worker.stages(name, count, keep={"trials": kept}):
        seed = worker.generator("search", name, step).initial_seed() % 2**32
        sampler = optuna.samplers.TPESampler(seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for each in kept:
            known = {key: json_to_distribution(text) for key, text in each["space"].items()}
            failed = math.isnan(each["value"])  # such as of a training that diverged
            study.add_trial(
                optuna.trial.create_trial(
                    params=each["params"],
                    distributions=known,
                    state=TrialState.FAIL if failed else TrialState.COMPLETE,
                    value=None if failed else each["value"],
                )
            )
        trial = study.ask()
        suggest(trial)
        space = {key: distribution_to_json(each) for key, each in trial.distributions.items()}
        value = float(objective(dict(trial.params)))  # NumPy's numbers cannot be kept
        kept.append({"params": dict(trial.params), "space": space, "value": value})
    return [Tried(each["params"], each["value"]) for each in kept]
