"""What is known of each architecture before it is built.

A ``Family`` says which options an architecture takes, the smallest image it takes and whether it
has BatchNorm, so that a plan can skip a cell and name the reason. This module imports no torch;
the networks are in the other files of this package and ``factory`` builds them.

The smallest image is the one at which every convolution still gives a map of at least 2x2 pixels:
below that, normalisation over a map has nothing to normalise, and BatchNorm fails in training on a
batch of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from fedbench.errors import ModelError
from fedbench.registry import Registry

if TYPE_CHECKING:
    from fedbench.models.net import Net

#: From this height on, `dense_cnn` is the network that DENSE uses for 32x32 pixels; below, the one
#: that it uses for 28x28.
DENSE_CNN_PLAIN_FROM = 32  # DENSE

_OPTIONS = {"width", "depth", "norm"}

#: Ways to start convolutions other than PyTorch's (see ``initialisation``).
Initialisation = Literal["kaiming_normal", "kaiming_uniform"]


class Options(Protocol):
    """What a family's functions may ask of the settings of a model (``settings.Model``)."""

    @property
    def width(self) -> int | None:
        """Channels of the (first) convolution."""

    @property
    def depth(self) -> int | None:
        """Number of blocks."""

    @property
    def norm(self) -> str | None:
        """Normalisation layer."""


@dataclass(frozen=True)
class Family:
    """One architecture family.

    Attributes:
        name: Its name in settings.
        title: What it is, in one line.
        build: The callable, or ``module:callable``, imported when a network is built. It takes the
            keywords ``channels``, ``size`` and ``classes`` and each of ``options``, and returns a
            ``fedbench.models.net.Net``.
        min_size: Height in pixels of the smallest image it takes, or a function of the settings.
        batch_norm: Whether it has BatchNorm layers, or a function of the settings and the height.
        source: Where the architecture comes from, with a URL.
        options: Which of ``width``, ``depth`` and ``norm`` it takes, and their defaults.
        initialisation: Whether its convolutions may start otherwise than its builder starts them,
            by ``Initialisation``.
        channels_last: Whether its weights are kept in ``torch.channels_last`` on a CPU: where that
            trains faster in both precisions, by ``benchmarks/speed/memory_format.py``. A network
            for a GPU, where nothing was measured, is contiguous.
        version: Part of the cell id; raised when weights or outputs change for equal settings.
    """

    name: str
    title: str
    build: str | Callable[..., Net]
    min_size: int | Callable[[Options], int]
    batch_norm: bool | Callable[[Options, int], bool]
    source: str
    options: Mapping[str, int | str] = field(default_factory=dict)
    initialisation: bool = False
    channels_last: bool = False
    version: int = 1

    def __post_init__(self) -> None:
        """Refuse options that no model's settings have.

        Raises:
            ModelError: One of ``options`` is not ``width``, ``depth`` or ``norm``.
        """
        for name in self.options.keys() - _OPTIONS:
            raise ModelError(
                f"model {self.name!r} takes an option {name!r}, which no setting has; options are "
                "`width`, `depth` and `norm`: fix all else in `build`"
            )

    def smallest(self, model: Options) -> int:
        """Return the height in pixels of the smallest image that a model of this family takes."""
        return self.min_size(model) if callable(self.min_size) else self.min_size

    def has_batch_norm(self, model: Options, size: int) -> bool:
        """Say whether a model of this family has BatchNorm layers.

        Args:
            model: The model's settings.
            size: Height of the images in pixels.
        """
        return self.batch_norm(model, size) if callable(self.batch_norm) else self.batch_norm


def _convnet_smallest(model: Options) -> int:
    assert model.depth is not None  # settings.Model fills it from the options
    return int(2**model.depth)


_RESNET = (
    'He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, '
    "https://arxiv.org/abs/1512.03385"
)
_VGG = (
    'Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, '
    "https://arxiv.org/abs/1409.1556; layers of torchvision"
)

