"""The second task's exam papers: healthy images with a patch that does not belong there.

A patch is lifted from anywhere in the same or another healthy image, perhaps mirrored, and set
down inside the chest with a soft, wavy rim. It moves by whole pixels: a patch that had to be
resampled would give itself away by its lost sharpness. Schlüter et al., "Natural Synthetic
Anomalies" (2022); Sato et al., "Anatomy-aware Self-supervised Learning for Anomaly Detection in
Chest Radiographs" (2023).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from medvae.config import PatchConfig

WAVES = 6  # random heights a side from which the outline's waves are made
DRAWS = 11 + WAVES**2  # random numbers a patch
SIZE = (0.02, 0.26)  # mean half axis of a patch, as a share of the side
LENGTH = 2.5  # at most so many times as long as wide
SOFTNESS = (0.08, 0.5)  # width of its rim, as a share of its half axes
WOBBLE = 0.35  # how far its outline leaves the ellipse
OPACITY = (0.3, 1.0)
MARGIN = 0.1  # patches are not lifted from nearer the border than this share of the side
AGAIN = 0.5  # chance of each patch after the first
VISIBLE = 0.03  # mean gray difference from which on a changed place counts in full


class Pasted(NamedTuple):
    """Images (B, 1, S, S) with patches, and where they are: (B, 1, S, S), 0..1."""

    images: Tensor
    changed: Tensor


def paste_patches(
    images: Tensor, donors: Tensor, field: Tensor, draws: Tensor, config: PatchConfig
) -> Pasted:
    """Paste up to `config.patches` patches into a share of the images; the rest stay whole.

    images, donors: (B, 1, S, S) in [0, 1]; a patch comes from either. field: (S, S), how likely a
    patch is set down at a pixel. draws: (B, config.patches, DRAWS), uniform in 0..1.
    """
    pasted, covered = images, torch.zeros_like(images)
    sources = torch.cat([images, donors]).squeeze(1)  # (2B, S, S)
    used = draws[:, 0, 0] < config.share
    for turn, drawn in enumerate(draws.unbind(1)):
        d = drawn.t()  # (DRAWS, B)
        if turn:
            used = used & (d[0] < AGAIN)
        centre = _places(field, d[1])
        mask = _soft_mask(images.shape[-1], centre, d[6:]) * used.view(-1, 1, 1, 1).float()
        pasted = torch.lerp(pasted, _moved(sources, centre, d[2:6]), mask)
        covered = torch.maximum(covered, mask)
    return Pasted(pasted, covered * _visible(pasted - images))


def _visible(difference: Tensor) -> Tensor:
    """How much of a change can be seen, 0..1, by its mean over about twelve pixels."""
    coarse = F.avg_pool2d(difference.abs(), 4)
    around = F.avg_pool2d(coarse, 3, stride=1, padding=1, count_include_pad=False)
    return F.interpolate((around / VISIBLE).clamp(0, 1), scale_factor=4.0)


def _places(field: Tensor, draws: Tensor) -> Tensor:
    """Pixels drawn with the density of the field: (B,) uniform → (2, B) column and row."""
    side = field.shape[-1]
    cumulative = field.flatten().cumsum(0)
    index = torch.searchsorted(cumulative / cumulative[-1], draws.contiguous())
    index = index.clamp_max(side * side - 1)
    return torch.stack([index % side, torch.div(index, side, rounding_mode="floor")])


def _moved(sources: Tensor, centre: Tensor, draws: Tensor) -> Tensor:
    """Images (B, 1, S, S) with the content of a random place brought to `centre` (2, B).

    sources: (2B, S, S), the images themselves and a donor for each. draws: (4, B): the place, which
    of the two it lies in, and whether that is mirrored.
    """
    count, side = centre.shape[1], sources.shape[-1]
    start = ((MARGIN + (1 - 2 * MARGIN) * draws[:2]) * side).long()
    pixel = torch.arange(side, device=sources.device)
    column, row = _mirrored(pixel + (start - centre).unsqueeze(2), side).unbind(0)  # (B, S) each
    column = torch.where((draws[3] < 0.5).view(count, 1), column, side - 1 - column)
    image = torch.arange(count, device=sources.device) + count * (draws[2] >= 0.5)
    return sources[image.view(count, 1, 1), row[:, :, None], column[:, None]].unsqueeze(1)


def _mirrored(index: Tensor, side: int) -> Tensor:
    """Indices beyond the border reflected back into 0..side − 1."""
    return (side - 1) - ((side - 1) - index.abs()).abs()


def _soft_mask(side: int, centre: Tensor, draws: Tensor) -> Tensor:
    """Ellipses with a wavy, soft outline: (B, 1, S, S) in 0..1, drawn at half the resolution."""
    count, half = centre.shape[1], side // 2
    place = (torch.arange(half, dtype=torch.float32, device=centre.device) + 0.5) / half
    x = place.view(1, 1, half) - centre[0].view(count, 1, 1) / side
    y = place.view(1, half, 1) - centre[1].view(count, 1, 1) / side
    angle = (draws[0] * math.pi).view(count, 1, 1)
    along = x * torch.cos(angle) + y * torch.sin(angle)
    across = y * torch.cos(angle) - x * torch.sin(angle)
    low, high = SIZE
    size, stretch = low * (high / low) ** draws[1], LENGTH ** (draws[2] - 0.5)
    axes = torch.stack([size * stretch, size / stretch]).view(2, count, 1, 1)
    radius = torch.sqrt((along / axes[0]).square() + (across / axes[1]).square() + 1e-6)
    waves = draws[5:].t().reshape(count, 1, WAVES, WAVES) * 2 - 1
    waves = F.interpolate(waves, size=(half, half), mode="bilinear", align_corners=False)
    rim = _between(SOFTNESS, draws[3]).view(count, 1, 1)
    mask = (0.5 + (1 + WOBBLE * waves.squeeze(1) - radius) / rim).clamp(0, 1)
    mask = (mask * _between(OPACITY, draws[4]).view(count, 1, 1)).unsqueeze(1)
    return F.interpolate(mask, scale_factor=2.0, mode="bilinear", align_corners=False)


def _between(bounds: tuple[float, float], draws: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * draws
