"""From any gray image to what the network sees: 8-bit, square, min-max stretched.

The same function serves training, evaluation, the page and the terminal, so that a score
means the same thing everywhere.
"""

import numpy as np
from PIL import Image

from medvae.data.decode import Gray, decode
from medvae.errors import ImageError
from medvae.limits import Limits

VERSION = 1  # raise when a pixel would come out differently: caches are rebuilt
OVERSAMPLING = 2  # a JPEG may be decoded small, but not below this many times the model's side


def to_model_input(image: Gray, size: int) -> np.ndarray:
    """Resize (antialiased) to size × size and stretch min-max to 0..255.

    image: (H, W), any numeric type. Returns (size, size) uint8, whose 0..255 stand for the
    network's [0, 1]. Raises `ImageError` for a constant, non-finite or
    colour image.
    """
    if image.ndim != 2 or 0 in image.shape:
        raise ImageError(f"has the shape {image.shape}; expected gray values (height, width)")
    if image.dtype != np.uint8:
        image = image.astype(np.float32, copy=False)
        if not np.isfinite(image).all():
            raise ImageError("has pixels that are not numbers; expected finite gray values")
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    values = np.asarray(resized, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6 * max(1.0, abs(high)):
        raise ImageError(f"every pixel has the same value ({low:g}); expected a chest X-ray")
    return np.rint((values - low) * (255.0 / (high - low))).astype(np.uint8)


def read_model_input(data: bytes, name: str, size: int, limits: Limits | None = None) -> np.ndarray:
    """`decode` and `to_model_input` in one go, with the file's name in front of any error."""
    image = decode(data, name, OVERSAMPLING * size, limits)
    try:
        return to_model_input(image, size)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
