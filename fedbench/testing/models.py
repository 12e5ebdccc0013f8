"""What every model family promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from fedbench.models.factory import build, parameter_count
from fedbench.models.families import MODELS, Family
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.testing.tiny import Properties, hold

_CLASSES = 7


class ModelProperties(Properties):
    """Inherit from this and name your family.

    Attributes:
        model: Its name.
        settings: Of the model: ``width``, ``depth`` or ``norm``, where it takes them.
        sizes: Heights in pixels to try; the smallest that the family takes is tried as well.
        parameters: Number of weights for three channels, 32x32 pixels and 10 classes, if you know
            it: a paper's, or what it was.
    """

    model: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {}
    sizes: ClassVar[tuple[int, ...]] = (28, 33)
    parameters: ClassVar[int | None] = None

    @pytest.mark.parametrize("channels", [1, 3])
    def test_logits_are_the_heads_of_the_features(self, channels: int) -> None:
        """(N, features) and (N, classes), for grey images and colour, at every size."""
        for size in self._sizes():
            net, images = self._net(channels, size)
            net.eval()
            features, logits = net.features(images), net(images)
            found = f"features {tuple(features.shape)} and logits {tuple(logits.shape)}"
            hold(
                features.shape == (2, net.feature_dim) and logits.shape == (2, _CLASSES),
                "features are (N, head.in_features) and logits (N, classes)",
                f"two images of {channels}x{size}x{size} and {_CLASSES} classes give {found}",
                "let `features` return a row for each image, and `head` be "
                "`nn.Linear(features, classes)`",
            )
            hold(
                type(net.head) is nn.Linear and torch.equal(logits, net.head(features)),
                "logits are `head(features(x))`, and `head` is a `nn.Linear`",
                f"`head` of {self.model!r} is a {type(net.head).__name__}",
                "leave `forward` to `Net`",
            )
            # In training mode: untrained statistics of BatchNorm let a deep net's signal vanish.
            first, second = net.train().features(images)
            hold(
                not torch.allclose(first, second),
                "features depend on the image",
                f"two images of {channels}x{size}x{size} have equal ones",
                "use `x` in `features`, and start no layer at 0",
            )

    def test_gradients_reach_all_weights_and_the_images(self) -> None:
        """Distillation needs those of the images."""
        net, images = self._net()
        images.requires_grad_()
        F.cross_entropy(net(images), torch.tensor([0, 3])).backward()  # type: ignore[no-untyped-call]
        # A bias in front of BatchNorm has no effect; every weight of more dimensions has.
        idle = [name for name, weight in net.named_parameters() if not _moves(weight)]
        hold(
            not idle,
            "gradients reach all weights",
            f"they are missing, not finite or 0 in {', '.join(idle[:3])}",
            "use every layer in `features`, and none twice without need",
        )
        hold(
            images.grad is not None and bool(images.grad.any()),
            "gradients reach the images",
            "they are 0",
            "detach or round nothing between the images and the logits",
        )

    def test_batch_norm_is_declared_as_it_is(self) -> None:
        """Plans skip methods that need it by this word."""
        for size in self._sizes():
            net, _ = self._net(1, size)
            layers = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
            declared = self._family.has_batch_norm(self._model, size)
            hold(
                declared is bool(layers) is bool(list(net.buffers())),
                "`batch_norm` says whether there are BatchNorm layers, the only ones with buffers",
                f"it is {declared} at {size}x{size} pixels, with {len(layers)} layers and "
                f"{len(list(net.buffers()))} buffers",
                "correct `batch_norm` of the family",
            )

    def test_the_state_goes_through_safetensors(self) -> None:
        """As messages do: by value, no two names sharing memory."""
        net, images = self._net()
        net(images)  # moves the statistics of BatchNorm away from where they start
        state = {name: value.contiguous() for name, value in net.state_dict().items()}
        places = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
        hold(
            len(places) == len(state),
            "no two weights share memory",
            f"{len(state)} names have {len(places)} places",
            "give every layer weights of its own",
        )
        other, _ = self._net(seed=9)
        other.load_state_dict(load(save(state)))
        hold(
            torch.equal(other.eval()(images), net.eval()(images)),
            "a network that is read back gives the same logits",
            "they differ",
            "keep all that `forward` reads in parameters and buffers",
        )

    def test_equal_seeds_give_equal_networks_which_do_not_draw(self) -> None:
        """Initial weights follow the seed alone; dropout belongs into a recipe."""
        (net, images), (again, _), (other, _) = (self._net(seed=seed) for seed in (1, 1, 2))
        equal = [
            torch.equal(x, y) for x, y in zip(net.parameters(), again.parameters(), strict=True)
        ]
        hold(
            all(equal) and any(map(_differ, net.parameters(), other.parameters())),
            "initial weights follow the seed",
            f"{equal.count(False)} of {len(equal)} differ for one seed, or none for two",
            "draw them by torch's functions when the network is built, from no seed of your own",
        )
        hold(
            torch.equal(net(images), net(images)),
            "a network in training mode draws nothing",
            "two calls give other logits",
            "leave out dropout and noise",
        )

    def test_it_takes_images_from_its_smallest_size_on(self) -> None:
        """One image in training mode at `min_size`, which plans ask for."""
        size = self._family.smallest(self._model)
        net, images = self._net(3, size, count=1)
        features = net.train().features(images)
        hold(
            bool(features.isfinite().all()),
            "the smallest image gives finite features",
            f"one of {size}x{size} pixels does not",
            "raise `min_size` of the family",
        )

    def test_the_number_of_weights_is_what_it_was(self) -> None:
        """For three channels, 32x32 pixels and ten classes."""
        size = max(32, self._family.smallest(self._model))
        count = parameter_count(build(self._model, channels=3, size=size, classes=10, seed=0))
        hold(
            count > 0 and self.parameters in (None, count),
            "the number of weights is `parameters`",
            f"it is {count}, not {self.parameters}",
            "correct the network, or `parameters` here",
        )

    @property
    def _model(self) -> Model:
        return Model.model_validate({"name": self.model, **self.settings})

    @property
    def _family(self) -> Family:
        return MODELS.get(self.model)

    def _sizes(self) -> list[int]:
        smallest = self._family.smallest(self._model)
        return sorted({smallest, *(size for size in self.sizes if size >= smallest)})

    def _net(
        self, channels: int = 3, size: int | None = None, count: int = 2, seed: int = 1
    ) -> tuple[Net, Tensor]:
        """Return a network and images that are drawn."""
        size = size or max(32, self._family.smallest(self._model))
        net = build(self._model, channels=channels, size=size, classes=_CLASSES, seed=seed)
        source = torch.Generator().manual_seed(2)
        return net, torch.randn(count, channels, size, size, generator=source)


def _differ(one: Tensor, other: Tensor) -> bool:
    return not torch.equal(one, other)


def _moves(weight: Tensor) -> bool:
    grad = weight.grad
    return (
        grad is not None and bool(grad.isfinite().all()) and (weight.ndim < 2 or bool(grad.any()))
    )
