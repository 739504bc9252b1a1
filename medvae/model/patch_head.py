"""The second head: from the encoder's feature maps to a map of where something does not belong."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 32  # channels of the joint feature map


class PatchHead(nn.Module):
    """Adds the encoder's maps, coarse to fine, and reads log odds off the sum.

    Lin et al., "Feature Pyramid Networks" (2017), with one output at the finest map.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        """channels: of each map, fine to coarse."""
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, FEATURES, kernel_size=1) for c in channels)
        self.mix = nn.Sequential(
            nn.Conv2d(FEATURES, FEATURES, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(FEATURES),
            nn.LeakyReLU(0.2),
        )
        self.to_logits = nn.Conv2d(FEATURES, 1, kernel_size=3, padding=1)
        assert self.to_logits.bias is not None
        nn.init.constant_(self.to_logits.bias, -3.0)  # most places are untouched

    def forward(self, stages: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps (B, C_i, S_i, S_i), fine to coarse → logits (B, 1, S_0, S_0), features."""
        joint = self.lateral[-1](stages[-1])
        for lateral, stage in zip(self.lateral[-2::-1], stages[-2::-1], strict=True):
            joint = F.interpolate(joint, scale_factor=2.0, mode="bilinear") + lateral(stage)
        features: Tensor = self.mix(joint)  # (B, F, S_0, S_0)
        return self.to_logits(features), features
