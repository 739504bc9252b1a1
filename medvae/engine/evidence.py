"""What of a forward pass may speak for or against health, as vectors and maps.

Pure functions of one batch; nothing here knows what is healthy.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from medvae.data.smoothing import smooth
from medvae.model.vae import VAEOutput

GRID = 4  # regions a side
BANDS = (0.0, 0.008, 0.016, 0.031, 0.0625)  # blurs between which detail is measured, of the side
COARSE = 32  # cells a side at which the residual's shape is compared
INSIDE = 0.3  # value of the chest field from which on a cell counts as chest


def vectors(images: Tensor, output: VAEOutput, field: Tensor) -> dict[str, Tensor]:
    """Every vector evidence of a batch, name → (B, D); `regions` only with a patch head."""
    residual = images - output.reconstruction
    found = {
        "latent": output.mu,
        "shape": _shape(residual, field),
        "bands": _bands(residual, field),
        "features": _features(output.stages, field),
    }
    if output.features is not None:
        features = F.adaptive_avg_pool2d(output.features, GRID).flatten(2).transpose(1, 2)
        inside = _inside(field, GRID, share=0.1).to(features.device)
        found["regions"] = features[:, inside].flatten(1)  # (B, R · C)
    return found


def _features(stages: tuple[Tensor, ...], field: Tensor) -> Tensor:
    """Mean over the chest of each channel of the encoder's maps: → (B, sum of channels)."""
    pooled = []
    for stage in stages:
        weight = F.adaptive_avg_pool2d(field[None, None], stage.shape[-1]).to(stage.device)
        cells = stage.float().permute(0, 2, 3, 1).flatten(1, 2)  # (B, S², C), mostly no copy
        pooled.append((weight.view(1, -1) @ cells).squeeze(1) / weight.sum())
    return torch.cat(pooled, 1)


def _shape(residual: Tensor, field: Tensor) -> Tensor:
    """The smoothed residual in the cells of the chest: (B, 1, S, S) → (B, cells)."""
    cells = min(COARSE, residual.shape[-1] // 4)
    coarse = F.adaptive_avg_pool2d(smooth(residual, 0.012), cells).flatten(1)
    return coarse[:, _inside(field, cells, INSIDE).to(coarse.device)]


def _bands(residual: Tensor, field: Tensor) -> Tensor:
    """Log energy of the residual by region and scale: (B, 1, S, S) → (B, bands · regions)."""
    steps = [residual, *(smooth(residual, share) for share in BANDS[1:])]
    layers = [a - b for a, b in pairwise(steps)] + [steps[-1]]
    chest = field.to(residual.device)[None, None]
    weight = F.adaptive_avg_pool2d(chest, GRID).clamp_min(1e-3)
    pooled = [F.adaptive_avg_pool2d(layer.square() * chest, GRID) for layer in layers]
    energy = torch.cat(pooled, 1) / weight
    inside = _inside(field, GRID, share=0.15).to(residual.device)
    return (energy.flatten(2)[:, :, inside] + 1e-7).log().flatten(1)


def _inside(field: Tensor, cells: int, share: float) -> Tensor:
    """Which cells of a grid lie in the chest: (cells²,) bool; all when none does."""
    inside = F.adaptive_avg_pool2d(field[None, None], cells).flatten() > share
    return inside if bool(inside.any()) else torch.ones_like(inside)
