"""Images to hold an engine against its graph on, where there are no scans.

A network's folder holds no patch of the scans it was calibrated on: they are patients' data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_BODY = 0.9
_ORGANS = 24
_SMALLEST, _LARGEST = 0.08, 0.48
"""Half axes, as shares of half the image."""
_GRAIN = 0.03


def check_images(shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return white noise and a phantom, each with a mean of about 0 and a deviation of about 1.

    Noise reaches all of a network, but what it finds in it is noise, too. The phantom is like a
    scan: a background of one value and, in a body, organs with edges and little noise.

    Args:
        shape: (N, C, D, H, W).

    Returns:
        Both float32 [N, C, D, H, W], the same at every call.
    """
    noise = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))
    count, channels, *sizes = shape
    phantoms = [_phantom(sizes, seed) for seed in range(count * channels)]
    return noise, torch.stack(phantoms).reshape(tuple(shape))


def _phantom(sizes: Sequence[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = ((2 * torch.arange(size) + 1) / size - 1 for size in sizes)
    axes = torch.meshgrid(*centres, indexing="ij")

    def ellipsoid(centre: Tensor, half: Tensor) -> Tensor:
        parts = ((axis - c) / h for axis, c, h in zip(axes, centre, half, strict=True))
        return torch.stack([part.square() for part in parts]).sum(0) < 1

    body = ellipsoid(torch.zeros(3), torch.full((3,), _BODY))
    image = body.float()
    for _ in range(_ORGANS):
        centre = 1.4 * torch.rand(3, generator=generator) - 0.7
        half = _SMALLEST + (_LARGEST - _SMALLEST) * torch.rand(3, generator=generator)
        value = 2 * torch.rand((), generator=generator)
        image = torch.where(ellipsoid(centre, half), value, image)
    kernel = [3 if size >= 3 else 1 for size in sizes]
    padding = [size // 2 for size in kernel]
    blurred = F.avg_pool3d(image[None, None], kernel, 1, padding, count_include_pad=False)[0, 0]
    grain = _GRAIN * torch.randn(image.shape, generator=generator)
    image = torch.where(image > 0, blurred + grain, blurred)
    deviation, mean = torch.std_mean(image, correction=0)
    return (image - mean) / deviation.clamp_min(torch.finfo(image.dtype).tiny)