CONVNET = Family(
    name="convnet",
    title="ConvNet of dataset distillation: conv, norm, ReLU, average pooling, three times",
    build="fedbench.models.convnet:ConvNet",
    options={"width": 128, "depth": 3, "norm": "instance"},  # DM, MTT, CollabDM
    min_size=_convnet_smallest,
    batch_norm=lambda model, size: model.norm == "batch",
    source='Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, '
    "https://arxiv.org/abs/2110.04181",
)
DENSE_CNN = Family(
    name="dense_cnn",
    title="the small networks of DENSE; which of them depends on image size and classes",
    build="fedbench.models.dense_cnn:dense_cnn",
    min_size=4,
    batch_norm=lambda model, size: size < DENSE_CNN_PLAIN_FROM,
    source='Zhang et al., "DENSE: Data-Free One-Shot Federated Learning", NeurIPS 2022, '
    "https://arxiv.org/abs/2112.12371",
    channels_last=True,  # x1.2, bf16 x1.6
    version=2,
)
RESNET8 = Family(
    name="resnet8",
    title="ResNet-8 for small images: three stages of one block",
    build="fedbench.models.resnet:resnet8",
    options={"width": 16},  # single_image_fl
    min_size=5,
    batch_norm=True,
    initialisation=True,
    source=_RESNET,
    channels_last=True,  # x1.4, bf16 x1.2
    version=2,
)
RESNET20 = Family(
    name="resnet20",
    title="ResNet-20 for small images: three stages of three blocks",
    build="fedbench.models.resnet:resnet20",
    options={"width": 16},  # single_image_fl
    min_size=5,
    batch_norm=True,
    initialisation=True,
    source=_RESNET,
    channels_last=True,  # x1.3, bf16 x1.2
    version=2,
)
RESNET18 = Family(
    name="resnet18",
    title="ResNet-18 with a 3x3 stem and no max-pooling",
    build="fedbench.models.resnet:resnet18",
    options={"width": 64},  # He et al.
    min_size=9,
    batch_norm=True,
    initialisation=True,
    source=_RESNET,
)
WRN16_4 = Family(
    name="wrn16_4",
    title="WRN-16-4: pre-activation wide residual network",
    build="fedbench.models.wide_resnet:wrn16_4",
    min_size=5,
    batch_norm=True,
    initialisation=True,
    source='Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, '
    "https://arxiv.org/abs/1605.07146",
    channels_last=True,  # x1.06, bf16 x1.09
    version=2,
)
MOBILENET_V2 = Family(
    name="mobilenet_v2",
    title="MobileNetV2 with total stride 8 and no dropout",
    build="fedbench.models.torchvision_nets:mobilenet_v2",
    min_size=9,
    batch_norm=True,
    source='Sandler et al., "MobileNetV2", CVPR 2018, https://arxiv.org/abs/1801.04381; layers of '
    "torchvision",
    channels_last=True,  # x1.4, bf16 x1.2
    version=2,
)
SHUFFLENET_V2 = Family(
    name="shufflenet_v2",
    title="ShuffleNetV2 x1.0 with total stride 8",
    build="fedbench.models.torchvision_nets:shufflenet_v2",
    min_size=9,
    batch_norm=True,
    source='Ma et al., "ShuffleNet V2", ECCV 2018, https://arxiv.org/abs/1807.11164; layers of '
    "torchvision",
    channels_last=True,  # x1.2, bf16 x1.03
    version=2,
)
VGG11 = Family(
    name="vgg11",
    title="VGG-11 without BatchNorm, with one linear layer as classifier",
    build="fedbench.models.torchvision_nets:vgg11",
    min_size=17,
    batch_norm=False,
    source=_VGG,
)
VGG16 = Family(
    name="vgg16",
    title="VGG-16 without BatchNorm, with one linear layer as classifier",
    build="fedbench.models.torchvision_nets:vgg16",
    min_size=17,
    batch_norm=False,
    source=_VGG,
)

MODELS: Registry[Family] = Registry(
    "model",
    "fedbench.models",
    {
        family.name: family
        for family in (
            CONVNET,
            DENSE_CNN,
            RESNET8,
            RESNET20,
            RESNET18,
            WRN16_4,
            MOBILENET_V2,
            SHUFFLENET_V2,
            VGG11,
            VGG16,
        )
    },
)
