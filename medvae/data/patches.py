"""The second task's exam papers: healthy images with a patch that does not belong there.

A patch comes from another place of the same image or from another image, its rim fades out, and
it lands inside the chest. All draws come from one generator, whole batches at a time, on the
images' own device. Schlüter et al., "Natural Synthetic Anomalies" (2022); Sato et al.,
"Anatomy-aware Self-supervised Learning for Anomaly Detection in Chest Radiographs" (2023).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from medvae.config import PatchConfig

DRAWS = 14  # random numbers a patch
SIZE = (0.07, 0.26)  # half axes of a patch, as a share of the side
SOFTNESS = (0.08, 0.5)  # width of its rim, as a share of its half axes
WOBBLE = 0.35  # how far its outline leaves the ellipse
TURN = 0.35  # radians by which the source is turned
ZOOM = 0.25  # log units by which it is scaled
TONE = (0.06, 0.40)  # gray levels of 1 that a painted patch adds or takes away
VISIBLE = 0.03  # mean gray difference from which on a changed place counts in full


class Pasted(NamedTuple):
    """Images (B, 1, S, S) with patches, and where they are: (B, 1, S, S), 0..1."""

    images: Tensor
    changed: Tensor


def paste_patches(
    images: Tensor, field: Tensor, config: PatchConfig, generator: torch.Generator
) -> Pasted:
    """Paste up to `config.patches` patches into a share of the images; the rest stay whole.

    images: (B, 1, S, S) in [0, 1]. field: (S, S), how likely a patch is centred at a pixel.
    """
    count, device = len(images), images.device
    chosen = _draw(generator, device, count) < config.share
    pasted, covered = images, torch.zeros_like(images)
    for turn in range(config.patches):
        draws = torch.rand((DRAWS, count), generator=generator, device=device)
        used = chosen if turn == 0 else chosen & (draws[13] < 0.5)
        centre = _places(field, draws[0])  # (B, 2), −1..1
        mask = _soft_mask(images.shape[-1], centre, draws[1:6], generator)
        mask = mask * used.view(count, 1, 1, 1).float()
        is_painted = (draws[12] < config.painted).view(count, 1, 1, 1)
        content = torch.where(
            is_painted, _painted(pasted, draws[6:9]), _moved(images, centre, field, draws[6:12])
        )
        pasted = pasted + mask * (content - pasted)
        covered = torch.maximum(covered, mask)
    visible = F.avg_pool2d((pasted - images).abs(), 9, stride=1, padding=4) / VISIBLE
    return Pasted(pasted.clamp(0, 1), covered * visible.clamp(0, 1))


def _places(field: Tensor, draws: Tensor) -> Tensor:
    """Points drawn with the density of the field: (B,) uniform → (B, 2) as x, y in −1..1."""
    side = field.shape[-1]
    cumulative = field.flatten().cumsum(0)
    index = torch.searchsorted(cumulative / cumulative[-1], draws).clamp_max(side * side - 1)
    column, row = index % side, torch.div(index, side, rounding_mode="floor")
    return (torch.stack([column, row], dim=1).float() + 0.5) * (2 / side) - 1


def _soft_mask(side: int, centre: Tensor, draws: Tensor, generator: torch.Generator) -> Tensor:
    """Ellipses with a wavy, soft outline: (B, 1, S, S) in 0..1."""
    count, device = len(centre), centre.device
    axis = (torch.arange(side, dtype=torch.float32, device=device) + 0.5) * (2 / side) - 1
    x = axis.view(1, 1, side) - centre[:, 0].view(count, 1, 1)
    y = axis.view(1, side, 1) - centre[:, 1].view(count, 1, 1)
    angle = (draws[0] * math.pi).view(count, 1, 1)
    along = x * torch.cos(angle) + y * torch.sin(angle)
    across = y * torch.cos(angle) - x * torch.sin(angle)
    low, high = (2 * share for share in SIZE)
    axes = (low * (high / low) ** draws[1:3]).view(2, count, 1, 1)
    radius = torch.sqrt((along / axes[0]).square() + (across / axes[1]).square() + 1e-6)
    waves = torch.rand((count, 1, 6, 6), generator=generator, device=device) * 2 - 1
    waves = F.interpolate(waves, size=(side, side), mode="bilinear", align_corners=False)
    edge = (1 + WOBBLE * waves.squeeze(1) - radius) / _between(SOFTNESS, draws[3]).view(count, 1, 1)
    opacity = (0.5 + 0.5 * draws[4]).view(count, 1, 1)
    return ((0.5 + edge).clamp(0, 1) * opacity).unsqueeze(1)


def _moved(images: Tensor, centre: Tensor, field: Tensor, draws: Tensor) -> Tensor:
    """Other chest content brought to `centre`: from the same image (half of them) or the next."""
    count = len(images)
    is_same = (draws[0] < 0.5).view(count, 1, 1, 1)
    source = torch.where(is_same, images, images.roll(1, 0))
    start = _places(field, draws[1])
    angle, scale = TURN * (2 * draws[2] - 1), torch.exp(ZOOM * (2 * draws[3] - 1))
    mirror = torch.where(draws[4] < 0.3, -1.0, 1.0)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    # a point p of the result shows the source at `start` + M (p − centre)
    matrix = torch.stack([cosine * mirror, -sine, sine * mirror, cosine], dim=1).view(count, 2, 2)
    shift = start - torch.bmm(matrix, centre.unsqueeze(2)).squeeze(2)
    grid = F.affine_grid(
        torch.cat([matrix, shift.unsqueeze(2)], dim=2), list(images.shape), align_corners=False
    )
    return F.grid_sample(source, grid, padding_mode="reflection", align_corners=False)


def _painted(images: Tensor, draws: Tensor) -> Tensor:
    """The same content lighter or darker, and its detail veiled or kept: two-sided by design."""
    count = len(images)
    tone = _between(TONE, draws[0]) * torch.where(draws[1] < 0.5, -1.0, 1.0)
    veil = draws[2].view(count, 1, 1, 1)
    smooth = F.avg_pool2d(images, 7, stride=1, padding=3, count_include_pad=False)
    return images + veil * (smooth - images) + tone.view(count, 1, 1, 1)


def _between(bounds: tuple[float, float], draws: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * draws


def _draw(generator: torch.Generator, device: torch.device, count: int) -> Tensor:
    return torch.rand((count,), generator=generator, device=device)
