"""What a healthy score is, learnt from healthy validation images alone.

Turns a score into a p-value and a verdict, and a difference image into z-scores.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medvae.engine.chest_gate import ChestGate, layouts_of, learn_gate
from medvae.engine.healthy import Healthy
from medvae.engine.scores import DEFAULT_SCORE, View, combine, common_scale, measure

PIXEL_QUANTILE = 0.99  # share of healthy pixels below the threshold for a marked region


@dataclass(frozen=True)
class Calibration:
    """Healthy distributions. scores: name → (N,) ascending, over the validation images."""

    scores: dict[str, Tensor]
    healthy: Healthy
    pixel_threshold: float
    gate: ChestGate

    def p_value(self, score: str, value: float) -> float:
        """Chance that a healthy image scores at least this high, by split conformal prediction.

        (1 + number of validation images at or above) / (N + 1): valid in finite samples for
        any model, as long as healthy images to come are exchangeable with the validation
        images (Vovk et al., "Algorithmic Learning in a Random World", 2005). For `combined` that
        holds nearly, since the same images set its common scale: see benchmarks/threshold.py.
        """
        healthy = self.scores[score]
        return (1 + int((healthy >= value).sum())) / (len(healthy) + 1)

    def threshold(self, score: str, target_fpr: float) -> float:
        """The score above which p ≤ target_fpr; infinite when N is too small for that target."""
        healthy = self.scores[score]
        allowed = math.floor(target_fpr * (len(healthy) + 1) + 1e-9)
        return float(healthy[-allowed]) if allowed else math.inf

    def to_content(self) -> dict[str, Any]:
        """Plain values and tensors for the checkpoint."""
        return {
            **self.__dict__,
            "healthy": self.healthy.to_content(),
            "gate": dict(self.gate.__dict__),
        }

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> "Calibration":
        healthy, gate = Healthy.from_content(content["healthy"]), ChestGate(**content["gate"])
        return cls(**{**content, "healthy": healthy, "gate": gate})


def calibrate(views: Iterable[View], healthy: Healthy, layouts: Tensor) -> Calibration:
    """Distributions of the scores over validation views, and the common scale of evidence.

    layouts: of the training images, see chest_gate.py. Of the validation images only the mean,
    spread and weight of each kind of evidence flow back into a score.
    """
    collected: dict[str, list[Tensor]] = {}
    extremes, own_layouts = [], []
    for view in views:
        for name, values in measure(view).items():
            collected.setdefault(name, []).append(values)
        extremes.append(view.anomaly_map.abs().cpu().flatten())
        own_layouts.append(layouts_of(view.images))
    scores = {name: torch.cat(values) for name, values in collected.items()}
    scale = common_scale(scores)
    scores[DEFAULT_SCORE] = combine(scores, scale)
    pixels = torch.cat(extremes)
    rank = max(1, math.ceil(PIXEL_QUANTILE * pixels.numel()))
    ordered = {name: values.sort().values for name, values in scores.items()}
    return Calibration(
        ordered,
        healthy.with_scale(scale),
        float(pixels.kthvalue(rank).values),
        learn_gate(layouts, torch.cat(own_layouts)),
    )
