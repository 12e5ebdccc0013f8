"""The errors that a user can cause and mend.

Every message names the value, the bound and the fix. The command line prints these without a
traceback; anything else is a defect of fedbench and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FedbenchError(Exception):
    """Base of all errors that a user can mend."""


class SettingsError(FedbenchError):
    """A setting is unknown, out of bounds, or contradicts another."""


class DataError(FedbenchError):
    """A data file is missing, damaged or of another kind than its name says."""


class PartitionError(FedbenchError):
    """A partition with these parameters does not exist or was not found within the bound."""


class ModelError(FedbenchError):
    """A model does not fit the images, or its weights do not fit the model."""


class TrainingError(FedbenchError):
    """Training cannot go on: the loss is not finite, or there is nothing to train on."""


class PrivacyError(FedbenchError):
    """A method reached for data that its side does not hold."""


class StoreError(FedbenchError):
    """A file of ours (cache, artefact, record) is damaged, foreign or cannot be written."""


class UnwritableError(StoreError):
    """The disk is full or a folder may not be written: what else was to be done cannot be kept."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known name, or an empty string.

    Names that have a word in common, such as ``power`` and ``power_of_samples``, are near as well.

    Args:
        name: What the user wrote.
        known: The names that exist.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5) or [
        each for each in names if name in each.split("_") or each in name.split("_")
    ]
    return f" (did you mean {near[0]!r}?)" if near else ""
