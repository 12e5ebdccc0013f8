"""The base of the LightningModules that train one network: train mode in a fit, eval mode after."""

from __future__ import annotations

from lightning import LightningModule
from torch import Tensor, nn


class NetModule(LightningModule):
    """Trains a network in place.

    A fit puts it in train mode, and in eval mode at its end.

    Args:
        net: Any network.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:
        # Lightning notes each hook's name, 40 times a step, and `Module` takes long to see that a
        # string is no parameter: a fifth of what a short fit costs above a bare loop.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def on_fit_start(self) -> None:
        """Enter train mode."""
        self.train()

    def on_fit_end(self) -> None:
        """Enter eval mode."""
        self.eval()
