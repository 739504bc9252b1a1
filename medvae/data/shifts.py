"""What another machine, film or archive does to an image, one change at a time.

For testing. Written apart from training's own changes (`acquisition.py`), with Pillow on 8-bit
images, so that a model is not tested on its own exercise. None of these makes a chest sick.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from medvae.data.transform import to_model_input

Shift = Callable[[np.ndarray], np.ndarray]
NOISE_SEED = 7


def gamma(exponent: float) -> Shift:
    """Film or detector response: gray^exponent."""
    return lambda image: _gray((image / 255.0) ** exponent * 255)


def curve(share: float) -> Shift:
    """An S-shaped contrast curve mixed in (share > 0) or its opposite (share < 0)."""

    def shift(image: np.ndarray) -> np.ndarray:
        x = image / 255.0
        return _gray((x + share * (0.5 - 0.5 * np.cos(np.pi * x) - x)) * 255)

    return shift


def blur(share: float) -> Shift:
    """Gaussian blur, its standard deviation a share of the side."""
    return lambda image: _filtered(image, ImageFilter.GaussianBlur(share * image.shape[0]))


def sharpen(percent: int) -> Shift:
    """Unsharp masking, as in a scanner's edge enhancement."""
    return lambda image: _filtered(image, ImageFilter.UnsharpMask(1.5, percent, 0))


def noise(deviation: float) -> Shift:
    """Independent Gaussian noise, in gray levels of 255."""

    def shift(image: np.ndarray) -> np.ndarray:
        draws = np.random.default_rng(NOISE_SEED).standard_normal(image.shape)
        return _gray(image + deviation * draws)

    return shift


def crop(share: float) -> Shift:
    """A share of the side is cut away all round."""

    def shift(image: np.ndarray) -> np.ndarray:
        edge = round(share * image.shape[0])
        return image[edge : image.shape[0] - edge, edge : image.shape[1] - edge]

    return shift


def rotate(degrees: float) -> Shift:
    """A turn about the centre; the corners that it opens stay black."""
    return lambda image: np.asarray(
        Image.fromarray(image).rotate(degrees, Image.Resampling.BICUBIC)
    )


def border(share: float) -> Shift:
    """A black frame, as collimators and scanners leave it."""

    def shift(image: np.ndarray) -> np.ndarray:
        edge = round(share * image.shape[0])
        framed = np.zeros_like(image)
        framed[edge:-edge, edge:-edge] = image[edge:-edge, edge:-edge]
        return framed

    return shift


def letter(image: np.ndarray) -> np.ndarray:
    """A burnt-in white "R" in the upper left corner."""
    side = image.shape[0]
    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).text((0.05 * side, 0.03 * side), "R", 255, font_size=0.11 * side)
    return np.asarray(picture)


SHIFTS: dict[str, Shift] = {
    "none": lambda image: image,
    "gamma 0.7": gamma(0.7),
    "gamma 1.4": gamma(1.4),
    "more contrast": curve(0.6),
    "less contrast": curve(-0.6),
    "blur": blur(0.008),
    "sharpen": sharpen(120),
    "noise": noise(8),
    "crop 5 %": crop(0.05),
    "rotate 5°": rotate(5),
    "border 5 %": border(0.05),
    "letter": letter,
}


def shifted(pixels: np.ndarray, shift: Shift) -> np.ndarray:
    """Images (N, S, S) uint8 after the shift and, like any upload, the program's own transform."""
    return np.stack([to_model_input(shift(image), pixels.shape[-1]) for image in pixels])


def _gray(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _filtered(image: np.ndarray, kernel: ImageFilter.Filter) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(kernel))
