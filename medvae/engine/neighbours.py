"""The healthy training images most like a given one, as context for a detection."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medvae.engine.detector import AnomalyDetector


class Neighbour(NamedTuple):
    row: int  # of the training image
    distance: float  # in latent space, in units of how much healthy images differ


class HealthyNeighbours:
    """Nearest neighbours in the latent space, each direction scaled by its healthy spread."""

    def __init__(self, detector: AnomalyDetector, training: np.ndarray) -> None:
        """training: (N, S, S) uint8 healthy images, as in the cache."""
        self._detector = detector
        self._codes = self._codes_of(training)  # (N, Z)

    def find(self, pixels: np.ndarray, count: int = 3) -> list[list[Neighbour]]:
        """The `count` nearest of each of (M, S, S) uint8 images, the nearest first."""
        distances = torch.cdist(self._codes_of(pixels), self._codes)  # (M, N)
        nearest = distances.topk(min(count, len(self._codes)), largest=False)
        return [
            [Neighbour(int(i), float(d)) for d, i in zip(row, indices, strict=True)]
            for row, indices in zip(nearest.values, nearest.indices, strict=True)
        ]

    def _codes_of(self, pixels: np.ndarray) -> Tensor:
        latent = self._detector.calibration.healthy.gaussians["latent"]
        return latent.whiten(self._detector.codes(pixels)) / latent.mean.numel() ** 0.5
