"""The convolutional variational autoencoder: four strided convolutions down, four up.

Kingma and Welling, "Auto-Encoding Variational Bayes" (2013).
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medvae.config import ModelConfig
from medvae.model.patch_head import PatchHead

STAGES = 4  # each halves the side: 128 → 64 → 32 → 16 → 8
LOGVAR_RANGE = (-10.0, 10.0)  # keeps exp(logvar) finite in every number format


class VAEOutput(NamedTuple):
    reconstruction: Tensor  # (B, 1, S, S), 0..1
    mu: Tensor  # (B, Z)
    logvar: Tensor  # (B, Z)
    patch_logits: Tensor | None = None  # (B, 1, S/4, S/4): log odds that a patch begins here
    features: Tensor | None = None  # (B, C, S/4, S/4): what these were computed from
    stages: tuple[Tensor, ...] = ()  # the encoder's maps at S/4, S/8 and S/16


class VAE(nn.Module):
    """Encoder to a Gaussian over z, and decoder from z to an image.

    Input (B, 1, S, S) in [0, 1] with S = `config.image_size`; output of the same shape and
    range.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = [1, *(config.width * 2**stage for stage in range(STAGES))]
        side = config.image_size // 2**STAGES
        self.bottom = (channels[-1], side, side)
        features = channels[-1] * side * side
        refined = [False, *[config.refine] * (STAGES - 1)]  # at S/2 a refinement would cost most
        self.encoder = nn.Sequential(
            *(_down(a, b, r) for (a, b), r in zip(pairwise(channels), refined, strict=True))
        )
        self.patch_head = PatchHead(channels[2:]) if config.patch_head else None
        self.to_mu = nn.Linear(features, config.latent_size)
        self.to_logvar = nn.Linear(features, config.latent_size)
        self.from_latent = nn.Linear(config.latent_size, features)
        up = channels[:0:-1]
        self.decoder = nn.Sequential(
            *(_up(a, b) for a, b in pairwise(up)),
            nn.ConvTranspose2d(up[-1], 1, kernel_size=4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x), each (B, Z)."""
        return self._to_gaussian(self.encoder(images))

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, 1, S, S) in 0..1 from latent vectors (B, Z)."""
        features = self.from_latent(z).unflatten(1, self.bottom)  # (B, 8W, S/16, S/16)
        images: Tensor = self.decoder(features)
        return images

    def forward(self, images: Tensor, noise: Tensor | None = None) -> VAEOutput:
        """Reconstruct through z = mu + exp(logvar / 2) · noise; without noise through mu.

        noise: (B, Z), standard normal.
        """
        stages = self._stages(images)
        mu, logvar = self._to_gaussian(stages[-1])
        z = mu if noise is None else reparameterise(mu, logvar, noise)
        logits, features = self.patch_head(stages[1:]) if self.patch_head else (None, None)
        return VAEOutput(self.decode(z), mu, logvar, logits, features, tuple(stages[1:]))

    def _stages(self, images: Tensor) -> list[Tensor]:
        """Feature maps at S/2, S/4, S/8 and S/16."""
        stages = []
        for stage in self.encoder:
            images = stage(images)
            stages.append(images)
        return stages

    def _to_gaussian(self, bottom: Tensor) -> tuple[Tensor, Tensor]:
        features = bottom.flatten(1)  # (B, 8W · S/16 · S/16)
        return self.to_mu(features), self.to_logvar(features).clamp(*LOGVAR_RANGE)


def reparameterise(mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """A draw from N(mu, exp(logvar)) that gradients pass through."""
    return mu + torch.exp(0.5 * logvar) * noise


def _down(channels_in: int, channels_out: int, refine: bool) -> nn.Sequential:
    strided = nn.Conv2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=False)
    stage = nn.Sequential(strided, nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.2, inplace=True))
    if refine:
        stage.extend(
            [
                nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        )
    return stage


def _up(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(
            channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=False
        ),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.2, inplace=True),
    )
