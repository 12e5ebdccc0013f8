"""Tiny cells that reach the code of every method, and what is kept of each one's record.

Every method stands here in each of its presets and in variants that take other paths. Cells are
small because steps, rounds, epochs, crops and images are few: nothing else of a preset is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.runtime import Runtime
from fedbench.bench.suites.suite import merge
from fedbench.config import parse
from fedbench.data.specs import DATASETS, DIGITS
from fedbench.testing import TINY

#: Beside the clients' digits: another data set for extractors that are trained on a public one.
PUBLIC = "golden_digits"

BF16 = {"precision": "bf16-mixed"}
HELD_OUT = {"partition": {"validation": 0.2}}
SOME = {"participation": 0.67}
NORM = {"name": "convnet", "width": 4, "depth": 2, "norm": "batch"}
RESNET = {"name": "resnet8", "width": 4}
BATCH_NORM = {"models": NORM}
TWO = {"models": [NORM, RESNET]}
SKEWED = {"partition": {"scheme": "dirichlet_capped", "beta": 0.3, "clients": 3, "min_size": 5}}
OTHER_STUDENT = {"student": {"model": RESNET}}
STUDENT = {"optimizer": "adam", "schedule": "cosine", "augment": "none", "clip_norm": 1.0}
RECIPE = {"augment": "none", "weight_decay": 0.001, "clip_norm": 2.0, "schedule": "cosine"}
ADAM = {"optimizer": "adam", "lr": 0.001, "epochs": 2, "schedule": "step", "augment": "flip_crop"}
IPC = {"budget": {"ipc": 1}}
IPC_2 = {"budget": {"ipc": 2}}
EACH = {"budget": {"pixels": 6 * 256, "scope": "per_client"}}
IMAGES = {"budget": {"pixels": 24 * 256}}
PICTURE = {"budget": {"pixels": 64 * 96}}

ROUNDS = {"rounds": 2, "epochs": 1}
MATCHING = {"iterations": 3, "samples": 6}
EXACT = {"iterations": 3, "samples": None}
COLLAB = {"iterations": 3, "local_iterations": 2}
SAMPLED = {**COLLAB, "samples": 6, "local_samples": 5}
KIP = {"steps": 3}
INVERSION = {
    "steps": 3,
    "initial_batches": 2,
    "batches_per_epoch": 1,
    "student_epochs": 2,
    "steps_per_epoch": 4,
    "batch_size": 8,
}
GUIDED = {"images_per_class": 2, "batch_size": 12, "steps": 3, "epochs": 2}
TRAINED = {**GUIDED, "prior": "unused@40", "prior_steps": 3}
DISTIL = {"steps": 5, "batch_size": 8}
POLLED = {"validation": "poll", "validate_every": 2}
LOGITS = {**DISTIL, "exchange": "logits", "augment": "none"}
CROPS = {**DISTIL, "crops": 60, "selected": 20}
CLUSTERS = {"cluster": "full", "clusters": 5, "heuristic": "mixed", "prune_share": 0.5}
MADE = {"epochs": 2, "steps": 2, "batch_size": 12, "noise": 8, "width": 4, "student_batch_size": 8}
TRAJECTORIES = {
    "experts": 2,
    "start_epochs": 2,
    "inner_steps": 3,
    "iterations": 3,
    "evaluate_every": 2,
    "judge_epochs": 1,
}
SEARCH = {"trials": 2, "search_epochs": 1}
MIRROR = {**LOGITS, "crops": 60, "selected": 20, "select_with": "mirror"}


def _named(name: str, preset: str | None = None, **settings: object) -> dict[str, object]:
    return {"name": name, **({"preset": preset} if preset else {}), **settings}


#: By name: a method's settings, and what is laid over the tiny cell.
CELLS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "base_images-reference": (_named("base_images", "reference", **SEARCH), {**EACH, **HELD_OUT}),
    "base_images-fedbench": (_named("base_images", "fedbench"), {**IPC_2, **SKEWED}),
    "centralised": (_named("centralised"), {}),
    "centralised-converged": (_named("centralised", "converged", chunk=50), {}),
    "centralised-resnet-bf16": (_named("centralised"), {"models": RESNET, **BF16}),
    "collabdm-reference": (_named("collabdm", "reference", **SAMPLED), IPC),
    "collabdm-fedbench": (_named("collabdm", "fedbench", **COLLAB), IPC_2),
    "collabdm-reference-expanded": (_named("collabdm", "reference", **SAMPLED, expand=2), IPC),
    "collabdm-noise-half": (
        _named("collabdm", **COLLAB, initial="noise", element="fp16", fraction=0.67),
        {**IPC, **SKEWED},
    ),
    "collabdm-expanded-bf16": (_named("collabdm", **COLLAB, expand=2), {**IPC, **BF16}),
    "collabdm-other-student": (
        _named("collabdm", **COLLAB, augment="none"),
        {**IPC, **OTHER_STUDENT},
    ),
    "co_boosting-fedbench": (_named("co_boosting", "fedbench", **MADE), BATCH_NORM),
    "co_boosting-reference": (
        _named("co_boosting", "reference", **MADE),
        {**BATCH_NORM, "data": {"normalisation": "half"}},
    ),
    "co_boosting-two-bf16": (
        _named("co_boosting", **{**MADE, "epochs": 3}, batch_norm=0.1, model=RESNET),
        {**TWO, **SKEWED, **BF16},
    ),
    "dense-fedbench": (_named("dense", "fedbench", **MADE), BATCH_NORM),
    "dense-reference": (
        _named("dense", "reference", **MADE),
        {**BATCH_NORM, "data": {"normalisation": "none"}},
    ),
    "dense-dafl": (_named("dense", "fed_dafl", **MADE), {}),
    "dense-two-bf16": (
        _named(
            "dense",
            **{**MADE, "epochs": 3},
            model=RESNET,
            start="average",
            pool_limit=24,
            student_passes=2,
            augment="flip",
            schedule="cosine",
        ),
        {**TWO, **SKEWED, **BF16},
    ),
    "deep_inversion-fedbench": (
        _named("deep_inversion", "fedbench", **INVERSION),
        {"models": RESNET},
    ),
    "deep_inversion-reference": (
        _named("deep_inversion", "reference", **INVERSION),
        {"models": RESNET},
    ),
    "deep_inversion-fed-adi-two": (_named("deep_inversion", "fed_adi", **INVERSION), TWO),
    "deep_inversion-cycle-weights": (
        _named("deep_inversion", **INVERSION, draw="cycle", label_weights="normalised", l2=0.01),
        {**SKEWED, "models": RESNET},
    ),
    "deep_inversion-across-bf16": (
        _named(
            "deep_inversion",
            **{**INVERSION, "batches_per_epoch": 2},
            label_weights="across",
            sampled=2,
            subset="batch",
            similar=1.0,
            keep="best",
            inversion_schedule="cosine",
            pool_space="pixels",
            pool_limit=24,
        ),
        {**SKEWED, "models": RESNET, **BF16},
    ),
    "deep_inversion-owner": (
        _named(
            "deep_inversion",
            **INVERSION,
            own="unassigned",
            class_weight=2.0,
            learn="both",
            parameters="paper",
        ),
        {
            "partition": {
                "scheme": "classes_round_robin",
                "clients": 1,
                "classes_per_client": 5,
            },
            "models": RESNET,
        },
    ),
    "ensemble": (_named("ensemble"), {}),
    "ensemble-probabilities-two": (
        _named("ensemble", vote="probabilities", weights="samples"),
        {**TWO, **SKEWED},
    ),
    "ensemble-adam-bf16": (_named("ensemble"), {"recipe": ADAM, **BF16, **BATCH_NORM}),
    "fedavg": (_named("fedavg", **ROUNDS), {}),
    "fedavg-one-shot": (_named("fedavg", "one_shot"), {}),
    "fedavg-some": (_named("fedavg", rounds=3, epochs=1), {**SOME, "recipe": RECIPE}),
    "fedavg-poll-batch-norm": (
        _named("fedavg", **ROUNDS, validation="poll"),
        {**HELD_OUT, **BATCH_NORM},
    ),
    "fedavg-pooled-resnet": (
        _named("fedavg", **ROUNDS, validation="pooled"),
        {**HELD_OUT, "models": RESNET},
    ),
    "fedavg-bf16": (_named("fedavg", **ROUNDS), {**BF16, "data": {"normalisation": "half"}}),
    "fedavg-resnet-bf16": (_named("fedavg", "one_shot"), {**BF16, "models": RESNET}),
    "fedcgs-reference": (_named("fedcgs", "reference", ridge=0.01), {}),
    "fedcgs-fedbench": (_named("fedcgs", "fedbench"), {}),
    "fedcgs-within-resnet-bf16": (
        _named("fedcgs", covariance="within"),
        {"models": RESNET, **BF16},
    ),
    "fedcgs-public": (_named("fedcgs", extractor=f"public:{PUBLIC}"), SKEWED),
    "feddf-fedbench": (_named("feddf", "fedbench", **DISTIL), IMAGES),
    "feddf-reference": (
        _named("feddf", "reference", **DISTIL, **ROUNDS, validate_every=2, patience=4),
        {**IMAGES, **HELD_OUT},
    ),
    "feddf-rival": (_named("feddf", "single_image_rival", **DISTIL), IMAGES),
    "feddf-bf16": (_named("feddf", **DISTIL), {**IMAGES, **BF16}),
    "feddf-plain-bf16": (_named("feddf", **DISTIL, augment="none"), {**IMAGES, **BF16}),
    "feddf-two": (_named("feddf", **DISTIL, **ROUNDS, weighting="samples"), {**IMAGES, **TWO}),
    "feddf-two-logits": (
        _named("feddf", **LOGITS, rounds=3, epochs=1, init_every=2),
        {**IMAGES, **TWO, **SOME},
    ),
    "feddf-worst-poll": (
        _named("feddf", **DISTIL, **POLLED, drop_worst=True, keep_initial=True),
        {**IMAGES, **HELD_OUT},
    ),
    "feddf-losses": (
        _named("feddf", **DISTIL, objective="avg_losses", temperature=3.0, average_buffers=False),
        {**IMAGES, **BATCH_NORM},
    ),
    "feddf-scheduled": (
        _named(
            "feddf",
            **{**DISTIL, "steps": 8},
            **ROUNDS,
            warm_rounds=0,
            init_every=5,
            weighting="batches",
            logit_length=2.5,
            step_schedule={"kind": "cosine", "fewest": 2, "period": 3, "by_size": True},
        ),
        {**IMAGES, **TWO},
    ),
    "fedavg-domains": (
        _named("fedavg", "one_shot"),
        {"partition": {"domains": ["tint", "rotate", "edge"], "validation": 0.2}},
    ),
    "fedlmg-fedbench": (_named("fedlmg", "fedbench", **TRAINED), {"models": RESNET}),
    "fedlmg-reference": (
        _named("fedlmg", "reference", **{**TRAINED, "batch_size": 1}, classes=[0, 1], edits=2),
        {"models": RESNET},
    ),
    "fedlmg-none": (
        _named(
            "fedlmg",
            **{**GUIDED, "steps": 20},
            prior="none",
            descent_steps=3,
            filter=5.0,
            aggregation="multi_teacher",
        ),
        {**TWO, **SKEWED},
    ),
    "fedlmg-told-bf16": (
        _named(
            "fedlmg",
            **TRAINED,
            conditional=True,
            emphasis=2.0,
            sampler="ddim",
            step="normalised",
            scale=0.3,
            batch_norm=1.0,
            clamp="straight_through",
            predict_twice=False,
            detach_eps=True,
            edits=1,
            aggregation="fine_tune",
        ),
        {"models": RESNET, "partition": {"domains": ["invert", "low_contrast", "noise"]}, **BF16},
    ),
    "fedprox": (_named("fedprox", **ROUNDS), {}),
    "fedprox-one-shot": (_named("fedprox", "one_shot", mu=0.1), {}),
    "fedprox-resnet-bf16": (_named("fedprox", **ROUNDS), {"models": RESNET, **BF16, **SOME}),
    "local": (_named("local"), {}),
    "local-two": (_named("local"), {**TWO, **SKEWED}),
    "local_dm-reference": (_named("local_dm", "reference", **MATCHING), EACH),
    "local_dm-fedbench": (_named("local_dm", "fedbench", **EXACT), IPC),
    "local_dm-reference-expanded": (_named("local_dm", "reference", **MATCHING, expand=2), EACH),
    "local_dm-expanded-bf16": (_named("local_dm", **EXACT, expand=2), {**EACH, **BF16}),
    "local_dm-skewed": (
        _named("local_dm", **EXACT, augment="none"),
        {**IPC_2, **SKEWED, "student": STUDENT},
    ),
    "local_kip-reference": (_named("local_kip", "reference", **KIP), EACH),
    "local_kip-fedbench": (_named("local_kip", "fedbench", **KIP), IPC),
    "local_kip-skewed-bf16": (_named("local_kip", **KIP), {**EACH, **SKEWED, **BF16}),
    "random_real": (_named("random_real"), IPC),
    "random_real-uniform": (_named("random_real", draw="uniform"), {**EACH, "student": STUDENT}),
    "random_real-other-student": (_named("random_real"), {**IPC, **OTHER_STUDENT, **BF16}),
    "single_image-fedbench": (_named("single_image", "fedbench", **CROPS), PICTURE),
    "single_image-reference": (
        _named("single_image", "reference", **CROPS, selection={"clusters": 5, "prune_share": 0.5}),
        PICTURE,
    ),
    "single_image-bf16": (
        _named("single_image", **CROPS, augment="standard"),
        {**PICTURE, **BF16},
    ),
    "single_image-plain-bf16": (
        _named("single_image", **CROPS, image="flower", flip="both", selection=CLUSTERS),
        {**PICTURE, **BF16},
    ),
    "single_image-two": (
        _named("single_image", **CROPS, **ROUNDS, **POLLED, image="noise", selection=CLUSTERS),
        {**PICTURE, **TWO, **HELD_OUT},
    ),
    "single_image-logits": (
        _named(
            "single_image",
            **MIRROR,
            **ROUNDS,
            validation="pooled",
            validate_every=2,
            selection={**CLUSTERS, "cluster": "mini_batch", "prune": "entropy", "balance": 0.5},
        ),
        {**PICTURE, **HELD_OUT},
    ),
    "trajectory_matching-reference": (
        _named("trajectory_matching", "reference", **TRAJECTORIES, **SEARCH),
        {**EACH, **HELD_OUT},
    ),
    "trajectory_matching-fedbench": (
        _named("trajectory_matching", "fedbench", **TRAJECTORIES),
        IPC,
    ),
    "trajectory_matching-half-bf16": (
        _named(
            "trajectory_matching",
            **TRAJECTORIES,
            keep="best",
            element="fp16",
            inner_batch=2,
        ),
        {**EACH, **BF16, **HELD_OUT},
    ),
    "trajectory_matching-bytes-polled": (
        _named(
            "trajectory_matching",
            **TRAJECTORIES,
            **SEARCH,
            element="uint8",
            student_recipe="search",
            validation="poll",
            augment="none",
            gradient="unrolled",
        ),
        {**IPC_2, "partition": {**SKEWED["partition"], "validation": 0.2}},
    ),
}


def each_method() -> Iterator[str]:
    """Yield the first cell of every method in each of its presets, and its first in bfloat16."""
    seen: set[tuple[object, ...]] = set()
    for name, (method, over) in CELLS.items():
        kind = method["name"], method.get("preset"), over.get("precision")
        if kind[1:] == (None, None) and any(found[0] == kind[0] for found in seen):
            continue
        if kind[2] is not None and any(found[::2] == kind[::2] for found in seen):
            continue
        if kind not in seen:
            seen.add(kind)
            yield name


#: Which bytes of a ledger are kept.
BYTES = ("payload_down", "payload_up", "bytes_down", "bytes_up")


@contextmanager
def _public_data() -> Iterator[None]:
    """Register scikit-learn's digits under a second name: a public data set without files."""
    DATASETS.add(PUBLIC, replace(DIGITS, name=PUBLIC))
    try:
        yield
    finally:
        DATASETS._loaded.pop(PUBLIC)


