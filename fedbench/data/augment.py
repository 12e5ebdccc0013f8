"""Flips and padded crops of whole batches, each sample with its own draw.

The reference codes augment one PIL image at a time with torchvision; here all parameters of a
batch, or of a whole epoch, are drawn at once on the CPU, so that a GPU sees the same images as the
CPU, and all samples are moved together on their own device. Crop and flip are those of He et al.
2016 (https://arxiv.org/abs/1512.03385, section 4.2) with 4 pixels of black for 32.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from fedbench.data.layouts import Kind


def padding(size: int) -> int:
    """Return how many black pixels a crop adds on each side: an eighth of the size, rounded."""
    return int(0.125 * size + 0.5)


def draw(count: int, kind: Kind, size: int, generator: torch.Generator) -> Tensor | None:
    """Draw the parameters of many samples.

    Args:
        count: Number of samples, N.
        kind: ``none`` draws nothing; ``crop`` shifts; ``flip`` mirrors every second image on
            average; ``flip_crop`` does both.
        size: Height and width of the images in pixels.
        generator: A CPU generator, which is advanced.

    Returns:
        (N, 3) int64 on the CPU: mirrored (0 or 1), and the window's row and column in the padded
        image, each in [0, 2 * padding]; None for ``none``.
    """
    if kind == "none":
        return None
    corners = torch.randint(0, 2 * padding(size) + 1, (count, 2), generator=generator)
    if kind == "flip":
        corners = torch.full((count, 2), padding(size))
        return torch.cat([torch.randint(0, 2, (count, 1), generator=generator), corners], dim=1)
    # The corners come first, so that both kinds crop alike under one seed.
    if kind == "crop":
        mirrored = torch.zeros(count, 1, dtype=torch.int64)
    else:
        mirrored = torch.randint(0, 2, (count, 1), generator=generator)
    return torch.cat([mirrored, corners], dim=1)


def apply(images: Tensor, draws: Tensor | None) -> Tensor:
    """Mirror and crop every image as its draw says.

    Args:
        images: (B, C, S, S) of any type; new pixels are 0, so normalise afterwards.
        draws: (B, 3) from ``draw`` on the images' device, or None to change nothing.

    Returns:
        (B, C, S, S) of the same type; the same tensor where ``draws`` is None.
    """
    if draws is None:
        return images
    count, channels, size, _ = images.shape
    edge = padding(size)
    wide = size + 2 * edge
    # Both versions of every image lie in memory one after the other, so that a row of the result
    # is a run of `size` numbers somewhere in it: copying runs is 2 to 7 times as fast on a CPU as
    # indexing pixels.
    both = pad(torch.stack([images, images.flip(-1)]), (edge, edge, edge, edge))
    runs = both.view(-1).unfold(0, size, 1)
    plane = wide * wide
    image, plane_of, row = (
        torch.arange(length, device=images.device) * stride
        for length, stride in ((count, channels * plane), (channels, plane), (size, wide))
    )
    first = draws[:, 0] * (count * channels * plane) + image + draws[:, 1] * wide + draws[:, 2]
    start = first.view(-1, 1, 1) + plane_of.view(-1, 1) + row
    return runs.index_select(0, start.view(-1)).view(images.shape)
