"""Storage budgets: between pixels, images, and images per class.

A pixel counts once, whatever its channels (as S1 counts: 500 CIFAR images are 512,000 pixels).
"""

from __future__ import annotations

from collections.abc import Sequence

from fedbench.config import Budget, Cell
from fedbench.data.specs import DATASETS
from fedbench.errors import SettingsError


def total_pixels(budget: Budget, *, classes: int, size: int, clients: int) -> int:
    """Return the pixels that a budget allows over all clients together.

    Args:
        budget: The budget.
        classes: Number of classes.
        size: Height and width of an image in pixels.
        clients: K.
    """
    pixels = budget.pixels or (budget.ipc or 0) * classes * size * size
    return pixels * (clients if budget.scope == "per_client" else 1)


def budget_pixels(cell: Cell) -> int | None:
    """Return the pixels that a cell's budget allows, as far as its settings tell.

    Returns:
        None where it has no budget, or counts images per class and only the files tell classes.
    """
    spec = DATASETS.get(cell.data.name)
    if cell.budget is None or (cell.budget.ipc is not None and not spec.classes):
        return None
    return total_pixels(
        cell.budget,
        classes=len(spec.classes),
        size=cell.data.size,
        clients=cell.partition.clients,
    )


def total_images(budget: Budget, *, classes: int, size: int, clients: int) -> int:
    """Return the whole images that fit the budget (see ``total_pixels``).

    Raises:
        SettingsError: Not even one image fits.
    """
    pixels = total_pixels(budget, classes=classes, size=size, clients=clients)
    if pixels < size * size:
        raise SettingsError(
            f"a budget of {pixels} pixels holds no image of {size}x{size}; "
            f"give at least {size * size} pixels"
        )
    return pixels // (size * size)


def quotas(total: int, holdings: Sequence[int]) -> list[int]:
    """Share a number of images among clients as evenly as their holdings allow.

    Args:
        total: Images wanted in sum.
        holdings: What each client has.

    Returns:
        For each client at most its holding; their sum is min(total, sum of the holdings). What a
        small client cannot give, the others give; a remainder goes to the first ones.
    """
    shares = [0] * len(holdings)
    left = min(total, sum(holdings))
    while left:
        able = [k for k, held in enumerate(holdings) if shares[k] < held]
        share = left // len(able)
        for k in able if share else able[:left]:
            give = min(max(share, 1), holdings[k] - shares[k])
            shares[k] += give
            left -= give
    return shares
