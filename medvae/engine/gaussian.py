"""A healthy cloud of vectors as one Gaussian, and how far from it a new vector lies."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


class Gaussian:
    """Mean and whitening (D, D) float32 such that |(x − mean) · whitening|² is a distance."""

    def __init__(self, mean: Tensor, whitening: Tensor) -> None:
        self.mean = mean
        self.whitening = whitening

    @classmethod
    def fit(cls, vectors: Tensor, shrinkage: float) -> "Gaussian":
        """Fit to (N, D); the covariance is mixed with `shrinkage` of its mean variance.

        Ledoit and Wolf, "A well-conditioned estimator" (2004), with a fixed share.
        """
        values = vectors.double().cpu().numpy()
        covariance = np.atleast_2d(np.cov(values.T))
        variances, directions = np.linalg.eigh(covariance)
        variances = (1 - shrinkage) * variances.clip(0) + shrinkage * variances.mean() + 1e-12
        whitening = directions / np.sqrt(variances)
        return cls(torch.from_numpy(values.mean(0)).float(), torch.from_numpy(whitening).float())

    def log_distance(self, vectors: Tensor) -> Tensor:
        """Log of the squared Mahalanobis distance, by dimension: (N, D) → (N,)."""
        white = (vectors.float().cpu() - self.mean) @ self.whitening
        return (white.square().mean(1) + 1e-6).log()

    def to_content(self) -> dict[str, Any]:
        return {"mean": self.mean, "whitening": self.whitening}
