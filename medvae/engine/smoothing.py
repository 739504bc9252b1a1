"""One Gaussian blur for every map, its width told as a share of the image side."""

import math

from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur


def smooth(images: Tensor, share: float) -> Tensor:
    """Gaussian blur of (B, 1, S, S) with a standard deviation of `share` of the side."""
    sigma = share * images.shape[-1]
    radius = min(max(1, math.ceil(3 * sigma)), images.shape[-1] - 1)
    return gaussian_blur(images.float(), 2 * radius + 1, sigma)
