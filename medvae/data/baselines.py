"""What one line of numpy achieves: the figures that every model has to stand beside.

On the public paediatric set sick lungs happen to be brighter and smoother, so these look
brilliant; on adults from another hospital they invert. They are shown, never used.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter


def mean_brightness(pixels: np.ndarray) -> np.ndarray:
    """Mean gray value of each image: (N, S, S) uint8 → (N,) float32."""
    return pixels.reshape(len(pixels), -1).mean(axis=1, dtype=np.float32)


def lack_of_detail(pixels: np.ndarray) -> np.ndarray:
    """Negative mean difference of two Gaussian blurs (1 and 2 pixels): (N, S, S) → (N,)."""
    return np.array([-_fine_detail(image) for image in pixels], dtype=np.float32)


BASELINES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "brightness": mean_brightness,
    "smoothness": lack_of_detail,
}


def _fine_detail(image: np.ndarray) -> float:
    picture = Image.fromarray(image)
    fine, coarse = (
        np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)
        for radius in (1, 2)
    )
    return float(np.abs(fine - coarse).mean())
