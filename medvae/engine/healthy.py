"""What healthy images look like to a trained network, learnt from the training normals alone.

The maps and Gaussians that scores are measured against. No validation image is used here, so
that the scores of single kinds of evidence stay exchangeable with those of healthy images to come.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from medvae.data.smoothing import smooth
from medvae.engine.evidence import vectors
from medvae.engine.gaussian import Gaussian
from medvae.model.vae import VAEOutput

FINE, COARSE = 0.01, 0.04  # standard deviations of a map's blur, as shares of the image side
SPREAD_SMOOTHING = 0.05  # the same for the per-pixel spread, which few images estimate roughly
MIN_SPREAD = 0.01  # gray levels of 1: no pixel is so constant that noise becomes evidence
OUTSIDE = 0.3  # weight of a map where the chest field is zero


@dataclass(frozen=True)
class MapStatistics:
    """Mean and spread (S', S') of a map over healthy images, smoothed by a share of its side."""

    smoothing: float
    mean: Tensor
    spread: Tensor

    def z(self, maps: Tensor) -> Tensor:
        """Signed z-scores of (B, 1, S', S') → (B, S', S')."""
        smoothed = smooth(maps, self.smoothing).squeeze(1)
        return (smoothed - self.mean.to(maps.device)) / self.spread.to(maps.device)


class Share(NamedTuple):
    """Mean and spread of a score among healthy images, and its weight in `combined`."""

    mean: float
    spread: float
    weight: float


CommonScale = dict[str, Share]


@dataclass(frozen=True)
class Healthy:
    """The chest field (S, S), the statistics of two maps, and a Gaussian a kind of evidence.

    `residual`: at each scale. `patch_map`: of the patch map's log odds; None where the network has
    no patch head. `common_scale`: how each score that `combined` is made of counts in it; empty
    until calibration has measured that on healthy validation images.
    """

    field: Tensor
    residual: tuple[MapStatistics, ...]
    patch_map: MapStatistics | None
    gaussians: dict[str, Gaussian]
    common_scale: CommonScale

    @property
    def weight(self) -> Tensor:
        """What a place counts in the anomaly map: (S, S), 1 inside the chest, less outside."""
        return OUTSIDE + (1 - OUTSIDE) * self.field

    def residual_z(self, residual: Tensor) -> Tensor:
        """Signed z-scores of (B, 1, S, S) → (B, S, S), at each place of the scale that says most.

        A faint shadow only stands out in a wide mean, a small spot only in a narrow one. Lindeberg,
        "Feature Detection with Automatic Scale Selection" (1998).
        """
        strongest, *others = (statistics.z(residual) for statistics in self.residual)
        for z in others:
            strongest = torch.where(z.abs() > strongest.abs(), z, strongest)
        return strongest

    def z_map(self, residual_z: Tensor, patch_logits: Tensor | None) -> Tensor:
        """Signed z-scores of the residual (B, S, S) → of all that is seen, not weighted by place.

        The length of two of them taken at right angles: of the residual, which lends the sum its
        sign, and of the patch map where that stands above what healthy images show.
        """
        if self.patch_map is None or patch_logits is None:
            return residual_z
        odds = self.patch_map.z(patch_logits).clamp_min(0).unsqueeze(1)
        patch_z = F.interpolate(odds, size=residual_z.shape[-1], mode="bilinear").squeeze(1)
        return residual_z.sign() * (residual_z.square() + patch_z.square()).sqrt()

    def with_scale(self, scale: CommonScale) -> "Healthy":
        return replace(self, common_scale=scale)

    def to_content(self) -> dict[str, Any]:
        """Plain values and tensors for the checkpoint."""
        return {
            "field": self.field,
            "residual": [dict(statistics.__dict__) for statistics in self.residual],
            "patch_map": dict(self.patch_map.__dict__) if self.patch_map else None,
            "gaussians": {name: g.to_content() for name, g in self.gaussians.items()},
            "common_scale": {name: list(share) for name, share in self.common_scale.items()},
        }

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> "Healthy":
        residual, patch_map = content["residual"], content.get("patch_map")
        if isinstance(residual, dict):  # of an older version: one scale, and no patch map
            residual = [{"smoothing": 0.02, **residual}]
        return cls(
            content["field"],
            tuple(MapStatistics(**statistics) for statistics in residual),
            MapStatistics(**patch_map) if patch_map else None,
            {name: Gaussian(**values) for name, values in content["gaussians"].items()},
            {name: Share(*values) for name, values in content["common_scale"].items()},
        )


def learn_healthy(passes: Iterable[tuple[Tensor, VAEOutput]], field: Tensor) -> Healthy:
    """Collect the statistics of training batches: (images (B, 1, S, S), forward pass)."""
    residual, patch_map = (_Moments(FINE), _Moments(COARSE)), _Moments(FINE)
    collected: dict[str, list[Tensor]] = {}
    for images, output in passes:
        for scale in residual:
            scale.add(images - output.reconstruction)
        if output.patch_logits is not None:
            patch_map.add(output.patch_logits)
        for name, values in vectors(images, output, field).items():
            collected.setdefault(name, []).append(values.cpu())
    return Healthy(
        field.cpu(),
        tuple(scale.statistics(MIN_SPREAD) for scale in residual),
        patch_map.statistics(MIN_SPREAD) if patch_map.count else None,
        {name: Gaussian.fit(torch.cat(parts)) for name, parts in collected.items()},
        {},
    )


class _Moments:
    """Running sums of smoothed maps (B, 1, S', S')."""

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing
        self.count = 0
        self.total = torch.zeros(())
        self.squares = torch.zeros(())

    def add(self, maps: Tensor) -> None:
        maps = smooth(maps, self.smoothing).squeeze(1).cpu()
        self.total = self.total + maps.sum(0)
        self.squares = self.squares + maps.square().sum(0)
        self.count += len(maps)

    def statistics(self, floor: float) -> MapStatistics:
        mean = self.total / self.count
        variance = (self.squares / self.count - mean.square()).clamp_min(0)
        spread = smooth(variance[None, None], SPREAD_SMOOTHING)[0, 0].sqrt()
        return MapStatistics(self.smoothing, mean, spread.clamp_min(floor))
