"""The mirror of a suite in Weights & Biases: every record a run, the leaderboard one more.

``content`` says what each run holds, without wandb; ``mirroring`` is what a sweep or a report uses;
``writer`` is the process that talks to wandb; ``shelf`` remembers what has been mirrored. Records
stay the truth: deleting the mirror loses nothing. ``docs/wandb.md`` is for users.
"""

from __future__ import annotations

from fedbench.report.tracking.mirroring import Mirror, Outcome

__all__ = ["Mirror", "Outcome"]
