"""What healthy images look like to a trained network, learnt from the training normals alone.

The maps and Gaussians that scores are measured against. No validation image is used here, so
that their scores stay exchangeable with those of healthy images to come.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medvae.data.smoothing import smooth
from medvae.engine.evidence import vectors
from medvae.engine.gaussian import Gaussian
from medvae.model.vae import VAEOutput

SMOOTHING = 0.02  # standard deviation of the residual's blur, as a share of the image side
SPREAD_SMOOTHING = 0.05  # the same for the per-pixel spread, which few images estimate roughly
MIN_SPREAD = 0.01  # gray levels of 1: no pixel is so constant that noise becomes evidence
OUTSIDE = 0.3  # weight of a map where the chest field is zero


@dataclass(frozen=True)
class MapStatistics:
    """Mean and spread of a map over healthy images, (S', S') each."""

    mean: Tensor
    spread: Tensor

    def z(self, maps: Tensor) -> Tensor:
        """Signed z-scores of (B, 1, S', S') → (B, S', S')."""
        smoothed = smooth(maps, SMOOTHING).squeeze(1)
        return (smoothed - self.mean.to(maps.device)) / self.spread.to(maps.device)


class Share(NamedTuple):
    """Mean and spread of a score among healthy images, and its weight in `combined`."""

    mean: float
    spread: float
    weight: float


CommonScale = dict[str, Share]


@dataclass(frozen=True)
class Healthy:
    """The chest field (S, S), the residual's statistics, and a Gaussian a kind of evidence.

    `common_scale`: how each score that `combined` is made of counts in it; empty until calibration
    has measured that on healthy validation images.
    """

    field: Tensor
    residual: MapStatistics
    gaussians: dict[str, Gaussian]
    common_scale: CommonScale

    def z_map(self, residual: Tensor) -> Tensor:
        """Signed z-scores of (B, 1, S, S) → (B, S, S), attenuated outside the chest field."""
        return self.residual.z(residual) * (OUTSIDE + (1 - OUTSIDE) * self.field.to(residual))

    def with_scale(self, scale: CommonScale) -> "Healthy":
        return replace(self, common_scale=scale)

    def to_content(self) -> dict[str, Any]:
        """Plain values and tensors for the checkpoint."""
        return {
            "field": self.field,
            "residual": dict(self.residual.__dict__),
            "gaussians": {name: g.to_content() for name, g in self.gaussians.items()},
            "common_scale": {name: list(share) for name, share in self.common_scale.items()},
        }

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> "Healthy":
        return cls(
            content["field"],
            MapStatistics(**content["residual"]),
            {name: Gaussian(**values) for name, values in content["gaussians"].items()},
            {name: Share(*values) for name, values in content["common_scale"].items()},
        )


def learn_healthy(passes: Iterable[tuple[Tensor, VAEOutput]], field: Tensor) -> Healthy:
    """Collect the statistics of training batches: (images (B, 1, S, S), forward pass)."""
    residual = _Moments()
    collected: dict[str, list[Tensor]] = {}
    for images, output in passes:
        residual.add(smooth(images - output.reconstruction, SMOOTHING))
        for name, values in vectors(images, output, field).items():
            collected.setdefault(name, []).append(values.cpu())
    return Healthy(
        field.cpu(),
        residual.statistics(MIN_SPREAD),
        {name: Gaussian.fit(torch.cat(parts)) for name, parts in collected.items()},
        {},
    )


class _Moments:
    """Running sums of maps (B, 1, S', S')."""

    def __init__(self) -> None:
        self.count = 0
        self.total = torch.zeros(())
        self.squares = torch.zeros(())

    def add(self, maps: Tensor) -> None:
        maps = maps.squeeze(1).cpu()
        self.total = self.total + maps.sum(0)
        self.squares = self.squares + maps.square().sum(0)
        self.count += len(maps)

    def statistics(self, floor: float) -> MapStatistics:
        mean = self.total / self.count
        variance = (self.squares / self.count - mean.square()).clamp_min(0)
        spread = smooth(variance[None, None], SPREAD_SMOOTHING)[0, 0].sqrt()
        return MapStatistics(mean, spread.clamp_min(floor))
