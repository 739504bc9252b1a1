"""A healthy cloud of vectors as one Gaussian, and how far from it a new vector lies."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

SMALLEST_SPREAD = 1e-6  # a dimension that never varies must not decide


class Gaussian:
    """Mean and whitening (D, D) float32 such that |(x − mean) · whitening|² is a distance."""

    def __init__(self, mean: Tensor, whitening: Tensor) -> None:
        self.mean = mean
        self.whitening = whitening

    @classmethod
    def fit(cls, vectors: Tensor) -> "Gaussian":
        """Fit to (N, D) with a covariance that is regularised as much as N and D ask for.

        Each dimension is scaled to a spread of one first, so that none counts for its units. Ledoit
        and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004).
        """
        # Late: fitting happens once a training, and a worker that only scores does without.
        from sklearn.covariance import ledoit_wolf

        values = vectors.cpu().numpy().astype(np.float64)
        mean, spread = values.mean(0), values.std(0) + SMALLEST_SPREAD
        covariance, _ = ledoit_wolf((values - mean) / spread, assume_centered=True)
        variances, directions = np.linalg.eigh(covariance)
        whitening = directions / np.sqrt(variances.clip(1e-6)) / spread[:, None]
        return cls(
            torch.from_numpy(mean.astype(np.float32)),
            torch.from_numpy(whitening.astype(np.float32)),
        )

    def log_distance(self, vectors: Tensor) -> Tensor:
        """Log of the squared Mahalanobis distance, by dimension: (N, D) → (N,)."""
        return (self.whiten(vectors).square().mean(1) + 1e-6).log()

    def whiten(self, vectors: Tensor) -> Tensor:
        """(N, D) → (N, D) on the CPU, of mean zero and spread one among healthy images."""
        return (vectors.float().cpu() - self.mean) @ self.whitening

    def to_content(self) -> dict[str, Any]:
        return {"mean": self.mean, "whitening": self.whitening}
