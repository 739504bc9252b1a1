"""Is this a frontal chest X-ray at all? Asked of the picture itself, before any score is believed.

A photograph, a hand, a blank or an inverted image also gets scores, and they mean nothing. The
gate compares the coarse layout (light and dark, 16 × 16) with those of healthy training images. A
sick chest keeps that layout; what is no chest does not.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

SIDE = 16  # cells of the coarse layout, a side
LAYOUTS = 256  # training images that are remembered
MARGIN = 2.0  # how many times farther than the oddest healthy validation image is too far


@dataclass(frozen=True)
class ChestGate:
    """layouts: (K, SIDE²) of unit length. limit: the largest distance of what passes, 0..2."""

    layouts: Tensor
    limit: float

    def distance(self, images: Tensor) -> Tensor:
        """1 − correlation with the most similar healthy layout: (B, 1, S, S) → (B,), 0..2."""
        return 1 - (layouts_of(images) @ self.layouts.T).amax(1)

    def passes(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) in [0, 1] → (B,) bool."""
        return self.distance(images) <= self.limit


def learn_gate(training: Tensor, validation: Tensor) -> ChestGate:
    """From healthy images alone: (N, SIDE²) and (M, SIDE²) of `layouts_of`."""
    remembered = training[:: max(1, len(training) // LAYOUTS)][:LAYOUTS]
    farthest = float((1 - (validation @ remembered.T).amax(1)).amax())
    return ChestGate(remembered, MARGIN * farthest)


def layouts_of(images: Tensor) -> Tensor:
    """Mean gray of each cell, centred and of unit length: (B, 1, S, S) → (B, SIDE²) on the CPU."""
    cells = F.adaptive_avg_pool2d(images.float(), SIDE).flatten(1).cpu()
    centred = cells - cells.mean(1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-6)
