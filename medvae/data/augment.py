"""Changes that leave a healthy chest healthy, drawn and applied to a whole batch at once."""

import torch
import torch.nn.functional as F
from torch import Tensor

ROTATION = 0.07  # radians, about 4 degrees
ZOOM = 0.06  # share of the side
SHIFT = 0.06  # of half the side
GAMMA = 0.25  # in log units: exponents from 0.78 to 1.28


def augment(
    images: Tensor,
    generator: torch.Generator,
    batch: int | None = None,
    share: slice = slice(None),
) -> Tensor:
    """Move, turn, zoom and re-expose each image a little, on its own device.

    images: (B, 1, S, S) in [0, 1]; the same shape and range come back. Images are not
    mirrored: the heart belongs on one side. Where they are only a share of a batch, as of
    several processes, its draws are those that they would get as part of the whole.
    """
    count, device = len(images), images.device
    drawn = torch.rand((5, batch or count), generator=generator, device=device) * 2 - 1  # -1..1
    draws = drawn[:, share]  # (5, B)
    angle, zoom = ROTATION * draws[0], 1 + ZOOM * draws[1]
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    shift_x, shift_y = SHIFT * draws[2], SHIFT * draws[3]
    rows = torch.stack([cosine, -sine, shift_x, sine, cosine, shift_y], dim=1)
    grid = F.affine_grid(rows.view(count, 2, 3), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved.clamp(1e-4, 1.0).pow(torch.exp(GAMMA * draws[4]).view(count, 1, 1, 1))
