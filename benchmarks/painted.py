"""Opacities painted on healthy images, where the truth is known to the pixel.

A generator of its own: training moves patches and never sees one of these. Shapes are clouds
(thresholded smooth noise inside an ellipse), as hazy as a pneumonia, and add a gray level.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

SIZE = (0.08, 0.17)  # half axes of a lesion, as a share of the side
PLACES = ((0.20, 0.42), (0.58, 0.80))  # across, of either lung, as shares of the side
HEIGHT = (0.25, 0.65)
INSIDE = 0.25  # opacity from which on a pixel counts as lesion


class Painted(NamedTuple):
    images: np.ndarray  # (N, S, S) uint8
    masks: np.ndarray  # (N, S, S) bool
    opacity: np.ndarray  # (N, S, S) float, 0..1


def paint_lesions(pixels: np.ndarray, contrast: float, seed: int = 0) -> Painted:
    """One lesion in each image (N, S, S) uint8; contrast in gray levels of 1.

    The sum is not clipped to the brightest healthy pixel but to 255, so bone under it may saturate.
    """
    side = pixels.shape[-1]
    opacity = np.stack([_cloud(side, np.random.default_rng((seed, i))) for i in range(len(pixels))])
    images = np.clip(pixels + 255 * contrast * opacity, 0, 255)
    return Painted(np.rint(images).astype(np.uint8), opacity > INSIDE, opacity)


def _cloud(side: int, rng: np.random.Generator) -> np.ndarray:
    """(S, S) in 0..1, about 1 in the lesion's middle."""
    left, right = PLACES[rng.integers(2)]
    x, y = rng.uniform(left, right) * side, rng.uniform(*HEIGHT) * side
    a, b = rng.uniform(*SIZE, size=2) * side
    angle = rng.uniform(0, np.pi)
    rows, columns = np.mgrid[:side, :side] + 0.5
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    distance = np.hypot(along / a, across / b)
    texture = gaussian_filter(rng.standard_normal((side, side)), 0.03 * side)
    texture /= texture.std()
    core = 1 / (1 + np.exp(6 * (distance - 0.9 + 0.25 * texture)))
    return gaussian_filter(core, 0.01 * side) * (1 + 0.15 * texture).clip(0.5, 1.3)
