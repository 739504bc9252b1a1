"""What another machine, film or archive does to an image: nothing that makes a chest sick.

Exposure, contrast curve, sharpness, noise, collimator borders and burnt-in letters, two-sided and
strong, so that neither brightness nor sharpness can become evidence.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from medvae.data.augment import augment

GAMMA = 0.45  # log units
CURVE = 0.5  # share of an S-shaped curve that is mixed in, or taken out
SHARPNESS = (-2.5, 1.0)  # share of the fine detail taken away; below zero it is strengthened
NOISE = 0.03  # largest standard deviation, gray levels of 1
BORDER = 0.07  # widest collimator border, as a share of the side
BORDERED = 0.25  # share of the images with black borders
LETTERED = 0.15  # share of the images with a letter
DRAWS = 13  # random numbers an image


def reacquire(
    images: Tensor, clean: Tensor, draws: Tensor, noise: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    """Change both versions of a batch alike: (B, 1, S, S) in [0, 1] twice, and the same back.

    Noise is added to `images` only: what the network shall restore is free of it.
    draws: (B, DRAWS), uniform in 0..1. noise: (B, 1, S, S), standard normal. strength: 0 leaves
    all as it is, 1 is the full range.
    """
    if not strength:
        return images, clean
    d = draws.t()[..., None, None, None]  # (DRAWS, B, 1, 1, 1)
    both = torch.stack([images, clean])  # (2, B, 1, S, S)
    both = _tone(both, d[:2] * 2 - 1, strength)
    both = _sharpness(both, d[2], strength)
    both = _letter(_border(both, d[3:8], strength), d[8:12])
    scale = NOISE * strength * d[12].square()
    return (both[0] + scale * noise).clamp(0, 1), both[1]


def reacquired(batches: Iterable[Tensor], strength: float, seed: int = 0) -> Iterator[Tensor]:
    """Batches (B, 1, S, S) as other machines and positions would have taken them.

    The same in every call.
    """
    for number, still in enumerate(batches):
        generator = torch.Generator(still.device).manual_seed(seed + number)
        images = augment(still, generator) if strength else still
        draws = torch.rand((len(images), DRAWS), generator=generator, device=images.device)
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        yield reacquire(images, images, draws, noise, strength)[0]


# Below, images are (2, B, 1, S, S), and draws (..., B, 1, 1, 1): they hold for both versions.


def _tone(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    bent = images.clamp(1e-4, 1).pow(torch.exp(GAMMA * strength * draws[0]))
    curve = bent * bent * (3 - 2 * bent)
    return torch.lerp(bent, curve, CURVE * strength * draws[1])


def _sharpness(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    low, high = SHARPNESS
    blurred = _softened(_softened(images, -1), -2)
    return torch.lerp(images, blurred, (low + (high - low) * draws) * strength).clamp(0, 1)


def _softened(images: Tensor, axis: int) -> Tensor:
    """Binomial blur over five pixels of one axis, by adding neighbours: four times faster than a
    convolution of a single channel."""
    side = images.shape[axis]
    ends = images.narrow(axis, 0, 1), images.narrow(axis, side - 1, 1)
    padded = torch.cat([ends[0], ends[0], images, ends[1], ends[1]], axis)
    for _ in range(4):
        length = padded.shape[axis] - 1
        padded = padded.narrow(axis, 0, length) + padded.narrow(axis, 1, length)
    return padded / 16


def _border(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Black strips of their own width along about half of the edges of some images."""
    across, down = _places(images)
    left, right, top, bottom = BORDER * strength * (2 * draws[1:] - 1) * (draws[0] < BORDERED)
    columns = ((across > left) & (1 - across > right)).float()  # (B, 1, 1, S)
    rows = ((down > top) & (1 - down > bottom)).float()  # (B, 1, S, 1)
    return images * columns * rows


def _letter(images: Tensor, draws: Tensor) -> Tensor:
    """A bright mark of a letter's size near an upper corner of some images."""
    across, down = _places(images)
    x = across - torch.where(draws[1] < 0.5, 0.02 + 0.1 * draws[2], 0.92 - 0.1 * draws[2])
    y = down - (0.02 + 0.2 * draws[3])
    right, below = (x > 0) & (draws[0] < LETTERED), y > 0  # (B, 1, 1, S), (B, 1, S, 1)
    stem = right & (x < 0.017) & (below & (y < 0.07))
    bars = right & (x < 0.05) & ((below & (y < 0.017)) | ((y > 0.03) & (y < 0.044)))
    return torch.where(stem | bars, 0.95, images)


def _places(images: Tensor) -> tuple[Tensor, Tensor]:
    """Where the columns (1, S) and the rows (S, 1) lie, as shares of the side."""
    side = images.shape[-1]
    place = (torch.arange(side, device=images.device).float() + 0.5) / side
    return place.view(1, side), place.view(side, 1)
