"""What another machine, film or archive does to an image: nothing that makes a chest sick.

Exposure, contrast curve, sharpness, noise, collimator borders and burnt-in letters, two-sided and
strong, so that neither brightness nor sharpness can become evidence.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

GAMMA = 0.45  # log units
CURVE = 0.5  # share of an S-shaped curve that is mixed in, or taken out
SHARPNESS = (-0.7, 1.0)  # share of the fine detail taken away; below zero it is strengthened
NOISE = 0.03  # largest standard deviation, gray levels of 1
BORDER = 0.07  # widest collimator border, as a share of the side
RARE = 0.15  # share of the images with a border, and with a letter
DRAWS = 13


def reacquire(
    images: Tensor, clean: Tensor, strength: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Change both versions of a batch alike: (B, 1, S, S) in [0, 1] twice, and the same back.

    Noise is added to `images` only: what the network shall restore is free of it.
    strength: 0 leaves all as it is, 1 is the full range.
    """
    count, device = len(images), images.device
    draws = torch.rand((DRAWS, count), generator=generator, device=device)
    both = torch.cat([images, clean])  # (2B, 1, S, S)
    both = _tone(both, draws[:2] * 2 - 1, strength)
    both = _sharpness(both, draws[2], strength)
    if strength:
        both = _letter(_border(both, draws[3:6], strength), draws[6:11])
    noise = torch.randn(images.shape, generator=generator, device=device)
    scale = (NOISE * strength * draws[11].square()).view(count, 1, 1, 1)
    return (both[:count] + scale * noise).clamp(0, 1), both[count:].clamp(0, 1)


def _twice(values: Tensor) -> Tensor:
    """(B,) → (2B, 1, 1, 1), the same for both versions."""
    return values.repeat(2).view(-1, 1, 1, 1)


def _tone(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    bent = images.clamp(1e-4, 1).pow(torch.exp(GAMMA * strength * _twice(draws[0])))
    curve = bent * bent * (3 - 2 * bent)
    return bent + CURVE * strength * _twice(draws[1]) * (curve - bent)


def _sharpness(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    low, high = SHARPNESS
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    blurred = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 5, 1)), kernel.view(1, 1, 1, 5))
    share = _twice(low + (high - low) * draws) * strength
    return (images + share * (blurred - images)).clamp(0, 1)


def _border(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Black strips along the left or right and the upper or lower edge of some images."""
    side = images.shape[-1]
    place = torch.arange(side, device=images.device).float() / side
    width = _twice(torch.where(draws[0] < RARE, BORDER * strength * draws[1], -1.0))
    across = place.view(1, 1, 1, side)
    flipped = _twice(draws[2]) < 0.5
    across = torch.where(flipped, 1 - across, across)
    down = place.view(1, 1, side, 1)
    covered = (across < width) | (down < width) | (down > 1 - width)
    return torch.where(covered, torch.zeros_like(images), images)


def _letter(images: Tensor, draws: Tensor) -> Tensor:
    """A bright mark of a letter's size near an upper corner of some images."""
    side = images.shape[-1]
    place = (torch.arange(side, device=images.device).float() + 0.5) / side
    left = _twice(torch.where(draws[1] < 0.5, 0.02 + 0.1 * draws[2], 0.92 - 0.1 * draws[2]))
    top = _twice(0.02 + 0.2 * draws[3])
    x, y = place.view(1, 1, 1, side) - left, place.view(1, 1, side, 1) - top
    inside = (x > 0) & (x < 0.05) & (y > 0) & (y < 0.07)
    stroke = (x < 0.017) | (y < 0.017) | ((y > 0.03) & (y < 0.044))
    shown = _twice(draws[0]) < RARE
    return torch.where(inside & stroke & shown, torch.full_like(images, 0.95), images)
