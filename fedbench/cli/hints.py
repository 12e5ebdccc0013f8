"""What helps when a setting is named in a way that no command knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fedbench.errors import SettingsError
from fedbench.settings import OTHER_WORDS, near

#: Commands that take `--set`.
_SETTERS = ("run", "sweep", "partition")


def option_hint(words: Sequence[str], options: Iterable[str]) -> str | None:
    """Return what to write instead of an option that is a setting without an option of its own.

    Args:
        words: Of the command line, the command first.
        options: Which the command has.

    Returns:
        None where no word is such an option.
    """
    known = {*options}
    for word in words[1:] if words and words[0] in _SETTERS else ():
        option, _, value = word.partition("=")
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or option in known:
            continue
        other = f"--{OTHER_WORDS.get(name, name)}".replace("_", "-")
        if other in known:
            return f"{option} is called {other}"
        if (place := _place(name)) is not None:
            return f"{option} is a setting: write --set {place}={value or _following(words, word)}"
    return None


def check_place(place: str, value: str) -> None:
    """Refuse a place that no cell has, with the one that was meant.

    Parts that depend on a name (a method, a scheme) are for the cell to check.

    Raises:
        SettingsError: There is no such setting.
    """
    section, _, key = place.partition(".")
    names = _sections().get(section)
    if names is None or not key or key in names or "." in key:
        return
    hint = near(key, names)
    meant = next((name for name in names if f"{name!r}" in hint), None)
    fix = (
        f"write --set {section}.{meant}={value}"
        if meant
        else f"{section} has: {', '.join(sorted(names))}"
    )
    raise SettingsError(f"--set {place}: there is no setting {key!r} in {section}{hint}; {fix}")


def _following(words: Sequence[str], word: str) -> str:
    """Return the value that stands after an option."""
    after = words[words.index(word) + 1 :]
    return after[0] if after and not after[0].startswith("-") else "VALUE"


def _place(name: str) -> str | None:
    """Return the place of a setting by its last word."""
    wanted = OTHER_WORDS.get(name, name)
    found = (f"{part}.{wanted}" for part, names in _sections().items() if wanted in names)
    return next(found, None)


def _sections() -> Mapping[str, frozenset[str]]:
    """Return the names of settings by the part of a cell that has them, in order of search.

    Schemes of plugins count, so what was known before one was loaded is not kept.
    """
    from fedbench.config import Budget, Evaluation
    from fedbench.data.schemes import SCHEMES
    from fedbench.data.settings import Data
    from fedbench.training.recipe import Recipe, Student

    schemes = (SCHEMES.get(name).settings.model_fields for name in SCHEMES.names())
    return {
        "data": frozenset(Data.model_fields),
        "recipe": frozenset(Recipe.model_fields),
        "partition": frozenset(name for fields in schemes for name in fields),
        "budget": frozenset(Budget.model_fields),
        "evaluation": frozenset(Evaluation.model_fields),
        "student": frozenset(Student.model_fields),
    }
