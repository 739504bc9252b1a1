"""What healthy looks like in numbers, learnt from healthy validation images alone.

Turns a score into a p-value and a verdict, and a difference image into z-scores.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SMOOTHING = 0.02  # standard deviation of the residual's blur, as a share of the image side
SPREAD_SMOOTHING = 0.05  # the same for the per-pixel spread, which few images estimate roughly
MIN_SPREAD = 0.01  # gray levels of 1: no pixel is so constant that noise becomes evidence
PIXEL_QUANTILE = 0.99  # share of healthy pixels below the threshold for a marked region


@dataclass(frozen=True)
class Calibration:
    """Healthy distributions. scores: name → (N,) ascending; residual maps: (S, S), float32."""

    scores: dict[str, Tensor]
    residual_mean: Tensor
    residual_spread: Tensor
    pixel_threshold: float

    def p_value(self, score: str, value: float) -> float:
        """Chance that a healthy image scores at least this high, by split conformal prediction.

        (1 + number of validation images at or above) / (N + 1): valid in finite samples for
        any model, as long as healthy images to come are exchangeable with the validation
        images (Vovk et al., "Algorithmic Learning in a Random World", 2005).
        """
        healthy = self.scores[score]
        return (1 + int((healthy >= value).sum())) / (len(healthy) + 1)

    def threshold(self, score: str, target_fpr: float) -> float:
        """The score above which p ≤ target_fpr; infinite when N is too small for that target."""
        healthy = self.scores[score]
        allowed = math.floor(target_fpr * (len(healthy) + 1) + 1e-9)
        return float(healthy[-allowed]) if allowed else math.inf

    def z_map(self, residual: Tensor) -> Tensor:
        """Signed z-scores of smoothed residuals (B, 1, S, S) → (B, S, S).

        Positive where the image is brighter than its healthy counterpart, in units of the
        spread that healthy images show at that pixel.
        """
        mean = self.residual_mean.to(residual.device)
        spread = self.residual_spread.to(residual.device)
        return (smooth(residual, SMOOTHING).squeeze(1) - mean) / spread

    def to_content(self) -> dict[str, Any]:
        """Plain values and tensors for the checkpoint."""
        return dict(self.__dict__)

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> "Calibration":
        return cls(**content)


def calibrate(
    batches: Callable[[], Iterable[tuple[dict[str, Tensor], Tensor]]],
) -> Calibration:
    """Collect healthy statistics over validation batches of (scores, residual (B, 1, S, S)).

    `batches` is called twice: spreads first, then the quantile of the z-scores they give.
    """
    collected: dict[str, list[Tensor]] = {}
    total = torch.zeros(())
    squares = torch.zeros(())
    count = 0
    for scores, residual in batches():
        for name, values in scores.items():
            collected.setdefault(name, []).append(values.cpu())
        smoothed = smooth(residual, SMOOTHING).squeeze(1).cpu()
        total = total + smoothed.sum(0)
        squares = squares + smoothed.square().sum(0)
        count += len(smoothed)
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0)
    spread = smooth(variance[None, None], SPREAD_SMOOTHING)[0, 0].sqrt().clamp_min(MIN_SPREAD)
    ordered = {name: torch.cat(values).sort().values for name, values in collected.items()}
    draft = Calibration(ordered, mean, spread, pixel_threshold=math.inf)
    z = torch.cat([draft.z_map(residual).abs().cpu().flatten() for _, residual in batches()])
    rank = max(1, math.ceil(PIXEL_QUANTILE * z.numel()))
    return Calibration(ordered, mean, spread, float(z.kthvalue(rank).values))


def smooth(images: Tensor, share: float) -> Tensor:
    """Gaussian blur of (B, 1, S, S) with a standard deviation of `share` of the side."""
    # Late, because torchvision brings 160 MB along that a worker which only scores does without.
    from torchvision.transforms.v2.functional import gaussian_blur

    sigma = share * images.shape[-1]
    radius = max(1, math.ceil(3 * sigma))
    return gaussian_blur(images.float(), 2 * radius + 1, sigma)
