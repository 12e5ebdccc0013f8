"""Whether this machine rounds like another one: a digest of fixed arithmetic, none of it ours.

Two machines with the same probe are expected to give the same bits for every golden cell. Digests
depend on the processor's instructions, on torch and its libraries, and on scikit-learn's k-means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version

import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

#: Packages whose arithmetic is probed.
_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")


@lru_cache(maxsize=1)
def probe() -> dict[str, str]:
    """Return this machine's probe: versions of the packages, and the digest."""
    digest = hashlib.sha256()
    for value in (*_networks(), *_algebra(), _clusters()):
        tensor = value.detach().contiguous()
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return {**{name: version(name) for name in _PACKAGES}, "digest": digest.hexdigest()}


def _networks() -> Iterator[Tensor]:
    """Yield outputs and gradients of small convolutions of several strides and layouts."""
    source = torch.Generator().manual_seed(0)
    for bf16 in (False, True):
        for channels, batch, stride in ((1, 16, 1), (4, 16, 2), (4, 8, 1), (16, 60, 2)):
            for kernel in (1, 3):
                yield from _network(source, bf16, channels, batch, stride, kernel)


def _network(
    source: torch.Generator, bf16: bool, channels: int, batch: int, stride: int, kernel: int
) -> Iterator[Tensor]:
    images = torch.randn(batch, channels, 16, 16, generator=source, requires_grad=True)
    weight = torch.randn(8, channels, kernel, kernel, generator=source, requires_grad=True)
    head = torch.randn(10, 8, generator=source, requires_grad=True)
    labels = torch.randint(10, (batch,), generator=source)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        maps = functional.conv2d(images, weight, stride=stride, padding=kernel // 2)
        maps = functional.instance_norm(functional.batch_norm(maps, None, None, training=True))
        pooled = functional.avg_pool2d(maps.relu(), 2).mean(dim=(2, 3))
        logits = functional.linear(pooled, head)
        loss = functional.cross_entropy(logits, labels)
    loss.backward()
    yield logits.softmax(dim=-1)
    yield loss
    for leaf in (images, weight, head):
        assert leaf.grad is not None
        yield leaf.grad


def _algebra() -> Iterator[Tensor]:
    """Yield products, a factorisation, and the functions that kernels and augmentations take."""
    source = torch.Generator().manual_seed(1)
    for kind in (torch.float32, torch.float64):
        matrix = torch.randn(60, 100, generator=source, dtype=kind)
        gram = matrix @ matrix.T / 100 + torch.eye(60, dtype=kind)
        yield gram
        yield torch.cholesky_solve(matrix, torch.linalg.cholesky(gram))
        yield torch.einsum("k,kbc->bc", matrix[:, 0], matrix.view(60, 10, 10))
        yield (gram / gram.max()).clamp(-1, 1).arccos().sqrt().log1p().exp()
    grid = functional.affine_grid(
        torch.randn(4, 2, 3, generator=source), [4, 1, 16, 16], align_corners=False
    )
    yield functional.grid_sample(
        torch.randn(4, 1, 16, 16, generator=source), grid, align_corners=False
    )


def _clusters() -> Tensor:
    points = torch.randn(60, 100, generator=torch.Generator().manual_seed(2)).numpy()
    with threadpool_limits(1):
        found = KMeans(5, n_init=1, random_state=0).fit(points)
    return torch.from_numpy(found.cluster_centers_)
