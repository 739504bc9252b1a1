"""One Gaussian blur for every map, its width told as a share of the image side."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def smooth(images: Tensor, share: float) -> Tensor:
    """Gaussian blur of (B, C, S, S) with a standard deviation of `share` of the side.

    Two one-dimensional passes, cut off at three deviations; borders are replicated.
    """
    side = images.shape[-1]
    radius = min(max(1, math.ceil(3 * share * side)), side - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / (share * side)).square())
    kernel = kernel / kernel.sum()
    planes = images.float().flatten(0, 1).unsqueeze(1)  # (B · C, 1, S, S)
    padded = F.pad(planes, (radius,) * 4, mode="replicate")
    blurred = F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return blurred.view(images.shape)
