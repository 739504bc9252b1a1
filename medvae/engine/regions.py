"""The places of an anomaly map that stand out from what healthy pixels show."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

SMALLEST = 0.001  # share of the image; anything smaller is a speck


@dataclass(frozen=True)
class Region:
    """Connected pixels above the healthy per-pixel threshold, all brighter or all darker."""

    mask: np.ndarray  # (S, S) bool
    area: float  # share of the image, 0..1
    mean_z: float  # signed: positive where brighter than healthy
    peak: tuple[int, int]  # row and column of the strongest pixel


def find_regions(anomaly_map: np.ndarray, pixel_threshold: float) -> list[Region]:
    """Regions of a signed z-map (S, S) beyond ± `pixel_threshold`, the strongest sum of |z| first.

    Specks below 0.1 % of the image are left out.
    """
    found = []
    for sign in (1.0, -1.0):
        numbered, count = label(sign * anomaly_map > pixel_threshold)
        for number in range(1, count + 1):
            mask = numbered == number
            if mask.mean() < SMALLEST:
                continue
            inside = np.where(mask, np.abs(anomaly_map), 0)
            row, column = np.unravel_index(int(inside.argmax()), inside.shape)
            mean = float(anomaly_map[mask].mean())
            found.append(Region(mask, float(mask.mean()), mean, (int(row), int(column))))
    return sorted(found, key=lambda region: -region.area * abs(region.mean_z))
