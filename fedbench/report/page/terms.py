"""The words of a page that somebody may meet for the first time, and what they mean."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

TERMS = {
    "β": "Concentration of the Dirichlet distribution that classes are divided by; 0.1 gives "
    "clients few classes each, 100 nearly equal shares.",
    "K": "Number of clients.",
    "min_size": "Smallest number of images that a client has; a split with fewer is drawn again.",
    "budget": "Pixels that a shared or synthetic set may take, in total or for each client.",
    "ipc": "Images per class, a budget in short: ipc × classes × height × width pixels.",
    "preset": "Named settings of a method: reference does what the released code does, fedbench is "
    "what we recommend.",
    "preset*, method*": "The suite overrides settings of the preset, or of a method without one; "
    "the row's details name them, each with the preset's value or the method's default.",
    "profile": "Size of a suite, such as smoke, quick, standard or paper; published is meant for a "
    "committed board.",
    "worst client": "Smallest accuracy of the final model over the clients' own label mixes. Of "
    "local, whose models stay at their clients, each is measured on its own mix instead, which is "
    "another quantity: it stands in the row's details.",
    "†": "A control row: there to compare with, not ranked.",
    "‡": "Lacks seeds that half of the block's rows or more have; not ranked.",
    "≈": "Within a pooled standard deviation of the best.",
}
_FOUND = re.compile(r"\b(min_size|budget|K|beta)\b(?==| [0-9])|β(?==)")


def explained(text: str) -> Markup:
    """Return escaped text whose terms tell what they mean when they are pointed at."""

    def tell(found: re.Match[str]) -> str:
        meaning = TERMS["β" if found[0] == "beta" else found[0]]
        return f'<abbr title="{escape(meaning)}">{found[0]}</abbr>'

    return Markup(_FOUND.sub(tell, str(escape(text))))