def compute(name: str, cache: Path, device: str = "cpu") -> dict[str, object]:
    """Return what is kept of a golden cell, computed in a home of its own.

    Args:
        name: Of the cell.
        cache: Folder of decoded data sets, which cells may share.
        device: Where; what is golden is golden on the CPU.
    """
    method, over = CELLS[name]
    with TemporaryDirectory() as folder, _public_data():
        cell = parse(merge(merge(TINY, {"method": method}), over))
        home = Path(folder) / "runs"
        home.mkdir()
        (home / "cache").symlink_to(cache)
        runtime = Runtime(home=home, data=home / "none", device=device, threads=1, offline=True)
        record = run_cell(cell, runtime, suite="golden")
    if record.status != "ok":
        raise AssertionError(f"golden cell {name} fails: {record.traceback}")
    ledger, metrics = record.ledger, record.metrics
    return {
        "cell_id": record.cell_id,
        "partition": record.partition["digest"],
        "accuracy": metrics["accuracy"],
        "nll": metrics["nll"],
        "models": {
            model: [scores["accuracy"], scores["nll"]]
            for model, scores in metrics["models"].items()
        },
        "curves": record.curves,
        "rounds": ledger["rounds"],
        "bytes": {key: ledger[key] for key in BYTES},
        "outputs": record.outputs,
    }
