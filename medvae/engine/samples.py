"""The strip of validation images over their reconstructions that shows a model learning."""

from pathlib import Path

import torch
from torch import Tensor

from medvae.atomic import replacing

SAMPLES = 4


def draw_samples(images: Tensor, reconstructions: Tensor, path: Path) -> Path:
    """Write images (B, 1, S, S) in [0, 1] as a row above their reconstructions, as PNG."""
    from torchvision.utils import make_grid, save_image  # late: see calibration.smooth

    strip = make_grid(torch.cat([images, reconstructions.float()]), nrow=len(images), padding=1)
    with replacing(path) as partial:
        save_image(strip, partial, format="PNG")
    return path
