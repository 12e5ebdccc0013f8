"""The harness: the only holder of test data, and what it says of final models."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fedbench.data.dataset import Split
from fedbench.data.domains import domain_of, transform
from fedbench.data.subset import stratified
from fedbench.errors import FedbenchError
from fedbench.evaluation.accuracy import Scores, score
from fedbench.federation.context import Context
from fedbench.federation.loop import Federation
from fedbench.federation.method import MIRROR
from fedbench.federation.synthetic import save_outputs


class Harness:
    """The only holder of test data.

    Args:
        context: The cell's means.
        test: The whole test set.

    Attributes:
        seconds: What scoring has taken so far.
    """

    def __init__(self, context: Context, test: Split) -> None:
        self._context, self._test, self.seconds = context, test, 0.0
        self._views: list[Tensor] | None = None
        size = min(context.cell.evaluation.curve_size, len(test))
        chosen = stratified(test.labels.cpu(), size, context.cell.data.subset_seed, "curve")
        self._share = test.take(chosen.to(test.labels.device))

    def scores(self, model: nn.Module, split: Split | None = None) -> Scores:
        """Score a model on the whole test set, or on another split."""
        context, split = self._context, self._test if split is None else split
        settings, start = context.cell.evaluation, time.perf_counter()
        logits = context.inference.logits(model, split.images)
        found = score(logits, split.labels, classes=context.shape.classes, bins=settings.ece_bins)
        self.seconds += time.perf_counter() - start
        return found

    def curve(self, model: nn.Module) -> dict[str, float]:
        """Return one point of a curve, measured on the fixed share of the test set."""
        scores = self.scores(model, self._share)
        return {"accuracy": scores.accuracy, "nll": scores.nll}

    def on_domains(self, model: nn.Module) -> dict[str, list[float]]:
        """Return the accuracy on each client's view of the test set, where they see it otherwise.

        Returns:
            ``on_domains``, in [0, 1] by client, or nothing where all see it as it is.
        """
        cell = self._context.cell
        if not cell.partition.domains:
            return {}
        if self._views is None:
            images, seed = self._test.images, cell.seed
            self._views = [
                transform(images, domain_of(cell.partition.domains, client), seed, client, "test")
                for client in range(cell.partition.clients)
            ]
        views = [Split(images, self._test.labels) for images in self._views]
        return {"on_domains": [self.scores(model, view).accuracy for view in views]}

    def measure(
        self, federation: Federation, histogram: list[list[int]], folder: Path
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Score every final model and keep its weights.

        Args:
            federation: After its last round.
            histogram: Each client's images of each class.
            folder: For weights, by digest.

        Returns:
            The record's metrics, and digests of the models by name.
        """
        models: dict[str, dict[str, Any]] = {}
        digests: dict[str, str] = {}
        for name, model in federation.final_models():
            scores = self.scores(model)
            mixes = [scores.on_mix(mix) for mix in histogram]
            models[name] = {
                **scores.to_json(),
                "worst_client": least(mixes),
                "on_mixes": mixes,
                **self.on_domains(model),
            }
            digests |= save_outputs({name: model.state_dict()}, folder)
        for info, model in federation.client_models():
            scores = self.scores(model)
            mix = scores.on_mix(histogram[info.id])
            known = {**scores.to_json(), "own_mix": mix, **self.on_domains(model)}
            models[f"client/{info.id}"] = known
        return {**headline(models, federation.method.headline), "models": models}, digests


def least(values: Iterable[float | None]) -> float | None:
    """Return the smallest of the values that are known."""
    return min((value for value in values if value is not None), default=None)


def headline(models: dict[str, dict[str, Any]], rule: str) -> dict[str, Any]:
    """Return the numbers that head a row.

    Args:
        models: Scores by model.
        rule: ``global``: the model of that name, or the mean over mirrors where there is one for
            each architecture; ``mean``: the mean over all models.
    """
    if models and all(name.startswith(MIRROR) for name in models):
        rule = "mean"
    if not models or (rule == "global" and "global" not in models):
        raise FedbenchError(
            f"the method's headline is {rule!r}, but its final models are: "
            f"{', '.join(models) or 'none'}; yield one named 'global', or set headline = 'mean'"
        )
    names = ("accuracy", "balanced_accuracy", "nll", "ece")
    if rule == "global":
        chosen = models["global"]
        return {
            **{name: chosen[name] for name in (*names, "per_class")},
            "worst_client": chosen["worst_client"],
            **({"never": chosen["never"]} if "never" in chosen else {}),
            **_domain_mean([chosen]),
        }
    rows = list(models.values())
    summary = {name: sum(row[name] for row in rows) / len(rows) for name in names}
    classes = zip(*(row["per_class"] for row in rows), strict=True)
    per_class = [None if None in values else sum(values) / len(values) for values in classes]
    own = [row["own_mix"] if "own_mix" in row else row["worst_client"] for row in rows]
    mixes = [row["own_mix"] for row in rows if row.get("own_mix") is not None]
    accuracies = [row["accuracy"] for row in rows]
    return {
        **summary,
        "per_class": per_class,
        "worst_client": least(own),
        "best_accuracy": max(accuracies),
        "worst_accuracy": min(accuracies),
        "own_mix": sum(mixes) / len(mixes) if mixes else None,
        **_domain_mean(rows),
    }


def _domain_mean(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Return the mean accuracy over models and clients' views, where they differ."""
    found = [value for row in rows for value in row.get("on_domains", ())]
    return {"domain_mean": sum(found) / len(found)} if found else {}
