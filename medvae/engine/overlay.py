"""Colours for anomaly maps: lookup tables and alpha, on a scale that never moves.

A healthy image must look calm, so nothing here stretches a map to its own extremes.
"""

import numpy as np
from PIL import Image

SCALE = 6.0  # |z| at which colour and opacity are full
BRIGHTER = ((255, 96, 48), (255, 176, 32), (255, 244, 168))  # z from the threshold to SCALE
DARKER = ((40, 120, 255), (72, 184, 255), (176, 236, 255))
DIFFERENCE = ((0, 0, 0), (176, 24, 32), (255, 168, 32), (255, 255, 240))
DIFFERENCE_SCALE = 0.5  # |image − reconstruction| shown in full colour
_STEPS = 256


def heat_overlay(
    image: np.ndarray, anomaly_map: np.ndarray, pixel_threshold: float, opacity: float = 0.65
) -> np.ndarray:
    """Paint a signed z-map over an image: warm where brighter than healthy, blue where darker.

    image: (H, W) uint8 or float in [0, 1], any size. anomaly_map: (S, S), stretched to it.
    Below half of `pixel_threshold` nothing is painted; from there opacity rises to `opacity`
    at SCALE. Regions beyond the threshold get a rim. Returns (H, W, 3) uint8.
    """
    gray = _to_uint8(image)
    colours, strength = _heat(_resize(anomaly_map, gray.shape), pixel_threshold)
    alpha = opacity * strength[..., None]
    return _to_rgb(gray[..., None] * (1 - alpha) + colours * alpha)


def heat_layer(
    anomaly_map: np.ndarray, shape: tuple[int, ...], pixel_threshold: float
) -> np.ndarray:
    """The colours of `heat_overlay` alone, to lay over an image of `shape`: (H, W, 4) uint8."""
    colours, strength = _heat(_resize(anomaly_map, shape), pixel_threshold)
    return _to_rgb(np.concatenate([colours, 255 * strength[..., None]], axis=2))


def difference_layer(absolute_difference: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """|image − reconstruction| (S, S) to lay over an image of `shape`: (H, W, 4) uint8.

    Dark red to white on a fixed scale, clear where there is no difference.
    """
    strength = np.clip(_resize(absolute_difference, shape) / DIFFERENCE_SCALE, 0.0, 1.0)
    colours = _table(DIFFERENCE)[_steps_of(strength)]
    return _to_rgb(np.concatenate([colours, 255 * np.sqrt(strength)[..., None]], axis=2))


def colour_bar(width: int = 256, height: int = 12, pixel_threshold: float = 0.0) -> np.ndarray:
    """The overlay's colours from z = −SCALE to +SCALE on dark gray: (height, width, 3) uint8."""
    z = np.tile(np.linspace(-SCALE, SCALE, width, dtype=np.float32), (height, 1))
    return heat_overlay(np.full((height, width), 64, np.uint8), z, pixel_threshold, opacity=1)


def _heat(z: np.ndarray, pixel_threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Colours (H, W, 3) and opacity (H, W) in 0..1 of a z-map (H, W)."""
    start = pixel_threshold / 2
    strength = np.clip((np.abs(z) - start) / max(SCALE - start, 1e-6), 0.0, 1.0)
    steps = _steps_of(strength)
    colours = np.where((z > 0)[..., None], _table(BRIGHTER)[steps], _table(DARKER)[steps])
    opacity = np.sqrt(strength)  # the root keeps weak evidence visible
    opacity[_rim(z > pixel_threshold) | _rim(z < -pixel_threshold)] = 1.0
    return colours, opacity


def _steps_of(strength: np.ndarray) -> np.ndarray:
    return np.rint(strength * (_STEPS - 1)).astype(np.intp)


def _rim(mask: np.ndarray) -> np.ndarray:
    """The outermost pixels of the regions of a mask (H, W) bool."""
    padded = np.pad(mask, 1, mode="edge")
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~core


def _table(stops: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """(256, 3) float32, linear between evenly spaced colours."""
    at = np.linspace(0, 1, len(stops))
    x = np.linspace(0, 1, _STEPS)
    channels = [np.interp(x, at, [stop[c] for stop in stops]) for c in range(3)]
    return np.stack(channels, axis=1).astype(np.float32)


def _resize(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else _to_rgb(image * 255.0)


def _to_rgb(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
