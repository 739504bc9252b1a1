"""Changes that leave a healthy chest healthy, drawn and applied to a whole batch at once."""

import torch
import torch.nn.functional as F
from torch import Tensor

ROTATION = 0.1  # radians, about 6 degrees
ZOOM = 0.1  # share of the side
ASPECT = 0.05  # share by which an axis is stretched or shrunk
SHIFT = 0.08  # of half the side
GAMMA = 0.25  # in log units: exponents from 0.78 to 1.28
DRAWS = 7  # random numbers an image


def augment(
    images: Tensor,
    generator: torch.Generator,
    batch: int | None = None,
    share: slice = slice(None),
) -> Tensor:
    """Move, turn, zoom, stretch and re-expose each image a little, on its own device.

    images: (B, 1, S, S) in [0, 1]; the same shape and range come back. Beyond the old border it
    goes on with the last pixels in one half of the images, and is black in the other, as scanners
    leave it. Images are not mirrored: the heart belongs on one side. Where they are only a share
    of a batch, as of several processes, its draws are those that they would get in the whole.
    """
    count, device = len(images), images.device
    drawn = torch.rand((DRAWS, batch or count), generator=generator, device=device) * 2 - 1
    draws = drawn[:, share]  # (DRAWS, B), -1..1
    angle, zoom, stretch = ROTATION * draws[0], 1 + ZOOM * draws[1], 1 + ASPECT * draws[2]
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    shift_x, shift_y = SHIFT * draws[3], SHIFT * draws[4]
    across, down = [cosine * stretch, -sine * stretch, shift_x], [sine, cosine, shift_y]
    grid = F.affine_grid(
        torch.stack([*across, *down], dim=1).view(count, 2, 3),
        list(images.shape),
        align_corners=False,
    )
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    beyond = (grid.abs().amax(-1) > 1).unsqueeze(1) & (draws[6] < 0).view(count, 1, 1, 1)
    exposed = moved.clamp(1e-4, 1.0).pow(torch.exp(GAMMA * draws[5]).view(count, 1, 1, 1))
    return exposed.masked_fill(beyond, 0.0)
