"""Where the lungs and the mediastinum usually are: a soft map learnt from healthy images alone.

No label, no drawn mask: in the mean of many frontal chest images the lungs are what stays darker
than its surroundings and does not touch the border.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from medvae.data.smoothing import smooth

NEAR, FAR = 0.025, 0.16  # blurs whose difference is "darker than its surroundings", of the side
CLOSING = 0.09  # blur that joins both lungs over the mediastinum
FLOOR = 0.35  # share of the strongest darkness from which on a place counts as lung
EDGE = 0.12  # share of the side along which the border fades out


def mean_image(batches: Iterable[Tensor]) -> Tensor:
    """Mean (S, S) on the CPU of batches (B, 1, S, S)."""
    total, count = torch.zeros(()), 0
    for images in batches:
        total = total + images.sum(dim=(0, 1)).cpu()
        count += len(images)
    return total / count


def learn_chest_field(mean_image: Tensor) -> Tensor:
    """Soft field in 0..1, (S, S), from the mean training image (S, S) in [0, 1].

    1 inside lungs and mediastinum, falling to 0 outside the chest. Where the mean image shows
    no dark pair of lungs (no aligned frontal chests), the field falls back to the centre.
    """
    image = mean_image.float()[None, None]
    side = image.shape[-1]
    darkness = (smooth(image, FAR) - smooth(image, NEAR)).clamp_min(0)
    window = _window(side).to(image)
    lungs = darkness * window
    peak = lungs.amax()
    if float(peak) < 0.02:
        return window[0, 0]
    lungs = ((lungs / peak - FLOOR * 0.5) / FLOOR).clamp(0, 1)
    joined = smooth(lungs, CLOSING)
    return ((joined / joined.amax()) * 3.5).clamp(0, 1)[0, 0]


def _window(side: int) -> Tensor:
    """Product of two smooth steps that is 1 in the middle and 0 along the border: (1, 1, S, S)."""
    place = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    rise = (torch.minimum(place, 1 - place) / EDGE - 0.25).clamp(0, 1)
    return (rise[:, None] * rise[None, :])[None, None]
