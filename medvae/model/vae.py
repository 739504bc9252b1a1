"""The convolutional variational autoencoder: four strided convolutions down, four up.

Kingma and Welling, "Auto-Encoding Variational Bayes" (2013).
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medvae.config import ModelConfig

STAGES = 4  # each halves the side: 128 → 64 → 32 → 16 → 8
LOGVAR_RANGE = (-10.0, 10.0)  # keeps exp(logvar) finite in every number format


class VAEOutput(NamedTuple):
    reconstruction: Tensor  # (B, 1, S, S), 0..1
    mu: Tensor  # (B, Z)
    logvar: Tensor  # (B, Z)


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
        self.encoder = nn.Sequential(*(_down(a, b) for a, b in pairwise(channels)))
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
        features = self.encoder(images).flatten(1)  # (B, 8W · S/16 · S/16)
        return self.to_mu(features), self.to_logvar(features).clamp(*LOGVAR_RANGE)

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, 1, S, S) in 0..1 from latent vectors (B, Z)."""
        features = self.from_latent(z).unflatten(1, self.bottom)  # (B, 8W, S/16, S/16)
        images: Tensor = self.decoder(features)
        return images

    def forward(self, images: Tensor, noise: Tensor | None = None) -> VAEOutput:
        """Reconstruct through z = mu + exp(logvar / 2) · noise; without noise through mu.

        noise: (B, Z), standard normal.
        """
        mu, logvar = self.encode(images)
        z = mu if noise is None else reparameterise(mu, logvar, noise)
        return VAEOutput(self.decode(z), mu, logvar)


def reparameterise(mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """A draw from N(mu, exp(logvar)) that gradients pass through."""
    return mu + torch.exp(0.5 * logvar) * noise


def _down(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.2),
    )


def _up(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(
            channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=False
        ),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.2),
    )
